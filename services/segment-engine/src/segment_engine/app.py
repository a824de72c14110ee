"""The composition root: builds the process's parts, in the order in which they need each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from postrider.clock import SystemClock
from postrider.contracts.topics import (
    ACCOUNT_SETTINGS,
    AUDIENCE_REQUESTS,
    CAMPAIGN_DEFINITIONS,
    DELIVERY_EVENTS,
    SEGMENT_DEFINITIONS,
    SUPPRESSIONS,
    USER_EVENTS,
    Topic,
)
from postrider.health import Check, Health
from postrider.kafka.definitions import DefinitionsReader
from postrider.kafka.log_ends import LogEnds
from postrider.kafka.loop import ConsumerLoop
from postrider.kafka.publisher import Publisher
from postrider.postgres.database import open_database, service_url
from postrider.postgres.outbox import Outbox
from postrider.runtime import CannotStart, Component, Service
from postrider.sms.render_pool import RenderPool
from segment_engine.adapters.dedup_table import DedupTable
from segment_engine.api.application import Services, make_app
from segment_engine.domain.live_campaigns import LiveCampaigns
from segment_engine.domain.wait_kinds import ReadUntil
from segment_engine.event_store.chdb_store import ChdbStore
from segment_engine.event_store.clickhouse_http import ClickHouseStore, Server
from segment_engine.event_store.port import EventStore, StoreFailed, StoreInUse
from segment_engine.loops import audience_intake, history, live, messages, suppressions
from segment_engine.loops.alignments import Alignments
from segment_engine.loops.audience_intake import AudienceIntake, WakeUps
from segment_engine.loops.barrier import Barrier, Follower
from segment_engine.loops.catalog_keeper import CatalogKeeper
from segment_engine.loops.copier import ProfileCopier
from segment_engine.loops.erasures import Erasures
from segment_engine.loops.estimates import Estimator
from segment_engine.loops.firing import Firing
from segment_engine.loops.history import History
from segment_engine.loops.live import Live
from segment_engine.loops.live_barrier import LiveBarrier
from segment_engine.loops.messages import Messages
from segment_engine.loops.page_streams import PageStreams
from segment_engine.loops.phone_reading import PhoneReading
from segment_engine.loops.placement import Placement
from segment_engine.loops.settlements import Settlements
from segment_engine.loops.snapshots import Snapshots
from segment_engine.loops.suppressions import Suppressions
from segment_engine.loops.sweep import Sweep
from segment_engine.loops.told_barrier import ToldBarrier
from segment_engine.loops.wait_filters import WaitFilters
from segment_engine.loops.wait_sweep import WaitSweep
from segment_engine.loops.work import unless
from segment_engine.settings import Settings

SERVICE = "segment-engine"
POOL_SIZE = 16

MakeStore = Callable[[Path, Check], EventStore]
"""The store in a folder; the check tells whether it can write."""


def store_of(settings: Settings, check: Check, make_embedded: MakeStore = ChdbStore) -> EventStore:
    """Not open yet."""
    if settings.clickhouse_url is None:
        assert settings.event_store_path is not None
        return make_embedded(settings.event_store_path, check)
    server = Server(
        settings.clickhouse_url,
        settings.clickhouse_user,
        settings.clickhouse_password.get_secret_value(),
        settings.clickhouse_database,
        settings.clickhouse_cluster,
        settings.clickhouse_ca_file,
    )
    return ClickHouseStore(server, check)


async def refuse_half_a_history(store: EventStore) -> None:
    """Rules that ask what did not happen would hold for too many. Raises `CannotStart`."""
    begun = await store.refill()
    if begun is not None:
        await store.close()
        raise CannotStart(
            f"the event store has half a history: the replay from {begun.source} was stopped. The same replay goes on "
            "(docs/imports.md), with --replace it begins anew"
        )


@asynccontextmanager
async def build(settings: Settings, make_store: MakeStore = ChdbStore) -> AsyncIterator[Service]:
    clock = SystemClock()
    health = Health(clock)
    kafka = settings.kafka(SERVICE, settings.port)
    phone_key = settings.phone_hash_key_bytes
    async with AsyncExitStack() as closing:
        store_check = health.check("event_store")
        store = store_of(settings, store_check, make_store)
        try:
            await store.open()
            await refuse_half_a_history(store)
        except StoreInUse as error:
            raise CannotStart(f"POSTRIDER_EVENT_STORE_PATH: {error}") from error
        except StoreFailed as error:
            if settings.clickhouse_url is None:
                raise
            raise CannotStart(f"POSTRIDER_CLICKHOUSE_URL: {settings.clickhouse_url}: {error}") from error
        except OSError as error:
            raise CannotStart(
                f"POSTRIDER_EVENT_STORE_PATH: {settings.event_store_path} cannot be used ({error.strerror})"
            ) from error
        store_check.up()
        closing.push_async_callback(store.close)
        url = settings.service_database_url or service_url(settings.database_url, SERVICE)
        database = open_database(url, "segment_engine", POOL_SIZE)
        closing.push_async_callback(database.close)
        publisher = Publisher(kafka, health.check("kafka"))
        closing.push_async_callback(publisher.stop)
        await publisher.start()
        outbox = Outbox(database, publisher, SERVICE, settings.topic_prefix, clock)
        await outbox.recover()
        ends = LogEnds(kafka, [USER_EVENTS, SUPPRESSIONS])
        closing.push_async_callback(ends.close)
        placement = Placement(await ends.partitions_of(USER_EVENTS))

        event_dedup = DedupTable(database, "event_dedup", settings.dedup_horizon_days)
        identify_dedup = DedupTable(database, "identify_dedup", settings.dedup_horizon_days)
        copier = ProfileCopier(database, store, phone_key)
        wake_ups = WakeUps()

        def definitions_changed(definition: object) -> None:
            live_group.definitions_changed(definition)
            phone_reading.wake()
            alignments.wake()

        definitions = DefinitionsReader(
            kafka,
            [CAMPAIGN_DEFINITIONS, SEGMENT_DEFINITIONS, ACCOUNT_SETTINGS],
            definitions_changed,
            health.check("definitions"),
            clock,
        )
        read_until = ReadUntil()
        live_group = Live(
            outbox, identify_dedup, definitions, placement, read_until, copier.wake,
            lambda due_at: armed(due_at), settings.dedup_key_bytes, phone_key, settings.dedup_horizon_days,
        )  # fmt: skip
        history_group = History(store, event_dedup, placement, settings.dedup_key_bytes, settings.dedup_horizon_days)
        intake = AudienceIntake(wake_ups)
        message_log = Messages(store)
        suppressed = Suppressions(store)

        def loop(group: str, topics: Sequence[Topic], handler: Any, **options: Any) -> ConsumerLoop[Any]:
            check = health.check(group)
            return ConsumerLoop(
                kafka, database, outbox, group, topics, handler.decode, handler.handle,
                check=check, clock=clock, **options,
            )  # fmt: skip

        # What the event store refuses is no fault of a record: a planned group waits while the store cannot write, any
        # other failure stops the process, and no batch is ever given up as a dead letter.
        live_loop = loop(
            live.GROUP, [USER_EVENTS], live_group,
            max_records=live.MAX_RECORDS, pace_seconds=live.PACE_SECONDS, after_commit=live_group.committed,
        )  # fmt: skip
        history_loop = loop(
            history.GROUP, [USER_EVENTS], history_group,
            max_records=history.MAX_RECORDS, max_bytes=history.MAX_BYTES, linger_seconds=history.LINGER_SECONDS,
            planned=True, lanes=history.LANES,
        )  # fmt: skip
        intake_loop = loop(audience_intake.GROUP, [AUDIENCE_REQUESTS], intake, after_commit=intake.committed)
        messages_loop = loop(
            messages.GROUP, [DELIVERY_EVENTS], message_log,
            max_records=messages.MAX_RECORDS, linger_seconds=messages.LINGER_SECONDS, planned=True,
        )  # fmt: skip
        suppressions_loop = loop(suppressions.GROUP, [SUPPRESSIONS], suppressed, planned=True)

        events = frozenset({USER_EVENTS.full_name(settings.topic_prefix)})
        followers = [
            Follower(live.GROUP, live_loop, events),
            Follower(history.GROUP, history_loop, events),
            Follower(suppressions.GROUP, suppressions_loop, frozenset({SUPPRESSIONS.full_name(settings.topic_prefix)})),
        ]
        barrier = Barrier(database, ends, followers[0], followers[1:], copier, definitions)

        # A connection of its own: a firing must not wait for an answer that somebody else asked for.
        event_ends = LogEnds(kafka, [USER_EVENTS])
        closing.push_async_callback(event_ends.close)
        live_barrier = LiveBarrier(database, event_ends, followers[0], followers[1], copier, definitions)

        def campaigns() -> LiveCampaigns:
            return live_group.campaigns

        def partitions() -> list[int]:
            return sorted(partition for _, partition in live_loop.positions)

        filters = WaitFilters(store, definitions, clock)
        firing, firing_filtered = (
            Firing(
                database, outbox, definitions, campaigns, live_barrier, of, read_until, partitions, phone_key
            )
            for of in (None, filters)
        )  # fmt: skip

        def armed(due_at: datetime) -> None:
            firing.armed(due_at)
            firing_filtered.armed(due_at)

        alignments = Alignments(
            database, store, definitions, campaigns, live_barrier, live_group.waits, read_until, armed
        )
        wait_sweep = WaitSweep(database, live_barrier, campaigns, read_until, partitions)
        erasures = Erasures(database, store, live_group.forget)
        phone_reading = PhoneReading(
            database, definitions, campaigns, live_group.waits, copier.wake, armed
        )  # fmt: skip
        renderer = RenderPool()
        closing.push_async_callback(renderer.aclose)
        estimator = Estimator(database, store, renderer)
        told_ends = LogEnds(kafka, [DELIVERY_EVENTS])
        closing.push_async_callback(told_ends.close)
        told = frozenset({DELIVERY_EVENTS.full_name(settings.topic_prefix)})
        told_barrier = ToldBarrier(database, told_ends, Follower(messages.GROUP, messages_loop, told))
        snapshots = Snapshots(database, outbox, store, definitions, barrier, told_barrier, wake_ups, clock)
        streams = PageStreams(database, outbox, store, definitions, wake_ups, phone_key)

        live_is_over = asyncio.Event()

        async def run_definitions(stop: asyncio.Event) -> None:
            """Until the live group, whose last batch may ask for them, is over."""
            stop_definitions = asyncio.Event()
            reading = asyncio.ensure_future(definitions.run(stop_definitions))
            following = asyncio.ensure_future(live_is_over.wait())
            try:
                await asyncio.wait([reading, following], return_when=asyncio.FIRST_COMPLETED)
                stop_definitions.set()
                await reading
            finally:
                reading.cancel()
                following.cancel()

        async def run_live(stop: asyncio.Event) -> None:
            try:
                if await unless(stop, definitions.wait_until_read()):
                    await live_loop.run(stop)
            finally:
                live_is_over.set()

        def after_definitions(component: Component) -> Component:
            async def run(stop: asyncio.Event) -> None:
                if await unless(stop, definitions.wait_until_read()):
                    await component.run(stop)

            return Component(component.name, run)

        components = [
            Component("definitions", run_definitions),
            Component("outbox", outbox.run_relay),
            Component("copier", copier.run),
            Component("live", run_live),
            Component("history", history_loop.run),
            after_definitions(Component("firing", firing.run)),
            after_definitions(Component("firing_filtered", firing_filtered.run)),
            after_definitions(Component("alignments", alignments.run)),
            after_definitions(Component("wait_sweep", wait_sweep.run)),
            Component("suppressions", suppressions_loop.run),
            Component("messages", messages_loop.run),
            Component("audiences", intake_loop.run),
            after_definitions(Component("snapshots", snapshots.run)),
            after_definitions(Component("page_streams", streams.run)),
            after_definitions(Component("phone_reading", phone_reading.run)),
            Component("erasures", erasures.run),
            Component("catalog", CatalogKeeper(store).run),
            Component("settlements", Settlements(database, store, wake_ups).run),
            Component("sweep", Sweep([event_dedup, identify_dedup], clock).run),
        ]
        app = make_app(
            Services(
                database,
                store,
                definitions,
                barrier,
                clock,
                settings.service_token.get_secret_value(),
                estimator,
                erasures,
                phone_key,
            ),
            health,
        )
        yield Service(
            app, health, settings.bind_host, settings.port, components, settings.drain_seconds, [outbox.flush]
        )
