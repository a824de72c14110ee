"""A dispatcher in the test's own process, on real Kafka and Postgres, and the hands to play with it: definitions in,
jobs in, the ledger and delivery-events out.
"""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from nacl.public import PrivateKey, SealedBox
from sqlalchemy import text

from dispatcher.app import Dispatcher
from dispatcher.calls import Prepared, ProviderTerms, Sending
from dispatcher.database_clock import DatabaseClock
from dispatcher.domain.message import BULK, Message
from dispatcher.domain.settlement import Settlement
from dispatcher.pipeline import Pipeline
from dispatcher.providers.registry import AdapterParts, build_adapter
from dispatcher.providers.sandbox_inbox import MemoryInbox
from dispatcher.settings import Settings
from dispatcher.store import claims, intake
from postrider.clock import SystemClock
from postrider.contracts import codec
from postrider.contracts.definitions import (
    CAMPAIGN_TYPE,
    GROUP_TYPE,
    PROVIDER_TYPE,
    SETTINGS_KEY,
    SETTINGS_TYPE,
    AccountSettings,
    CampaignDefinition,
    ProviderDefinition,
    ProviderGroupDefinition,
    References,
    What,
    When,
    Who,
)
from postrider.contracts.delivery_events import FUNNEL_MOVED, MESSAGE_CHANGED, FunnelMoved, MessageChanged
from postrider.contracts.envelope import Outgoing, envelope_of, headers_of
from postrider.contracts.ids import message_id
from postrider.contracts.send_jobs import SEND_JOB, SendJob
from postrider.contracts.topics import (
    ACCOUNT_SETTINGS,
    CAMPAIGN_DEFINITIONS,
    DELIVERY_EVENTS,
    PROVIDER_DEFINITIONS,
    SEND_JOBS,
    SEND_JOBS_BULK,
    Topic,
)
from postrider.kafka.clients import KafkaConfig
from postrider.kafka.publisher import Publisher
from postrider.kafka.topics import create_topics
from postrider.local.ports import free_port
from postrider.postgres.database import Database, open_database, service_url
from postrider.postgres.migrate import migrate
from postrider.runtime import Service, serve
from tests.support.eventually import eventually
from tests.support.topic_log import TopicLog

TOKEN = "a-service-token-for-tests"
ACCOUNT_SID = "AC00000000000000000000000000000001"
AUTH_TOKEN = "an-auth-token"
HASH_KEY = "00" * 32


