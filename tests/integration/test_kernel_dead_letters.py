"""Too many dead letters stop a consumer before it drains its topic; the desk shows letters and puts them back."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest
from aiokafka import ConsumerRecord
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from postrider.clock import SystemClock
from postrider.contracts.codec import Unreadable
from postrider.contracts.envelope import Outgoing
from postrider.contracts.topics import QUALIFIED_USERS
from postrider.health import Health
from postrider.kafka.clients import KafkaConfig
from postrider.kafka.loop import Batch, ConsumerLoop
from postrider.kafka.publisher import Publisher
from postrider.kafka.topics import create_topics
from postrider.postgres import progress
from postrider.postgres.database import Database, open_database
from postrider.postgres.migrate import kernel_tables_sql
from postrider.postgres.outbox import Outbox
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration
GROUP = "scheduler"


@dataclass
class Desk:
    config: KafkaConfig
    database: Database
    publisher: Publisher
    broken: bool = True
    handled: list[tuple[bytes, tuple[tuple[str, bytes], ...]]] = field(default_factory=list)

    @property
    def topic(self) -> str:
        return QUALIFIED_USERS.full_name(self.config.topic_prefix)

    @property
    def letters(self) -> str:
        return QUALIFIED_USERS.dead_letter_name(GROUP, self.config.topic_prefix)

    def decode(self, record: ConsumerRecord) -> tuple[bytes, tuple[tuple[str, bytes], ...]]:
        if self.broken:
            raise Unreadable("this version cannot read it")
        return record.value, tuple(record.headers)

    async def handle(
        self, tx: AsyncConnection, batch: Batch[tuple[bytes, tuple[tuple[str, bytes], ...]]]
    ) -> Sequence[Outgoing]:
        self.handled += [record.value for record in batch.records]
        return ()

    def loop(self, health: Health, per_minute: int) -> ConsumerLoop[tuple[bytes, tuple[tuple[str, bytes], ...]]]:
        return ConsumerLoop(
            replace(self.config, dead_letters_per_minute=per_minute), self.database,
            Outbox(self.database, self.publisher, "test", self.config.topic_prefix), GROUP, [QUALIFIED_USERS],
            self.decode, self.handle, max_records=20, check=health.check(GROUP), clock=SystemClock(),
        )  # fmt: skip

    async def send(self, count: int) -> None:
        records = [
            Outgoing(self.topic, f"u{number}".encode(), f"v{number}".encode(), (("ce_id", f"{number}".encode()),))
            for number in range(count)
        ]
        await self.publisher.publish(records)

    async def read(self) -> int:
        return sum((await progress.positions(self.database, GROUP)).values())

    async def command(self, *words: str) -> str:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "postrider.kafka.dead_letters_cli", *words,
            env=os.environ | {
                "KAFKA_BOOTSTRAP_SERVERS": self.config.bootstrap_servers,
                "POSTRIDER_TOPIC_PREFIX": self.config.topic_prefix,
            },
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(), 60)
        return out.decode() + err.decode()


@pytest.fixture
async def desk(kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str) -> AsyncIterator[Desk]:
    config = KafkaConfig(kafka, topic_prefix + ".")
    await create_topics(config)
    database = open_database(await fresh_database(), "public")
    async with database.begin() as tx:
        for statement in kernel_tables_sql():
            await tx.execute(text(statement))
    publisher = Publisher(config)
    await publisher.start()
    yield Desk(config, database, publisher)
    await publisher.stop()
    await database.close()


async def test_a_bad_deploy_stops_its_consumer_and_keeps_the_topic(desk: Desk) -> None:
    health = Health()
    await desk.send(200)
    stop = asyncio.Event()
    task = asyncio.create_task(desk.loop(health, per_minute=50).run(stop))
    await eventually(lambda: health.check(GROUP).status == "down", 30)
    assert "stopped" in health.check(GROUP).reason
    assert "limit is 50" in health.check(GROUP).reason
    assert not task.done()
    read = await desk.read()
    assert read <= 50
    stop.set()
    await asyncio.wait_for(task, 20)

    # The next version can read: it goes on where the bad one stopped, and what that one gave up is put back.
    desk.broken = False
    health = Health()
    stop = asyncio.Event()
    task = asyncio.create_task(desk.loop(health, per_minute=50).run(stop))
    try:
        await eventually(lambda: len(desk.handled) == 200 - read, 30)
        listed = await desk.command("list")
        assert f"{desk.letters}: {read} letters, {read} not replayed" in listed
        assert "this version cannot read it" in listed
        shown = await desk.command("show", desk.letters, "--limit", "3")
        assert shown.count("this version cannot read it") == 3
        assert "v1" not in shown.replace(desk.topic, "").replace(desk.letters, "")
        assert f"done: {read} replayed, 0 left" in await desk.command("replay", desk.letters)
        await eventually(lambda: len(desk.handled) == 200, 30)
        assert "done: 0 replayed, 0 left" in await desk.command("replay", desk.letters)
        expected = {(f"v{number}".encode(), (("ce_id", f"{number}".encode()),)) for number in range(200)}
        assert set(desk.handled) == expected
    finally:
        stop.set()
        await asyncio.wait_for(task, 20)


async def test_a_name_that_is_no_dead_letter_topic_is_told(desk: Desk) -> None:
    answer = await desk.command("replay", desk.topic)
    assert "no dead-letter topic" in answer
    assert desk.letters in answer
