"""The composition root: builds everything, connects it, and takes it down again. Nothing else constructs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from campaign_api import delivery
from campaign_api.api.application import create_application
from campaign_api.api.models.account import PREFILLED
from campaign_api.api.services import Services
from campaign_api.definitions import DefinitionPublisher
from campaign_api.handlers import account
from campaign_api.housekeeping import Housekeeping
from campaign_api.resealing import Resealing
from campaign_api.sealing import Sealer
from campaign_api.settings import CampaignApiSettings
from campaign_api.upstream import Part
from postrider.clock import Clock, SystemClock
from postrider.contracts.topics import (
    ACCOUNT_SETTINGS,
    CAMPAIGN_DEFINITIONS,
    DELIVERY_EVENTS,
    PROVIDER_DEFINITIONS,
    SEGMENT_DEFINITIONS,
    USER_EVENTS,
)
from postrider.health import Check, Health
from postrider.kafka.definitions import DefinitionsReader
from postrider.kafka.loop import ConsumerLoop
from postrider.kafka.publisher import Publisher
from postrider.logs import failure, log
from postrider.postgres.database import Database, is_outage, open_database, service_url
from postrider.postgres.outbox import Outbox, PublishFailed
from postrider.runtime import Component, Service

SERVICE = "campaign-api"
SCHEMA = "campaign_api"
WATCH_SECONDS = 30.0


@asynccontextmanager
async def build(
    settings: CampaignApiSettings,
    clock: Clock | None = None,
    internal_transport: httpx.AsyncBaseTransport | None = None,
) -> AsyncIterator[Service]:
    """`internal_transport`: how the other services are reached, when not by HTTP to their addresses (tests)."""
    clock = clock or SystemClock()
    health = Health(clock)
    database = open_database(settings.service_database_url or service_url(settings.database_url, SERVICE), SCHEMA, 20)
    kafka = settings.kafka(SERVICE, settings.port)
    publisher = Publisher(kafka, health.check("kafka"))
    events_publisher = Publisher(kafka)
    outbox = Outbox(database, publisher, SERVICE, settings.topic_prefix, clock)
    definitions = DefinitionPublisher(
        database, publisher, outbox, health.check("postgres"), settings.definitions_wait_seconds
    )
    published = DefinitionsReader(
        kafka,
        [CAMPAIGN_DEFINITIONS, SEGMENT_DEFINITIONS, PROVIDER_DEFINITIONS, ACCOUNT_SETTINGS],
        definitions.seen,
        clock=clock,
        confirm_seconds=WATCH_SECONDS,
        on_unreadable=definitions.overwritten,
    )
    token = settings.service_token.get_secret_value()
    segment_engine = Part("segment-engine", settings.segment_engine_url, token, internal_transport)
    dispatcher = Part("dispatcher", settings.dispatcher_url, token, internal_transport)
    scheduler = Part("scheduler", settings.scheduler_url, token, internal_transport)
    events = delivery.DeliveryEvents(definitions)
    loop = ConsumerLoop(
        kafka, database, outbox, delivery.GROUP, [DELIVERY_EVENTS], delivery.decode, events.apply,
        max_records=1_000, linger_seconds=0.2, after_commit=events.committed, check=health.check("delivery-events"),
        clock=clock,
    )  # fmt: skip
    services = Services(
        database=database,
        definitions=definitions,
        publisher=events_publisher,
        sealer=Sealer(settings.sealing_public_key),
        segment_engine=segment_engine,
        dispatcher=dispatcher,
        scheduler=scheduler,
        clock=clock,
        public_url=settings.public_url.rstrip("/"),
        user_events_topic=USER_EVENTS.full_name(settings.topic_prefix),
        bootstrap_key=settings.bootstrap_key.get_secret_value(),
        ingestion_wait_seconds=settings.ingestion_wait_seconds,
        known_callers={},
    )

    async def prepare_and_publish(stop: asyncio.Event) -> None:
        await _prepare(database, publisher, health.check("postgres"), health.check("kafka"), stop)
        await definitions.run(stop)

    async def end_streams(stop: asyncio.Event) -> None:
        await stop.wait()
        services.stopping.set()

    try:
        yield Service(
            app=create_application(services, health, settings.cors_origins),
            health=health,
            host=settings.bind_host,
            port=settings.port,
            components=[
                Component("definitions", prepare_and_publish),
                Component("published-definitions", published.run),
                Component("delivery-events", loop.run),
                Component("outbox-relay", outbox.run_relay),
                Component("streams", end_streams),
                Component("housekeeping", Housekeeping(database, segment_engine).run),
                Component("resealing", Resealing(database, dispatcher, services.sealer, definitions.wake).run),
            ],
            drain_seconds=settings.drain_seconds,
            on_stopped=[outbox.flush],
        )
    finally:
        for close in (
            events_publisher.stop,
            publisher.stop,
            segment_engine.close,
            dispatcher.close,
            scheduler.close,
            database.close,
        ):
            await close()


async def _prepare(
    database: Database, publisher: Publisher, postgres: Check, kafka: Check, stop: asyncio.Event
) -> None:
    """Settings exist and the broker answers, before anything is published; waits for what is away."""
    while not stop.is_set():
        asked_kafka = False
        try:
            async with database.begin() as tx:
                await account.ensure(tx, PREFILLED)
            postgres.up()
            asked_kafka = True
            await publisher.start()
            kafka.up()
            return
        except Exception as error:
            if not (isinstance(error, PublishFailed) or is_outage(error)):
                raise
            log.warning("start_waits", **failure(error))
            part = kafka if asked_kafka else postgres
            part.down(type(error).__name__)
            await asyncio.sleep(1)
