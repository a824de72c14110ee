"""The composition root: builds every part of the dispatcher once, and says how they hang together."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from dispatcher.announcer import Announcer
from dispatcher.calls import Sending
from dispatcher.claimer import Claimer
from dispatcher.database_clock import DatabaseClock
from dispatcher.domain.fence import CONFIRMED_WITHIN_SECONDS
from dispatcher.domain.message import BULK, LANES, LIVE, TEST_CAMPAIGN
from dispatcher.egress import AddressPolicy, Names
from dispatcher.fleet import Fleet
from dispatcher.http_httptools import HttptoolsPort
from dispatcher.intake import Intake, decode
from dispatcher.opt_out import OptOut
from dispatcher.opt_out_news import OptOutNews
from dispatcher.providers.registry import AdapterParts
from dispatcher.receipts import Receipts
from dispatcher.replies import AT_ONCE as REPLIES_AT_ONCE
from dispatcher.replies import Replies
from dispatcher.resolver import Resolver
from dispatcher.retention import Retention
from dispatcher.sealed import Keys
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
from postrider.postgres.database import open_database, service_url
from postrider.postgres.outbox import Outbox
from postrider.runtime import Component, Service
from postrider.sms.render_pool import RenderPool

DEFINITIONS = (CAMPAIGN_DEFINITIONS, PROVIDER_DEFINITIONS, ACCOUNT_SETTINGS)
INTAKE_BATCH = 1_000
PREFER_INDEXES = dict.fromkeys(("enable_seqscan", "enable_hashjoin", "enable_mergejoin"), "off")
"""Every statement here reaches its rows by an index. Plans are kept per connection and may be older than the table's
statistics: one made while the ledger was empty would scan it for ever."""


class Dispatcher:
    """The parts of one process. `clock` is for tests."""

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        clock = clock or SystemClock()
        self.settings = settings
        self.health = Health()
        self.owner = secrets.token_hex(8)
        config = settings.kafka("dispatcher", settings.port)
        url = settings.service_database_url or service_url(settings.database_url, "dispatcher")
        self.database = open_database(url, "dispatcher", settings.database_connections, server_settings=PREFER_INDEXES)
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
        self.replies = Replies(self.database, clock, self.owner, lambda: self.definitions.settings)
        self.receipts = Receipts(self.database, self.announcer, settings.hash_key, self._suppressed, self.replies)
        self.news = OptOutNews(self.database, clock)
        self.opt_out = OptOut(self.database, self.announcer, settings.hash_key, self._suppressed, self.replies)
        self.keys = Keys(settings.sealing_keys)
        policy = AddressPolicy.of(settings.allowed_private_hosts)
        self.names = Names()
        connections = settings.concurrency + settings.look_ups + REPLIES_AT_ONCE
        self.fleet = Fleet(
            self.definitions.providers,
            self.definitions.groups,
            AdapterParts(
                lambda: HttptoolsPort(connection_limit=connections, policy=policy, resolve=self.names.resolve),
                self.inbox,
                self.receipts.keep,
                clock,
            ),
            self.keys,
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
            spills=self.fleet.spills, has_room_elsewhere=self.fleet.has_room_elsewhere, may_text=self.news.allows,
        )  # fmt: skip
        self.fleet.bind(sending)
        self.replies.bind(self.fleet, self.opt_out.suppress)
        self.sweeper = Sweeper(self.database, self.definitions, self.announcer, self._requeued)
        self.claimer = Claimer(sending, self.fleet, self.pool, self.health.check("postgres"), self.sweeper.look_at)
        self.resolver = Resolver(
            self.database, database_clock, self.owner, self.fleet, self.definitions, self.announcer,
            self.settler.put, settings.look_ups, self.news,
        )  # fmt: skip
        self.trials = Trials(sending, self.fleet, self.pool, self.announcer, settings.hash_key)
        self.definitions.campaigns[TEST_CAMPAIGN] = standing_campaign()
        self.retention = Retention(self.database, settings.retention_days)
        self.intakes = {
            lane: self._intake(config, lane, group) for lane, group in ((LIVE, "dispatcher"), (BULK, "dispatcher-bulk"))
        }

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
                self.claimer.run,
                self.resolver.run,
                self.sweeper.run,
                self.retention.run,
                self.replies.run,
                self.trials.run,
            ],
            [self.fleet.run, self.news.run],
            [self.settler.run, self.receipts.run],
            [self.announcer.run],
            [self.outbox.run_relay],
        ]
        await run_stages(stages, stop, self.definitions.wait_until_read())

    def components(self) -> list[Component]:
        return [
            Component("definitions", self._read_definitions),
            Component("sending", self.send),
            # Apart: leaving Kafka's groups can take longer than a drain, and calls under way must not wait for it.
            *(Component(f"intake {LANES[lane]}", loop.run) for lane, loop in self.intakes.items()),
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
        app.include_router(internal.router(token, self.database, self.inbox, self.opt_out, self.fleet, self.keys))
        app.include_router(trying.router(token, self.fleet, self.trials, self.definitions, SystemClock()))
        return app

    async def close(self) -> None:
        await self.publisher.stop()
        await self.pool.aclose()
        self.names.close()
        await self.database.close()


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