@dataclass
class Stage:
    """One world: topics, a database, keys. `people` counts the jobs made, so that each has a person of its own."""

    kafka: str
    database_url: str
    prefix: str
    database: Database
    publisher: Publisher
    private_key: bytes
    log: TopicLog
    port: int = field(default_factory=free_port)
    people: int = 0
    versions: Counter[str] = field(default_factory=Counter)

    def settings(self, **more: Any) -> Settings:
        given: dict[str, Any] = {
            "kafka_bootstrap_servers": self.kafka,
            "database_url": self.database_url,
            "topic_prefix": self.prefix,
            "service_token": TOKEN,
            "phone_hash_key": HASH_KEY,
            "sealing_private_key": base64.b64encode(self.private_key).decode(),
            "allowed_private_hosts": ["127.0.0.0/8"],
            "port": self.port,
            "public_url": f"http://127.0.0.1:{self.port}",
            "drain_seconds": 10.0,
        }
        return Settings(**(given | more))

    def environment(self) -> dict[str, str]:
        """The same settings for `python -m dispatcher`."""
        settings = self.settings()
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka,
            "DATABASE_URL": self.database_url,
            "POSTRIDER_TOPIC_PREFIX": self.prefix,
            "POSTRIDER_SERVICE_TOKEN": TOKEN,
            "POSTRIDER_PHONE_HASH_KEY": HASH_KEY,
            "POSTRIDER_SEALING_PRIVATE_KEY": settings.sealing_private_key.get_secret_value(),
            "POSTRIDER_ALLOWED_PRIVATE_HOSTS": "127.0.0.0/8",
            "POSTRIDER_DISPATCHER_PORT": str(self.port),
            "POSTRIDER_PUBLIC_URL": settings.public_url,
            "POSTRIDER_DRAIN_SECONDS": "10",
        }

    # Definitions

    async def provider(self, provider_id: str, kind: str = "sandbox", **more: Any) -> ProviderDefinition:
        """`more`: settings; `credentials`, `parts_per_second`, `status` are taken out of them."""
        credentials = more.pop("credentials", {})
        sealed = SealedBox(PrivateKey(self.private_key).public_key).encrypt(msgspec.json.encode(credentials))
        self.versions[provider_id] += 1
        definition = ProviderDefinition(
            provider_id, self.versions[provider_id], provider_id, kind,
            parts_per_second=more.pop("parts_per_second", None), status=more.pop("status", "active"),
            settings=more, sealed_credentials=base64.b64encode(sealed).decode(), token=f"token-of-{provider_id}",
        )  # fmt: skip
        await self._define(PROVIDER_DEFINITIONS, provider_id, PROVIDER_TYPE, definition)
        return definition

    async def twilio(self, provider_id: str, port: int, **more: Any) -> ProviderDefinition:
        settings = {"account_sid": ACCOUNT_SID, "from": "+15005550006", "base_url": f"http://127.0.0.1:{port}"}
        credentials = {"auth_token": AUTH_TOKEN}
        return await self.provider(provider_id, "twilio", **(settings | {"credentials": credentials} | more))

    async def group(
        self, provider_ids: Sequence[str], group_id: str = "grp_1", is_default: bool = True, **more: Any
    ) -> None:
        """`more`: routes, failover_on_rate_limit."""
        self.versions[group_id] += 1
        definition = ProviderGroupDefinition(
            group_id, self.versions[group_id], group_id, list(provider_ids), is_default, **more
        )
        await self._define(PROVIDER_DEFINITIONS, group_id, GROUP_TYPE, definition)

    async def campaign(
        self,
        campaign_id: str = "cmp_1",
        status: str = "running",
        kind: str = "one_time",
        when: When | None = None,
        **what: Any,
    ) -> None:
        self.versions[campaign_id] += 1
        given: dict[str, Any] = {"body": "Hi {{ Profile.name }}", "references": References(["name"], [])}
        made = What(**(given | what))
        definition = CampaignDefinition(
            campaign_id, self.versions[campaign_id], status, kind, campaign_id, "transactional", when or When(), Who(),
            1, {"1": made},
        )  # fmt: skip
        await self._define(CAMPAIGN_DEFINITIONS, campaign_id, CAMPAIGN_TYPE, definition)

    async def define_settings(self, settings: AccountSettings) -> None:
        await self._define(ACCOUNT_SETTINGS, SETTINGS_KEY, SETTINGS_TYPE, settings)

    async def _define(self, topic: Topic, id: str, type: str, definition: msgspec.Struct) -> None:
        headers = headers_of(secrets.token_hex(8), type, "campaign-api", datetime.now(UTC))
        name = topic.full_name(self.prefix)
        await self.publisher.publish([Outgoing(name, id.encode(), codec.encode(definition), headers)])

    # Jobs

    def job(self, campaign_id: str = "cmp_1", **more: Any) -> SendJob:
        self.people += 1
        user = more.pop("user_id", f"u-{self.people}")
        now = datetime.now(UTC)
        given: dict[str, Any] = {
            "message_id": message_id(campaign_id, "once", user),
            "campaign_id": campaign_id,
            "run_id": "run_1",
            "occurrence": "once",
            "user_id": user,
            "what_version": 1,
            "phone": f"+1555{1000000 + self.people}",
            "zone": "UTC",
            "due_at": now,
            "send_by": now + timedelta(hours=1),
            "message_class": "promotional",
            "country": "US",
            "profile": {"name": user},
        }
        return SendJob(**(given | more))

    def jobs(self, n: int, campaign_id: str = "cmp_1", **more: Any) -> list[SendJob]:
        return [self.job(campaign_id, **more) for _ in range(n)]

    async def order(self, jobs: Sequence[SendJob], topic: Topic = SEND_JOBS_BULK) -> None:
        now = datetime.now(UTC)
        await self.publisher.publish(
            [
                Outgoing(
                    topic.full_name(self.prefix), job.user_id.encode(), codec.encode(job),
                    headers_of(secrets.token_hex(8), SEND_JOB, "scheduler", now),
                )
                for job in jobs
            ]
        )  # fmt: skip

    async def order_live(self, jobs: Sequence[SendJob]) -> None:
        await self.order(jobs, SEND_JOBS)

    # What came of it

    async def rows(self, sql: str, **parameters: Any) -> list[Any]:
        async with self.database.begin() as tx:
            return list(await tx.execute(text(sql), parameters))

    async def execute(self, sql: str, **parameters: Any) -> None:
        async with self.database.begin() as tx:
            await tx.execute(text(sql), parameters)

    async def states(self) -> dict[str, int]:
        return {row.state: row.n for row in await self.rows("SELECT state, count(*) AS n FROM ledger GROUP BY 1")}

    async def events(self) -> tuple[list[FunnelMoved], dict[str, MessageChanged]]:
        """Everything on delivery-events: moves (each envelope once), and the newest change of each message."""
        moves: dict[str, FunnelMoved] = {}
        changed: dict[str, MessageChanged] = {}
        for record in await self.read(DELIVERY_EVENTS):
            envelope = envelope_of(record.headers)
            if envelope.type == FUNNEL_MOVED:
                moves[envelope.id] = codec.decode(record.value, FunnelMoved)
            elif envelope.type == MESSAGE_CHANGED:
                change = codec.decode(record.value, MessageChanged)
                known = changed.get(change.message_id)
                if known is None or change.seq > known.seq:
                    changed[change.message_id] = change
        return list(moves.values()), changed

    async def funnel(self, pending: int) -> dict[str, int]:
        """The counts of statuses after all moves, when `pending` messages were pending before."""
        counts = Counter({"pending": pending})
        for move in (await self.events())[0]:
            counts[move.from_status] -= move.n
            counts[move.to_status] += move.n
        return {status: n for status, n in counts.items() if n}

    async def read(self, topic: Topic) -> list[Any]:
        """The whole topic as it is now."""
        return await self.log.read(topic.full_name(self.prefix))


