"""`make bench-heavy-user`: how long others wait for a live text while one person has a million events.

One segment-engine, Kafka and Postgres on this machine. Others do something 200 times a second, which two campaigns
listen to, one of them with a filter on past behaviour. Told is the time from the publishing of an event to its
qualified user in the topic, apart for the two campaigns: alone, while the last tenth of one person's million events
streams in, and with all of them stored while that person sets the campaigns off as well.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
from aiokafka import TopicPartition

from benchmarks.engine import Bench, bench, durability
from postrider.contracts import codec
from postrider.contracts.definitions import CampaignDefinition, References, Trigger, What, When, Who
from postrider.contracts.qualified import QualifiedUser
from postrider.contracts.topics import QUALIFIED_USERS, USER_EVENTS
from postrider.kafka.clients import make_consumer, stop_quietly
from postrider.kafka.log_ends import LogEnds
from postrider.local.parts import print_line as say
from tests.support.parts import session_parts

EVENTS = int(os.environ.get("BENCH_HEAVY_EVENTS", "1000000"))
STREAMED = EVENTS // 10
STREAMED_A_SECOND = 3_000
"""Far below what the engine can take: records of a partition are read in their order, so above that all who share the
person's partition wait in one line. The rest is published and stored before anything is measured with it."""
OTHERS = 5_000
OTHERS_A_SECOND = 200
OF_THE_ONE_A_SECOND = 20
SECONDS = 20.0
TICK_SECONDS = 0.05
DRAIN_SECONDS = 30.0
PATIENCE_SECONDS = 240.0
ONE = "the-one"
PLAIN, FILTERED = "cmp_plain", "cmp_filtered"
BROWSED_TWICE = {"did": {"event": "Browsed", "count": {"op": "gte", "value": 2}}}


def campaign(id: str, filter: dict[str, Any] | None) -> CampaignDefinition:
    return CampaignDefinition(
        id, 1, "running", "live_action", "Bench", "transactional", When(send_by_seconds=3600),
        Who(trigger=Trigger("Bought"), filter=filter), 1, {"1": What("Hi", References(["first_name"], ["amount"]))},
        datetime.now(UTC) - timedelta(minutes=1),
    )  # fmt: skip


def track(user: str, name: str, event: str) -> dict[str, Any]:
    at = datetime.now(UTC).isoformat()
    properties = {"amount": 5, "page": "start"}
    return {
        "type": "track",
        "messageId": name,
        "userId": user,
        "event": event,
        "timestamp": at,
        "properties": properties,
    }


def people() -> Iterator[dict[str, Any]]:
    for number, user in enumerate([ONE, *(f"u-{number}" for number in range(OTHERS))]):
        traits = {"phone": f"+1202{5550000 + number}", "first_name": "Ann"}
        yield {"type": "identify", "messageId": f"i-{user}", "userId": user, "traits": traits}
        for each in range(3):
            yield track(user, f"h-{user}-{each}", "Browsed")


