"""A scheduler on real Kafka and Postgres with everything around it played by the test: definitions, engine, time."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import httpx
from aiokafka import ConsumerRecord
from msgspec import Struct
from sqlalchemy import text

from postrider.clock import SystemClock
from postrider.contracts import codec
from postrider.contracts.audience import (
    PAGE,
    SNAPSHOT_REQUESTED,
    SNAPSHOTTED,
    ZONE_REQUESTED,
    AudiencePage,
    AudienceSnapshotted,
    PageUser,
    SnapshotRequested,
    ZoneRequested,
)
from postrider.contracts.definitions import CAMPAIGN_TYPE, CampaignDefinition
from postrider.contracts.delivery_events import (
    FUNNEL_MOVED,
    MESSAGE_CHANGED,
    RUN_CHANGED,
    FunnelMoved,
    MessageChanged,
    RunChanged,
)
from postrider.contracts.envelope import Outgoing, envelope_of, headers_of
from postrider.contracts.send_jobs import SendJob
from postrider.contracts.topics import (
    AUDIENCE_REQUESTS,
    CAMPAIGN_DEFINITIONS,
    DELIVERY_EVENTS,
    QUALIFIED_USERS_BULK,
    Topic,
)
from postrider.kafka.clients import KafkaConfig
from postrider.kafka.publisher import Publisher
from postrider.kafka.topics import create_topics
from postrider.postgres.database import Database, open_database
from postrider.postgres.migrate import migrate
from scheduler.app import build
from scheduler.settings import Settings
from tests.support.topic_log import TopicLog

S = TypeVar("S", bound=Struct)
TOKEN = "a-token-for-tests-only"
DRAIN_SECONDS = 10.0


@dataclass
class Engine:
    """Plays the segment-engine. `audience`: zone → verdicts of its people, by rank.

    `repeats`: how often each page is published; `shuffled`: pages in any order; `withheld`: (zone, page) never sent.
    """

    audience: dict[str, list[str]]
    repeats: int = 1
    shuffled: bool = False
    withheld: set[tuple[str, int]] = field(default_factory=set)
    asked_zones: list[str] = field(default_factory=list)

    def user_ids(self, reachable: bool = False) -> set[str]:
        return {
            f"{zone}-{rank}"
            for zone, verdicts in self.audience.items()
            for rank, verdict in enumerate(verdicts)
            if not (reachable and verdict)
        }

    def snapshot(self, request: SnapshotRequested) -> AudienceSnapshotted:
        zones = {zone: len(verdicts) for zone, verdicts in self.audience.items()}
        reachable = sum(verdicts.count("") for verdicts in self.audience.values())
        return AudienceSnapshotted(
            request.run_id, request.campaign_id, request.occurrence, sum(zones.values()), reachable, zones
        )

    def pages(self, request: ZoneRequested) -> list[AudiencePage]:
        users = [
            PageUser(f"{request.zone}-{rank}", rank, verdict, "why" if verdict else "", "+12025550123")
            for rank, verdict in enumerate(self.audience[request.zone])
        ]
        starts = range(0, len(users), request.page_size)
        pages = [
            AudiencePage(
                request.run_id,
                request.campaign_id,
                request.occurrence,
                request.zone,
                number,
                number == len(starts) - 1,
                request.what_version,
                users[start : start + request.page_size],
            )
            for number, start in enumerate(starts)
        ]
        sent = [page for page in pages if (page.zone, page.page) not in self.withheld] * self.repeats
        if self.shuffled:
            random.Random(7).shuffle(sent)
        return sent


class Stage:
    """One test's topics and database."""

    def __init__(self, config: KafkaConfig, url: str, database: Database, publisher: Publisher, log: TopicLog) -> None:
        self.config = config
        self.log = log
        self.url = url
        self.database = database
        self.publisher = publisher

    def settings(self, **values: Any) -> Settings:
        given = {
            "KAFKA_BOOTSTRAP_SERVERS": self.config.bootstrap_servers,
            "DATABASE_URL": self.url,
            "POSTRIDER_TOPIC_PREFIX": self.config.topic_prefix,
            "POSTRIDER_SERVICE_TOKEN": TOKEN,
            "POSTRIDER_SCHEDULER_PORT": 0,
        }
        return Settings.model_validate(given | values)

    @asynccontextmanager
    async def scheduler(self, instance_id: str = "r0", **values: Any) -> AsyncIterator[httpx.AsyncClient]:
        """A scheduler in this process; yields a client of its HTTP interface. Drains at the end."""
        async with build(self.settings(instance_id=instance_id, **values)) as service:
            stop = asyncio.Event()
            tasks = [asyncio.ensure_future(component.run(stop)) for component in service.components]
            transport = httpx.ASGITransport(service.app)
            try:
                async with httpx.AsyncClient(transport=transport, base_url="http://scheduler") as client:
                    yield client
            finally:
                stop.set()
                done, late = await asyncio.wait(tasks, timeout=DRAIN_SECONDS)
                for task in late:  # as the runtime does: a group that is rebalancing can hold its members up
                    task.cancel()
                await asyncio.gather(*late, return_exceptions=True)
                for task in done:
                    task.result()

    async def scheduler_process(self, **values: str) -> asyncio.subprocess.Process:
        env = {
            **os.environ,
            "KAFKA_BOOTSTRAP_SERVERS": self.config.bootstrap_servers,
            "DATABASE_URL": self.url,
            "POSTRIDER_TOPIC_PREFIX": self.config.topic_prefix,
            "POSTRIDER_SERVICE_TOKEN": TOKEN,
            "POSTRIDER_SCHEDULER_PORT": "0",
            "POSTRIDER_INSTANCE_ID": "r0",
            "POSTRIDER_LOG_LEVEL": "WARNING",
            **values,
        }
        return await asyncio.create_subprocess_exec(sys.executable, "-m", "scheduler", env=env)

    async def shift_clock(self, by: timedelta) -> None:
        """Moves the database's clock, the only one for due times."""
        body = f"SELECT clock_timestamp() + interval ''{by.total_seconds()} seconds''"
        async with self.database.begin() as tx:
            await tx.execute(
                text(f"CREATE OR REPLACE FUNCTION db_now() RETURNS timestamptz LANGUAGE sql VOLATILE AS '{body}'")
            )

    async def define(self, campaign: CampaignDefinition) -> None:
        await self.send(CAMPAIGN_DEFINITIONS, campaign.campaign_id, CAMPAIGN_TYPE, campaign)

    async def send(self, topic: Topic, key: str, type: str, value: Struct, id: str = "test") -> None:
        headers = headers_of(id, type, "test", SystemClock().now())
        name = topic.full_name(self.config.topic_prefix)
        await self.publisher.publish([Outgoing(name, key.encode(), codec.encode(value), headers)])

    async def send_page(self, page: AudiencePage) -> None:
        await self.send(QUALIFIED_USERS_BULK, f"{page.run_id}:{page.zone}:{page.page}", PAGE, page)

    @asynccontextmanager
    async def engine(self, engine: Engine) -> AsyncIterator[Engine]:
        stop = asyncio.Event()
        task = asyncio.create_task(self._play(engine, stop))
        try:
            yield engine
        finally:
            stop.set()
            await task

    async def _play(self, engine: Engine, stop: asyncio.Event) -> None:
        answered: set[str] = set()
        read = 0
        while not stop.is_set():
            records = (await self.records(AUDIENCE_REQUESTS))[read:]
            for record in records:
                envelope = envelope_of(record.headers)
                if envelope.id not in answered:
                    answered.add(envelope.id)
                    await self._answer(engine, envelope.type, record.value)
            read += len(records)
            if not records:
                await asyncio.sleep(0.05)

    async def _answer(self, engine: Engine, type: str, value: bytes) -> None:
        if type == SNAPSHOT_REQUESTED:
            snapshot = engine.snapshot(codec.decode(value, SnapshotRequested))
            for _ in range(engine.repeats):
                await self.send(QUALIFIED_USERS_BULK, snapshot.run_id, SNAPSHOTTED, snapshot)
        elif type == ZONE_REQUESTED:
            request = codec.decode(value, ZoneRequested)
            engine.asked_zones.append(request.zone)
            for page in engine.pages(request):
                await self.send_page(page)

    async def records(self, topic: Topic | str) -> list[ConsumerRecord]:
        """Everything on a topic now."""
        name = topic if isinstance(topic, str) else topic.full_name(self.config.topic_prefix)
        return await self.log.read(name)

    async def jobs(self, topic: Topic) -> dict[str, list[SendJob]]:
        """By message id; more than one only when a crash made the outbox publish again."""
        found: dict[str, list[SendJob]] = {}
        for record in await self.records(topic):
            job = codec.decode(record.value, SendJob)
            assert envelope_of(record.headers).id == job.message_id
            found.setdefault(job.message_id, []).append(job)
        return found

    async def told(self, type: str, kind: type[S]) -> list[S]:
        """Delivery events of a type, repeats of an envelope's id dropped as every reader does."""
        found: dict[str, S] = {}
        for record in await self.records(DELIVERY_EVENTS):
            envelope = envelope_of(record.headers)
            if envelope.type == type:
                found.setdefault(envelope.id, codec.decode(record.value, kind))
        return list(found.values())

    async def funnel(self) -> dict[str, int]:
        """Status → people, from the moves alone; zeros left out."""
        counts: Counter[str] = Counter()
        for move in await self.told(FUNNEL_MOVED, FunnelMoved):
            counts[move.to_status] += move.n
            if move.from_status:
                counts[move.from_status] -= move.n
        return {status: n for status, n in counts.items() if n}

    async def run_states(self) -> list[str]:
        return [changed.state for changed in await self.told(RUN_CHANGED, RunChanged)]

    async def message_rows(self) -> list[MessageChanged]:
        return await self.told(MESSAGE_CHANGED, MessageChanged)

    async def messages(self) -> dict[str, MessageChanged]:
        """By user id: for one run."""
        return {row.user_id: row for row in await self.message_rows()}

    async def requests(self, type: str, kind: type[S]) -> list[S]:
        found: dict[str, S] = {}
        for record in await self.records(AUDIENCE_REQUESTS):
            envelope = envelope_of(record.headers)
            if envelope.type == type:
                found.setdefault(envelope.id, codec.decode(record.value, kind))
        return list(found.values())


@asynccontextmanager
async def make_stage(
    kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str
) -> AsyncIterator[Stage]:
    config = KafkaConfig(kafka, topic_prefix + ".")
    await create_topics(config)
    url = await fresh_database()
    await migrate(url, "scheduler", "scheduler")
    database = open_database(url, "scheduler")
    publisher, log = Publisher(config), TopicLog(config)
    try:
        await publisher.start()
        yield Stage(config, url, database, publisher, log)
    finally:
        await log.close()
        await publisher.stop()
        await database.close()


def expected_log(funnel: dict[str, int], rows: Sequence[MessageChanged]) -> bool:
    """Whether the rows, by status, are what the funnel says."""
    return Counter(row.status for row in rows) == Counter(funnel)
