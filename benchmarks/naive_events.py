"""What a straightforward consumer does with the same events, to compare with: one at a time, in a transaction each.

aiokafka's iterator, `json`, campaigns tried one after the other, an INSERT that knows repeats, an INSERT of the event,
a commit, a publish that is waited for. No more is promised than that nothing is lost.
"""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import Any, TypeAlias

import asyncpg
from aiokafka import TopicPartition

from benchmarks.engine import Bench
from postrider.contracts.definitions import CampaignDefinition
from postrider.contracts.envelope import Outgoing
from postrider.contracts.topics import QUALIFIED_USERS, USER_EVENTS
from postrider.kafka.clients import make_consumer, stop_quietly
from postrider.rules import Matcher, compile_where, parse_where

Tests: TypeAlias = list[tuple[str, Matcher]]

TABLES = """
CREATE SCHEMA naive;
CREATE TABLE naive.events (
    message_id text PRIMARY KEY, user_id text NOT NULL, event text NOT NULL, at timestamptz NOT NULL, properties jsonb
);
CREATE INDEX ON naive.events (user_id, event, at);
CREATE TABLE naive.progress (partition int PRIMARY KEY, next_offset bigint NOT NULL);
"""
INSERT = """
INSERT INTO naive.events VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING RETURNING 1
"""
ADVANCE = """
INSERT INTO naive.progress VALUES ($1, $2) ON CONFLICT (partition) DO UPDATE SET next_offset = EXCLUDED.next_offset
"""


async def rate(
    stage: Bench, connection: asyncpg.Connection, campaigns: list[CampaignDefinition], seconds: float
) -> float:
    """Events a second over so many seconds, from the topic's beginning; people are passed over, and not counted."""
    await connection.execute(TABLES)
    triggers = [each.who.trigger for each in campaigns if each.who.trigger is not None]
    tests = [(trigger.event, compile_where(parse_where(trigger.where), "UTC")) for trigger in triggers]
    topic = USER_EVENTS.full_name(stage.config.topic_prefix)
    consumer = make_consumer(stage.config, None)
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for number in range(USER_EVENTS.partitions)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        done, began = 0, time.monotonic()
        async for record in consumer:
            message = json.loads(record.value)
            if message["type"] != "track":
                began = began if done else time.monotonic()
                continue
            await _apply(stage, connection, record, message, tests)
            done += 1
            if time.monotonic() - began >= seconds:
                break
        return done / (time.monotonic() - began)
    finally:
        await stop_quietly(consumer.stop(), "naive")


async def _apply(stage: Bench, connection: asyncpg.Connection, record: Any, message: Any, tests: Tests) -> None:
    topic = QUALIFIED_USERS.full_name(stage.config.topic_prefix)
    at = datetime.fromisoformat(message["timestamp"])
    name, values = message["event"], message["properties"]
    async with connection.transaction():
        is_new = await connection.fetchval(
            INSERT, message["messageId"], message["userId"], name, at, json.dumps(values)
        )  # fmt: skip
        await connection.execute(ADVANCE, record.partition, record.offset + 1)
    if is_new:
        for event, matches in tests:
            if event == name and matches(values):
                await stage.publisher.publish([Outgoing(topic, record.key, record.value)])
