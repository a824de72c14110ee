"""Composition root: the one place that builds the scheduler and knows every part of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial

from fastapi import FastAPI

from postrider import http_manners
from postrider.contracts.definitions import AccountSettings
from postrider.contracts.topics import (
    ACCOUNT_SETTINGS,
    CAMPAIGN_DEFINITIONS,
    DELIVERY_EVENTS,
    QUALIFIED_USERS,
    QUALIFIED_USERS_BULK,
)
from postrider.health import Health
from postrider.health import router as health_router
from postrider.kafka.definitions import DefinitionsReader
from postrider.kafka.loop import ConsumerLoop
from postrider.kafka.publisher import Publisher
from postrider.postgres.database import open_database, schema_of, service_url
from postrider.postgres.outbox import Outbox
from postrider.postgres.silent_sessions import SilentSessions
from postrider.runtime import Component, Service, closing
from scheduler.api import auth
from scheduler.api import caps as caps_api
from scheduler.api import runs as runs_api
from scheduler.handlers import audiences, live, settlements
from scheduler.handlers.campaigns import Campaigns
from scheduler.handlers.planning import Planner
from scheduler.handlers.timers import Timers
from scheduler.loops.definitions import DefinitionsFollower
from scheduler.loops.letters import Letters
from scheduler.loops.sweep import Sweep
from scheduler.loops.timers import TimerLoop
from scheduler.records import SOURCE, Records
from scheduler.settings import Settings

NAME = "scheduler"
LIVE_GROUP = "scheduler"
BULK_GROUP = "scheduler-bulk"
SESSION_SECONDS = 6.0
"""What a scheduler that died was expanding goes on elsewhere within ten seconds; one that stood still is fenced, and
what it holds in Postgres is taken from it after as long."""
LIVE_RECORDS = 500
SETTLEMENTS = 2_000
BULK_PAGES = 4
"""Of a batch: each page is a thousand jobs and log rows."""

Run = Callable[[asyncio.Event], Awaitable[None]]


@asynccontextmanager
async def build(settings: Settings) -> AsyncIterator[Service]:
    health = Health()
    config = replace(settings.kafka(NAME, settings.port), session_seconds=SESSION_SECONDS)
    url = settings.service_database_url or service_url(settings.database_url, NAME)
    database = open_database(url, schema_of(NAME))
    publisher = Publisher(config, health.check("kafka"))
    async with closing(database.close, publisher.stop):
        await publisher.start()
        health.check("kafka").up()
        outbox = Outbox(database, publisher, SOURCE, settings.topic_prefix)
        await outbox.recover()
        records = Records(outbox)
        wake = asyncio.Event()
        planner = Planner(records, timedelta(seconds=settings.snapshot_lead_seconds))
        follower = DefinitionsFollower(database, outbox, Campaigns(records, planner), wake.set)
        topics = [CAMPAIGN_DEFINITIONS, ACCOUNT_SETTINGS]
        reader = DefinitionsReader(config, topics, follower.on_change, health.check("definitions"))

        def account() -> AccountSettings:
            return reader.settings

        answers = audiences.Audiences(records, planner, account, wake.set)
        timers = Timers(records, planner, account, settings.page_size)
        steps = (
            timers.request_audiences,
            timers.fire_zones,
            timers.expire_held_zones,
            answers.expand_parked,
            timers.finish_runs,
        )
        timer_loop = TimerLoop(database, outbox, steps, wake, health.check("timers"))
        bulk = ConsumerLoop(
            config,
            database,
            outbox,
            BULK_GROUP,
            [QUALIFIED_USERS_BULK],
            audiences.decode,
            answers.handle,
            max_records=BULK_PAGES,
            after_commit=answers.after_commit,
            check=health.check("audiences"),
        )
        qualifications = live.LiveQualifications(records, reader)
        lane = ConsumerLoop(
            config,
            database,
            outbox,
            LIVE_GROUP,
            [QUALIFIED_USERS],
            live.decode,
            qualifications.handle,
            max_records=LIVE_RECORDS,
            check=health.check("qualified_users"),
        )

        settled = ConsumerLoop(
            config,
            database,
            outbox,
            settlements.GROUP,
            [DELIVERY_EVENTS],
            settlements.decode,
            settlements.handle,
            max_records=SETTLEMENTS,
            check=health.check("settlements"),
        )

        async def follow(stop: asyncio.Event) -> None:
            await follower.run(reader, stop)

        async def when_aligned(run: Run, stop: asyncio.Event) -> None:
            await _unless_stopped(follower.aligned, stop)
            await run(stop)

        app = FastAPI(title="Postrider scheduler", docs_url=None, redoc_url=None, openapi_url=None)
        http_manners.install(app)
        app.include_router(health_router(health))
        is_ours = auth.require(settings.service_token.get_secret_value())
        app.include_router(runs_api.router(database, is_ours))
        app.include_router(caps_api.router(database, account, is_ours))
        yield Service(
            app=app,
            health=health,
            host=settings.bind_host,
            port=settings.port,
            components=[
                Component("definitions", reader.run),
                Component("definitions_follower", follow),
                Component("timers", partial(when_aligned, timer_loop.run)),
                Component("audiences", partial(when_aligned, bulk.run)),
                Component("qualified_users", partial(when_aligned, lane.run)),
                Component("settlements", settled.run),
                Component("letters", Letters(database, settings.mail_server, account).run),
                Component("outbox_relay", outbox.run_relay),
                Component("silent_sessions", SilentSessions(database, SESSION_SECONDS).run),
                Component("sweep", Sweep(database, settings.live_memory_days).run),
            ],
            drain_seconds=settings.drain_seconds,
            on_stopped=[outbox.flush],
        )


async def _unless_stopped(happened: asyncio.Event, stop: asyncio.Event) -> None:
    """Until it has happened, or nothing is wanted any more."""
    waits = [asyncio.create_task(happened.wait()), asyncio.create_task(stop.wait())]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
