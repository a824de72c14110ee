"""A segment-engine in the test's process, on real Kafka, Postgres and chDB, with what a test sends and reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
import msgspec
from aiokafka import ConsumerRecord

from postrider.clock import SystemClock
from postrider.contracts import codec
from postrider.contracts.definitions import (
    CAMPAIGN_TYPE,
    SETTINGS_KEY,
    SETTINGS_TYPE,
    AccountSettings,
    CampaignDefinition,
    References,
    Trigger,
    What,
    When,
    Who,
)
from postrider.contracts.envelope import Outgoing, envelope_of, headers_of
from postrider.contracts.topics import ACCOUNT_SETTINGS, CAMPAIGN_DEFINITIONS, USER_EVENTS, Topic
from postrider.kafka.clients import KafkaConfig, partition_for
from postrider.kafka.publisher import Publisher
from postrider.kafka.topics import create_topics
from postrider.postgres.database import Database, open_database, service_url
from postrider.postgres.migrate import migrate
from segment_engine.app import MakeStore, build
from segment_engine.event_store.chdb_store import ChdbStore
from segment_engine.settings import Settings
from tests.support.eventually import eventually
from tests.support.topic_log import TopicLog

T = TypeVar("T")
TOKEN = "t" * 32
STOP_SECONDS = 30


@dataclass
class Engine:
    """Everything but the process: it can be started and stopped over and over."""

    settings: Settings
    config: KafkaConfig
    publisher: Publisher
    database: Database
    log: TopicLog
    _sent: int = field(default=0)

    @asynccontextmanager
    async def running(self, make_store: MakeStore = ChdbStore) -> AsyncIterator[httpx.AsyncClient]:
        """The engine until the block ends; the client carries the service token."""
        async with build(self.settings, make_store) as service:
            stop = asyncio.Event()
            tasks = [asyncio.ensure_future(part.run(stop)) for part in service.components]
            transport = httpx.ASGITransport(service.app)
            headers = {"Authorization": f"Bearer {TOKEN}"}
            try:
                async with httpx.AsyncClient(transport=transport, base_url="http://engine", headers=headers) as http:
                    await eventually(lambda: _all_run(tasks) and service.health.ready, 30)
                    yield http
            finally:
                stop.set()
                done, late = await asyncio.wait(tasks, timeout=STOP_SECONDS)
                for task in late:
                    task.cancel()
                assert not late, late
            for task in done:
                task.result()

    @asynccontextmanager
    async def failing(self, expected: type[BaseException], make_store: MakeStore = ChdbStore) -> AsyncIterator[None]:
        """The engine until a part of it raises `expected`; the others are killed, not drained."""
        async with build(self.settings, make_store) as service:
            tasks = [asyncio.ensure_future(part.run(asyncio.Event())) for part in service.components]
            yield
            done, rest = await asyncio.wait(tasks, timeout=STOP_SECONDS, return_when=asyncio.FIRST_EXCEPTION)
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)
            assert any(isinstance(task.exception(), expected) for task in done)

    # What other services send

    async def send(self, *messages: dict[str, Any], partition: int | None = None) -> None:
        """User events, each to its user's partition unless one is given."""
        topic = USER_EVENTS.full_name(self.config.topic_prefix)
        await self.publisher.publish(
            [Outgoing(topic, m["userId"].encode(), msgspec.json.encode(m), partition=partition) for m in messages]
        )

    async def tell(self, topic: Topic, key: str, type: str, data: msgspec.Struct) -> None:
        """An internal record."""
        self._sent += 1
        headers = headers_of(f"test-{self._sent}", type, "test", SystemClock().now())
        await self.publisher.publish(
            [Outgoing(topic.full_name(self.config.topic_prefix), key.encode(), codec.encode(data), headers)]
        )

    async def define(self, campaign: CampaignDefinition) -> None:
        await self.tell(CAMPAIGN_DEFINITIONS, campaign.campaign_id, CAMPAIGN_TYPE, campaign)

    async def define_settings(self, settings: AccountSettings) -> None:
        await self.tell(ACCOUNT_SETTINGS, SETTINGS_KEY, SETTINGS_TYPE, settings)

    # What came of it

    async def records(self, topic: Topic) -> list[ConsumerRecord]:
        """Everything on a topic now."""
        return await self.log.read(topic.full_name(self.config.topic_prefix))

    async def published(self, topic: Topic, type: str, kind: type[T]) -> list[T]:
        """The data of all records of one type."""
        records = await self.records(topic)
        return [codec.decode(r.value, kind) for r in records if envelope_of(r.headers).type == type]

    def partition_of(self, user_id: str) -> int:
        return partition_for(user_id.encode(), USER_EVENTS.partitions)


def _all_run(tasks: Sequence[asyncio.Future[None]]) -> bool:
    for task in tasks:
        if task.done():
            task.result()
    return True


@asynccontextmanager
async def engine(bootstrap_servers: str, database_url: str, topic_prefix: str, folder: Path) -> AsyncIterator[Engine]:
    """Topics created, schema migrated, nothing running."""
    config = KafkaConfig(bootstrap_servers, topic_prefix + ".")
    await create_topics(config)
    await migrate(database_url, "segment-engine", "segment_engine")
    settings = Settings.model_validate(
        {
            "kafka_bootstrap_servers": bootstrap_servers,
            "database_url": database_url,
            "topic_prefix": config.topic_prefix,
            "service_token": TOKEN,
            "event_store_path": folder,
            "dedup_key": "ab" * 16,
            "phone_hash_key": "cd" * 32,
            "port": 0,
            "dedup_horizon_days": 30,
        }
    )
    database = open_database(service_url(database_url, "segment-engine"), "segment_engine")
    publisher, log = Publisher(config), TopicLog(config)
    try:
        await publisher.start()
        yield Engine(settings, config, publisher, database, log)
    finally:
        await log.close()
        await publisher.stop()
        await database.close()


def live_campaign(event: str, **changes: Any) -> CampaignDefinition:
    """A running live campaign on `event`; `changes` replace fields of the definition."""
    what = What("Hi", References(profile=["first_name"], event=["amount"]))
    campaign = CampaignDefinition(
        "cmp_live", 1, "running", "live_action", "Live", "transactional",
        When(send_by_seconds=900), Who(trigger=Trigger(event)), 1, {"1": what}, SystemClock().now(),
    )  # fmt: skip
    return msgspec.structs.replace(campaign, **changes)


def identify(user_id: str, id: str, **traits: Any) -> dict[str, Any]:
    return {"type": "identify", "messageId": id, "userId": user_id, "traits": traits}


def track(user_id: str, id: str, event: str, **properties: Any) -> dict[str, Any]:
    return {"type": "track", "messageId": id, "userId": user_id, "event": event, "properties": properties}
