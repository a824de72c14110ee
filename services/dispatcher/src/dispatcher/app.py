"""The composition root: builds every part of the dispatcher once, and says how they hang together."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from sqlalchemy import event

from dispatcher.announcer import Announcer
from dispatcher.calls import Sending
from dispatcher.claimer import Claimer
from dispatcher.database_clock import DatabaseClock
from dispatcher.domain.fence import CONFIRMED_WITHIN_SECONDS
from dispatcher.domain.message import BULK, LIVE, TEST_CAMPAIGN
from dispatcher.egress import AddressPolicy
from dispatcher.fleet import Fleet
from dispatcher.http_aiohttp import AiohttpPort
from dispatcher.intake import Intake, decode
from dispatcher.opt_out import OptOut
from dispatcher.providers.registry import AdapterParts
from dispatcher.receipts import Receipts
from dispatcher.resolver import Resolver
from dispatcher.retention import Retention
from dispatcher.sending import run_stages
from dispatcher.settings import Settings
from dispatcher.settler import Settler
from dispatcher.store.sandbox import PostgresInbox
from dispatcher.sweeper import Sweeper
from dispatcher.trials import Trials, standing_campaign
from dispatcher.web import callbacks, internal, trying
from postrider import health as probes
from postrider import http_manners
from postrider.clock import Clock, SystemClock
from postrider.contracts.topics import (
    ACCOUNT_SETTINGS,
    CAMPAIGN_DEFINITIONS,
    PROVIDER_DEFINITIONS,
    SEND_JOBS,
    SEND_JOBS_BULK,
)
from postrider.health import Health
from postrider.kafka.clients import KafkaConfig
from postrider.kafka.definitions import Definition, DefinitionsReader
from postrider.kafka.loop import ConsumerLoop
from postrider.kafka.publisher import Publisher
from postrider.postgres.database import Database, open_database, service_url
from postrider.postgres.outbox import Outbox
from postrider.runtime import Component, Service
from postrider.sms.render_pool import RenderPool

DEFINITIONS = (CAMPAIGN_DEFINITIONS, PROVIDER_DEFINITIONS, ACCOUNT_SETTINGS)
INTAKE_BATCH = 1_000


class Dispatcher:
    """The parts of one process. `clock` is for tests."""

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        clock = clock or SystemClock()
        self.settings = settings
        self.health = Health()
        self.owner = secrets.token_hex(8)
        config = settings.kafka("dispatcher", settings.port)
        url = settings.service_database_url or service_url(settings.database_url, "dispatcher")
        self.database = open_database(url, "dispatcher", settings.database_connections)
        prefer_indexes(self.database)
        self.publisher = Publisher(config, self.health.check("kafka"))
        self.outbox = Outbox(self.database, self.publisher, "dispatcher", settings.topic_prefix)
        self.announcer = Announcer(self.outbox)
        self.pool = RenderPool()
        self.inbox = PostgresInbox(self.database)
        database_clock = DatabaseClock(clock)
        self.definitions = DefinitionsReader(
            config,
            DEFINITIONS,
            self._changed,
            self.health.check("definitions"),
            clock,
            confirm_seconds=CONFIRMED_WITHIN_SECONDS / 3,
        )
        self.receipts = Receipts(self.database, self.announcer, settings.hash_key, self._suppressed)
        self.opt_out = OptOut(self.database, self.announcer, settings.hash_key, self._suppressed)
        policy = AddressPolicy.of(settings.allowed_private_hosts)
        connections = settings.concurrency + settings.look_ups
        self.fleet = Fleet(
            self.definitions.providers,
            self.definitions.groups,
            AdapterParts(
                lambda: AiohttpPort(connection_limit=connections, policy=policy), self.inbox, self.receipts.keep, clock
            ),
            settings.sealing_key,
            settings.public_url,
        )
        self.settler = Settler(
            self.database, self.announcer, database_clock, settings.hash_key, self.health.check("postgres"),
            on_requeued=self._requeued, on_accepted=self.receipts.settled,
            on_suppressed=self._suppressed,
        )  # fmt: skip
        sending = Sending(
            self.database, database_clock, clock, self.owner, self.definitions, settings.concurrency,
            self.settler.put, self.fleet.has_another, self.fleet.may_carry, self._room,
        )  # fmt: skip
        self.fleet.bind(sending)
        self.sweeper = Sweeper(self.database, self.definitions, self.announcer, self._requeued)
        self.claimer = Claimer(sending, self.fleet, self.pool, self.health.check("postgres"), self.sweeper.look_at)
        self.resolver = Resolver(
            self.database, database_clock, self.owner, self.fleet, self.definitions, self.announcer,
            self.settler.put, settings.look_ups,
        )  # fmt: skip
        self.trials = Trials(sending, self.fleet, self.pool, self.announcer, settings.hash_key)
        self.definitions.campaigns[TEST_CAMPAIGN] = standing_campaign()
        self.retention = Retention(self.database, settings.retention_days)
        self.intakes = [
            self._intake(config, lane, group) for lane, group in ((LIVE, "dispatcher"), (BULK, "dispatcher-bulk"))
        ]

    def _intake(self, config: KafkaConfig, lane: int, group: str) -> ConsumerLoop[Any]:
        intake = Intake(lane, self.settings.hash_key, self._requeued)
        return ConsumerLoop(
            config, self.database, self.outbox, group, [SEND_JOBS if lane == LIVE else SEND_JOBS_BULK], decode,
            intake.handle, max_records=INTAKE_BATCH, after_commit=intake.after_commit,
            check=self.health.check(f"intake {group}"),
        )  # fmt: skip

    # Who hears what. Parts do not know each other: they are joined here.

    def _changed(self, definition: Definition) -> None:
        self.fleet.changed(definition)
        self.sweeper.changed(definition)
        self.claimer.woken()

    def _requeued(self, queues: set[tuple[int, str]]) -> None:
        self.claimer.woken(self.trials.woken(queues))

    def _room(self) -> None:
        self.claimer.woken()

    def _suppressed(self, phone_hash: bytes) -> None:
        self.sweeper.suppressed(phone_hash)

    # Life

    async def send(self, stop: asyncio.Event) -> None:
        stages = [
            [
                *(loop.run for loop in self.intakes),
                self.claimer.run,
                self.resolver.run,
                self.sweeper.run,
                self.retention.run,
                self.trials.run,
            ],
            [self.fleet.run],
            [self.settler.run, self.receipts.run],
            [self.announcer.run],
            [self.outbox.run_relay],
        ]
        await run_stages(stages, stop, self.definitions.wait_until_read())

    def components(self) -> list[Component]:
        return [
            Component("definitions", self._read_definitions),
            Component("sending", self.send),
        ]

    async def _read_definitions(self, stop: asyncio.Event) -> None:
        await self.definitions.run(stop)

    def app(self) -> FastAPI:
        app = FastAPI(title="Postrider dispatcher", docs_url=None, redoc_url=None)
        http_manners.install(app)
        app.include_router(probes.router(self.health))
        app.include_router(
            callbacks.router(
                self.fleet, self.receipts, self.opt_out, self.settings.public_url, self.settings.max_callback_bytes
            )
        )
        token = self.settings.service_token.get_secret_value()
        app.include_router(internal.router(token, self.database, self.inbox, self.opt_out, self.fleet))
        app.include_router(trying.router(token, self.fleet, self.trials, self.definitions, SystemClock()))
        return app

    async def close(self) -> None:
        await self.publisher.stop()
        await self.pool.aclose()
        await self.database.close()


def prefer_indexes(database: Database) -> None:
    """Every statement here reaches its rows by an index. Plans are kept per connection and may be older than the
    table's statistics: one made while the ledger was empty would scan it for ever."""

    @event.listens_for(database.engine.sync_engine, "connect")
    def on_connect(connection: Any, _: Any) -> None:
        cursor = connection.cursor()
        for setting in ("enable_seqscan", "enable_hashjoin", "enable_mergejoin"):
            cursor.execute(f"SET {setting} = off")
        cursor.close()


@asynccontextmanager
async def build(settings: Settings) -> AsyncIterator[Service]:
    dispatcher = Dispatcher(settings)
    try:
        await dispatcher.publisher.start()
        yield Service(
            dispatcher.app(), dispatcher.health, settings.bind_host, settings.port, dispatcher.components(),
            settings.drain_seconds, [dispatcher.outbox.flush],
        )  # fmt: skip
    finally:
        await dispatcher.close()