@asynccontextmanager
async def stage(kafka: str, database_url: str, prefix: str) -> AsyncIterator[Stage]:
    """`prefix` gets the dot that topic names need."""
    prefix = f"{prefix}."
    await migrate(database_url, "dispatcher", "dispatcher")
    await create_topics(KafkaConfig(kafka, prefix))
    database = open_database(service_url(database_url, "dispatcher"), "dispatcher", 4)
    publisher, log = Publisher(KafkaConfig(kafka, prefix)), TopicLog(KafkaConfig(kafka, prefix))
    try:
        await publisher.start()
        yield Stage(kafka, database_url, prefix, database, publisher, os.urandom(32), log)
    finally:
        await log.close()
        await publisher.stop()
        await database.close()


async def is_open(port: int) -> bool:
    """Whether somebody listens there."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


@asynccontextmanager
async def dispatching(stage: Stage, *, connected: int = 0, **settings: Any) -> AsyncIterator[Dispatcher]:
    """A dispatcher that is ready; drained at the end of the block. One that failed fails the test. `connected`: how
    many of its connections to Postgres are open when its parts start, as a busy intake leaves them."""
    dispatcher = Dispatcher(stage.settings(**settings))
    service = Service(
        dispatcher.app(), dispatcher.health, "127.0.0.1", dispatcher.settings.port, dispatcher.components(),
        dispatcher.settings.drain_seconds, [dispatcher.outbox.flush],
    )  # fmt: skip
    stop = asyncio.Event()
    await dispatcher.publisher.start()
    async with AsyncExitStack() as connections:
        for _ in range(connected):
            tx = await connections.enter_async_context(dispatcher.database.begin())
            await tx.execute(text("SELECT 1"))
    running = asyncio.create_task(serve("dispatcher", service, stop))
    try:
        await dispatcher.definitions.wait_until_read()
        await dispatcher.definitions.wait_until_confirmed()
        await eventually(lambda: is_open(dispatcher.settings.port))
        yield dispatcher
    finally:
        stop.set()
        code = await running
        await dispatcher.close()
    assert code == 0


@dataclass
class News:
    """Definitions as told by the test. `statuses` are answered one after the other; the last one stays. `carriers`:
    the providers that the group has."""

    confirmed: bool = True
    statuses: list[str] = field(default_factory=lambda: ["running"])
    settings: AccountSettings = field(default_factory=AccountSettings)
    body: str = "Hi"
    carriers: set[str] = field(default_factory=lambda: {"prv_a"})

    @property
    def campaigns(self) -> dict[str, CampaignDefinition]:
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        whats = {"1": What(self.body)}
        return {"cmp_1": CampaignDefinition("cmp_1", 1, status, "one_time", "", "", When(), Who(), 1, whats)}

    def confirmed_within(self, seconds: float) -> bool:
        return self.confirmed


@dataclass
class Bench:
    """One pipeline on the real ledger, with its settlements kept instead of written."""

    stage: Stage
    news: News
    settled: list[Settlement]
    inbox: MemoryInbox
    sending: Sending
    pipeline: Pipeline

    @property
    def provider(self) -> ProviderDefinition:
        return ProviderDefinition("prv_a", 1, "prv_a", "sandbox", {"receipt": "none"}, "", "token")

    def network(self) -> tuple[dict[str, ProviderDefinition], dict[str, ProviderGroupDefinition]]:
        """The provider, and a default group of it."""
        group = ProviderGroupDefinition("grp_1", 1, "", ["prv_a"], True)
        return {"prv_a": self.provider}, {"grp_1": group}

    def limit(self, parts_per_second: float) -> None:
        terms = replace(self.pipeline.terms, parts_per_second=parts_per_second)
        self.pipeline.replace_adapter(terms, self.pipeline.adapter)

    async def claimed(self) -> Message:
        job = self.stage.job(profile={})
        async with self.stage.database.begin() as tx:
            _, queues = await intake.insert(tx, BULK, [(job, b"\0" * 32)])
            claim = await claims.claim(tx, "me", BULK, dict.fromkeys(queues, 10), 30.0)
        (message,) = claim.messages
        return message

    def put(self, message: Message) -> None:
        leased_until = SystemClock().monotonic() + 30
        self.pipeline.put([Prepared(message, What("Hi"), "Hi", "GSM-7", 1, leased_until)])

    async def state(self) -> tuple[Any, ...]:
        ((state, owner, attempt),) = await self.stage.rows("SELECT state, owner, attempt FROM ledger")
        return state, owner, attempt

    @asynccontextmanager
    async def running(self, run: Callable[[asyncio.Event], Awaitable[None]]) -> AsyncIterator[None]:
        stop = asyncio.Event()
        task = asyncio.ensure_future(run(stop))
        try:
            yield
        finally:
            stop.set()
            await task


async def no_receipts(provider_id: str, receipts: Any) -> None:
    """The sandbox's receipts are not what is tested."""


def pipeline_bench(stage: Stage, news: News | None = None, concurrency: int = 8) -> Bench:
    clock, news, inbox = SystemClock(), news or News(), MemoryInbox()
    settled: list[Settlement] = []

    def nothing() -> None:
        """Nobody claims for this pipeline."""

    sending = Sending(
        stage.database, DatabaseClock(clock), clock, "me", news, concurrency, settled.append,
        lambda *_: False, lambda _, provider_id: provider_id in news.carriers, nothing,
    )  # fmt: skip
    parts = AdapterParts(lambda: pytest.fail("no HTTP here"), inbox, no_receipts)
    adapter = build_adapter("sandbox", "prv_a", {"receipt": "none"}, {}, parts)
    terms = ProviderTerms("prv_a", 10.0, 120.0, "", None)
    return Bench(stage, news, settled, inbox, sending, Pipeline(sending, terms, adapter))
