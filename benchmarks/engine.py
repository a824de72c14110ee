"""One segment-engine in a process of its own, beside Kafka and Postgres, for benchmarks of the event path."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

from postrider.clock import SystemClock
from postrider.contracts.definitions import CAMPAIGN_TYPE, CampaignDefinition
from postrider.contracts.envelope import Outgoing, headers_of
from postrider.contracts.topics import CAMPAIGN_DEFINITIONS, USER_EVENTS
from postrider.kafka.clients import KafkaConfig
from postrider.kafka.publisher import Publisher
from postrider.kafka.topics import create_topics
from postrider.local.parts import Parts
from postrider.local.postgres import EmbeddedPostgres
from postrider.postgres.migrate import migrate
from tests.support.parts import create_database, drop_database, topic_prefix

GROUPS = ("segment-engine-live", "segment-engine-history")
PUBLISHED_AT_ONCE = 10_000
LOOK_SECONDS = 0.05
LOCAL = Path(".local")
"""Made by `session_parts`."""
DURABILITY = ("fsync", "synchronous_commit", "full_page_writes")


@dataclass
class Bench:
    """Topics and a database of one measurement."""

    config: KafkaConfig
    owner_url: str
    publisher: Publisher
    process: asyncio.subprocess.Process | None = None

    async def publish(self, messages: Iterable[dict[str, Any]]) -> None:
        topic = USER_EVENTS.full_name(self.config.topic_prefix)
        records: list[Outgoing] = []
        for message in messages:
            records.append(Outgoing(topic, message["userId"].encode(), msgspec.json.encode(message)))
            if len(records) == PUBLISHED_AT_ONCE:
                await self.publisher.publish(records)
                records = []
        await self.publisher.publish(records)

    async def define(self, campaigns: Sequence[CampaignDefinition]) -> None:
        topic = CAMPAIGN_DEFINITIONS.full_name(self.config.topic_prefix)
        headers = headers_of("bench", CAMPAIGN_TYPE, "bench", SystemClock().now())
        await self.publisher.publish(
            [Outgoing(topic, c.campaign_id.encode(), msgspec.json.encode(c), headers) for c in campaigns]
        )

    @asynccontextmanager
    async def engine(self, module: str = "segment_engine", folder: str | None = None) -> AsyncIterator[int]:
        """Runs a segment-engine; its pid. `module`: what runs it. `folder`: of an event store that outlives it."""
        with tempfile.TemporaryDirectory(prefix="bench-", dir=LOCAL) as own:
            environment = {
                **os.environ,
                "KAFKA_BOOTSTRAP_SERVERS": self.config.bootstrap_servers,
                "POSTRIDER_TOPIC_PREFIX": self.config.topic_prefix,
                "DATABASE_URL": self.owner_url,
                "POSTRIDER_SERVICE_TOKEN": "t" * 32,
                "POSTRIDER_EVENT_STORE_PATH": folder or own,
                "POSTRIDER_DEDUP_KEY": "ab" * 16,
                "POSTRIDER_PHONE_HASH_KEY": "cd" * 32,
                "POSTRIDER_SEGMENT_ENGINE_PORT": "0",
            }
            log = await asyncio.to_thread((LOCAL / "bench-engine.log").open, "wb")
            with log:
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", module, env=environment, stdout=log
                )
            self.process = process
            try:
                yield process.pid
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
                await process.wait()

    async def positions(self, connection: asyncpg.Connection) -> dict[str, int]:
        """Records of user-events that each group has committed."""
        rows = await connection.fetch(
            "SELECT consumer_group AS name, sum(next_offset)::bigint AS done FROM segment_engine.consumer_progress"
            " WHERE consumer_group = ANY($1) GROUP BY 1",
            list(GROUPS),
        )
        return dict.fromkeys(GROUPS, 0) | {row["name"]: row["done"] for row in rows}

    async def until(self, connection: asyncpg.Connection, wanted: int, seconds: float) -> None:
        """Until both groups are past so many records."""
        async with asyncio.timeout(seconds):
            while min((await self.positions(connection)).values()) < wanted:
                if self.process is not None and self.process.returncode is not None:
                    raise RuntimeError("the segment-engine has ended: see .local/bench-engine.log")
                await asyncio.sleep(LOOK_SECONDS)


@asynccontextmanager
async def bench(parts: Parts) -> AsyncIterator[Bench]:
    """Fresh topics and a fresh database on running parts."""
    bootstrap, owner = await parts.start_kafka(), await parts.start_postgres()
    config = KafkaConfig(bootstrap, topic_prefix=topic_prefix() + ".")
    url = await create_database(owner)
    try:
        await create_topics(config)
        await migrate(url, "segment-engine", "segment_engine")
        publisher = Publisher(config)
        await publisher.start()
        try:
            yield Bench(config, url, publisher)
        finally:
            await publisher.stop()
    finally:
        await drop_database(url)


def pids(parts: Parts, engine: int) -> dict[str, int]:
    """Whose CPU is told: what the parts started here, and the engine."""
    found = {"segment-engine": engine, "load generator": os.getpid()}
    for part in parts.embedded():
        name = "Postgres" if isinstance(part, EmbeddedPostgres) else "Kafka"
        if part.child is not None:
            found[name] = part.child.pid
    return found


async def durability(database_url: str) -> str:
    connection = await asyncpg.connect(database_url)
    try:
        values = [await connection.fetchval(f"SHOW {name}") for name in DURABILITY]
    finally:
        await connection.close()
    return ", ".join(f"{name}={value}" for name, value in zip(DURABILITY, values, strict=True))