class Others:
    """What others do, and how long each text of theirs took, by campaign."""

    def __init__(self, stage: Bench) -> None:
        self._stage = stage
        self._began: dict[str, float] = {}
        self._took: dict[str, list[float]] = {PLAIN: [], FILTERED: []}
        self._turn = 0
        self._random = random.Random(5)

    async def act(self, going_on: Callable[[], bool], of_the_one: int = 0) -> None:
        """So many events a second while it goes on; `of_the_one`: as many more of the person with a million."""
        due = time.monotonic()
        while going_on():
            self._turn += 1
            names = [f"b-{self._turn}-{n}" for n in range(int(OTHERS_A_SECOND * TICK_SECONDS))]
            messages = [track(f"u-{self._random.randrange(OTHERS)}", name, "Bought") for name in names]
            messages += [track(ONE, f"o-{self._turn}-{n}", "Bought") for n in range(int(of_the_one * TICK_SECONDS))]
            self._began.update(dict.fromkeys(names, time.monotonic()))
            await self._stage.publish(messages)
            due += TICK_SECONDS
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    def arrived(self, user: QualifiedUser, at: float) -> None:
        began = self._began.get(user.occurrence)
        if began is not None:
            self._took[user.campaign_id].append(at - began)

    async def told(self) -> dict[str, tuple[float, float]]:
        """p50 and p99 in milliseconds of what was done since it was told last, by campaign."""
        async with asyncio.timeout(DRAIN_SECONDS):
            while min(map(len, self._took.values())) < len(self._began):  # noqa: ASYNC110  # a consumer counts
                await asyncio.sleep(0.05)
        found = {}
        for id, took in self._took.items():
            took.sort()
            found[id] = took[len(took) // 2] * 1000, took[int(len(took) * 0.99)] * 1000
            took.clear()
        self._began.clear()
        return found


@asynccontextmanager
async def watched(stage: Bench, others: Others) -> AsyncIterator[None]:
    topic = QUALIFIED_USERS.full_name(stage.config.topic_prefix)
    consumer = make_consumer(stage.config, None)
    await consumer.start()
    partitions = [TopicPartition(topic, number) for number in range(QUALIFIED_USERS.partitions)]
    consumer.assign(partitions)
    await consumer.seek_to_beginning(*partitions)

    async def watch() -> None:
        while True:
            polled = await consumer.getmany(timeout_ms=200)
            at = time.monotonic()
            for records in polled.values():
                for record in records:
                    others.arrived(codec.decode(record.value, QualifiedUser), at)

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await stop_quietly(consumer.stop(), "bench")


async def stream(stage: Bench) -> None:
    due, sent = time.monotonic(), EVENTS - STREAMED
    while sent < EVENTS:
        count = min(int(STREAMED_A_SECOND * TICK_SECONDS), EVENTS - sent)
        await stage.publish([track(ONE, f"m-{sent + n}", "Browsed") for n in range(count)])
        sent += count
        due += TICK_SECONDS
        await asyncio.sleep(max(0.0, due - time.monotonic()))


async def log_end(stage: Bench) -> int:
    """Records of user-events so far."""
    log = LogEnds(stage.config, [USER_EVENTS])
    try:
        return sum((await log.fetch()).values())
    finally:
        await log.close()


def for_seconds(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() < end


def say_told(title: str, told: dict[str, tuple[float, float]], alone: dict[str, tuple[float, float]]) -> None:
    for id, (p50, p99) in told.items():
        name = "with a filter on the past" if id == FILTERED else "without"
        say(f"{title}, {name}: p50 {p50:.0f} ms, p99 {p99:.0f} ms, {p99 / alone[id][1]:.2f} × the p99 alone")


async def main() -> int:
    async with session_parts() as parts, bench(parts) as stage:
        say(f"Postgres: {await durability(stage.owner_url)}; {os.cpu_count()} cores for everything")
        await stage.define([campaign(PLAIN, None), campaign(FILTERED, BROWSED_TWICE)])
        await stage.publish(people())
        connection = await asyncpg.connect(stage.owner_url)
        others = Others(stage)
        try:
            async with stage.engine(), watched(stage, others):
                await stage.until(connection, 4 * (OTHERS + 1), PATIENCE_SECONDS)
                await others.act(for_seconds(5.0))  # everything has been used once
                await others.told()
                await others.act(for_seconds(SECONDS))
                alone = await others.told()
                say_told("alone", alone, alone)
                await stage.publish(track(ONE, f"m-{number}", "Browsed") for number in range(EVENTS - STREAMED))
                await stage.until(connection, await log_end(stage), PATIENCE_SECONDS)
                streaming = asyncio.create_task(stream(stage))
                await others.act(lambda: not streaming.done())
                await streaming
                say_told(f"while {STREAMED:,} of {EVENTS:,} events of one person stream in", await others.told(), alone)
                await others.act(for_seconds(SECONDS), OF_THE_ONE_A_SECOND)
                say_told("with these stored, and the person active", await others.told(), alone)
        finally:
            await connection.close()
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
