"""The parts that a simulation plays are asked what the real ones are asked, and the real audience is the played one."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from postrider.contracts import codec
from postrider.contracts.audience import (
    PAGE,
    SNAPSHOT_REQUESTED,
    SNAPSHOTTED,
    ZONE_REQUESTED,
    AudiencePage,
    AudienceSnapshotted,
    BestTime,
    SnapshotRequested,
    ZoneRequested,
)
from postrider.contracts.definitions import AccountSettings, CampaignDefinition, Trigger, Unless, What, When, Who
from postrider.contracts.delivery_events import MESSAGE_CHANGED, MessageChanged
from postrider.contracts.envelope import Outgoing, envelope_of
from postrider.contracts.qualified import QualifiedUser
from postrider.contracts.send_jobs import Interval, SendJob
from postrider.contracts.topics import AUDIENCE_REQUESTS, DELIVERY_EVENTS, QUALIFIED_USERS_BULK, SEND_JOBS
from postrider.kafka.clients import KafkaConfig
from postrider.kafka.publisher import Publisher
from postrider.kafka.topics import create_topics
from postrider.zones import load_zone
from tests.simulation import conformance
from tests.simulation.bus import PlayedBus, Record
from tests.simulation.dispatcher import PlayedDispatcher
from tests.simulation.engine import PlayedEngine
from tests.simulation.plans import Plan, Version, rule_of
from tests.simulation.world import Event, Person, World, make_world
from tests.support import waits
from tests.support.dispatching import dispatching
from tests.support.dispatching import stage as dispatcher_stage
from tests.support.eventually import eventually
from tests.support.segment_engine import Engine, engine, identify, live_campaign, track
from tests.support.topic_log import TopicLog

pytestmark = pytest.mark.integration
PAGE_SIZE = 3
ENDS = {"DELIVERED", "EXPIRED", "FAILED", "CANCELLED"}
NOW = datetime.now(UTC)


def asked(run: str, best_time: BestTime | None) -> SnapshotRequested:
    return SnapshotRequested(
        run, "cmp_1", "once", 7, NOW, rule_of(0), None, account_control_percent=10.0, control_percent=20.0,
        reach_percent=70.0, best_time=best_time,
    )  # fmt: skip


def played_answer(world: World, request: SnapshotRequested) -> conformance.Answer:
    played = PlayedEngine(world, {}, "played.")
    snapshot = played.snapshot(request, NOW)
    return snapshot, {zone: list(played.pages(zone_request(request, zone), NOW)) for zone in snapshot.zones}


def zone_request(request: SnapshotRequested, zone: str) -> ZoneRequested:
    return ZoneRequested(request.run_id, "cmp_1", "once", zone, 1, [], PAGE_SIZE)


async def tell(made: Engine, person: Person, account_zone: str) -> None:
    traits: dict[str, object] = {"groups": sorted(person.groups), "phone": person.phone or None}
    said = [zone for since, zone in person.zones if since <= NOW][-1]
    traits |= {"timezone": said} if said else {}
    traits |= {} if person.has_consent else {"sms_consent": False}
    await made.send(identify(person.user, f"i-{person.user}", **traits))
    if person.bucket is not None:
        day = datetime.combine(NOW.date() - timedelta(days=2), datetime.min.time(), UTC)
        at = day + timedelta(hours=person.bucket, minutes=30)
        local = at.replace(tzinfo=None) - offset_of(person.zone_at(NOW, account_zone), at)
        event = track(person.user, f"e-{person.user}", "Opened") | {"timestamp": local.isoformat() + "Z"}
        await made.send(event | {"historic": True})


def offset_of(zone: str, at: datetime) -> timedelta:
    return at.astimezone(load_zone(zone)).utcoffset() or timedelta(0)


async def answers(made: Engine, request: SnapshotRequested) -> conformance.Answer:
    await made.tell(AUDIENCE_REQUESTS, request.run_id, SNAPSHOT_REQUESTED, request)

    async def snapshots() -> list[AudienceSnapshotted]:
        found = await made.published(QUALIFIED_USERS_BULK, SNAPSHOTTED, AudienceSnapshotted)
        return [each for each in found if each.run_id == request.run_id]

    snapshot = (await eventually(snapshots))[0]
    for zone in snapshot.zones:
        await made.tell(AUDIENCE_REQUESTS, request.run_id, ZONE_REQUESTED, zone_request(request, zone))

    async def pages() -> dict[str, list[AudiencePage]]:
        zones: dict[str, list[AudiencePage]] = {}
        for page in await made.published(QUALIFIED_USERS_BULK, PAGE, AudiencePage):
            if page.run_id == request.run_id:
                zones.setdefault(page.zone, []).append(page)
        whole = {
            zone for zone, found in zones.items() if sum(len(each.users) for each in found) == snapshot.zones[zone]
        }
        return zones if whole == snapshot.zones.keys() else {}

    zones = await eventually(pages)
    return snapshot, {zone: sorted(found, key=lambda page: page.page) for zone, found in zones.items()}


def who_did_nothing(world: World, at: datetime) -> Plan:
    """A campaign for inaction, and people who did one thing and another about that moment."""
    trigger = Trigger("A", unless=Unless("B"), within_seconds=int(conformance.INACTION_SPAN.total_seconds()))
    campaign = live_campaign(
        "", campaign_id="cmp_in", kind="live_inaction", who=Who(trigger=trigger), scheduled_at=NOW - timedelta(hours=1)
    )
    plan = Plan("cmp_in", "live_inaction", 0, [Version(NOW - timedelta(hours=1), campaign)])
    for user, did in zip(world.people, conformance.INACTIONS.values(), strict=False):
        plan.events += [
            Event(f"{user}-{number}", user, name, at + since, at + since) for number, (name, since) in enumerate(did)
        ]
    return plan


def played_qualified(world: World, plan: Plan) -> list[QualifiedUser]:
    played = PlayedEngine(world, {plan.id: plan}, "played.")
    while (at := played.next_at()) is not None:
        played.turn(at)
    return [said for _, said in played.qualified]


async def really_qualified(made: Engine, plan: Plan, expected: int) -> list[QualifiedUser]:
    """An hour after all was told."""
    await made.define(plan.versions[-1].definition)
    await made.send(
        *(track(it.user, it.id, it.name) | {"timestamp": it.at.isoformat()} for it in plan.events),
    )
    await eventually(lambda: waits.waits(made))
    await waits.move_clock(made, timedelta(hours=1))
    await eventually(lambda: waits.qualified(made, expected))
    await eventually(lambda: waits.armed(made, 0))
    return await waits.qualified(made)


async def test_the_played_audience_is_the_real_one(
    kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str, tmp_path: Path
) -> None:
    world = make_world(3, NOW - timedelta(days=20), 20, 90)
    world.people = {user: replace(person, suppressed_at=None) for user, person in world.people.items()}
    settings = AccountSettings(version=1, account_time_zone=world.account_zone)
    requests = [asked("run_user", None), asked("run_best", BestTime("Opened", "18:30"))]
    async with engine(kafka, await fresh_database(), topic_prefix, tmp_path / "store") as made, made.running():
        await made.define_settings(settings)
        for person in world.people.values():
            await tell(made, person, world.account_zone)
        for request in requests:
            played, real = played_answer(world, request), await answers(made, request)
            conformance.audience(played, PAGE_SIZE)
            conformance.audience(real, PAGE_SIZE)
            conformance.same_audience(real, played)
        plan = who_did_nothing(world, datetime.now(UTC))
        told = played_qualified(world, plan)
        conformance.same_qualified(await really_qualified(made, plan, len(told)), told)
    assert {user.verdict for pages in real[1].values() for page in pages for user in page.users} >= {
        "", "control", "not_in_reach", "unreachable",
    }  # fmt: skip


async def test_the_played_bus_keeps_order_as_kafka_does(kafka: str, topic_prefix: str) -> None:
    played = PlayedBus(random.Random(1))

    async def read_played() -> Sequence[Record]:
        return [record for log in played.logs["t"] for record in log]

    await conformance.bus(played.publish, read_played, "t")
    config = KafkaConfig(kafka, topic_prefix + ".")
    await create_topics(config)
    publisher, topic = Publisher(config), SEND_JOBS.full_name(config.topic_prefix)

    async def read_real() -> Sequence[conformance.Read]:
        log = TopicLog(config)
        try:
            records = await log.read(topic)
        finally:
            await log.close()
        return sorted(records, key=lambda record: (record.partition, record.offset))

    await publisher.start()
    try:
        await conformance.bus(publisher.publish, read_real, topic)
    finally:
        await publisher.stop()


async def test_played_outcomes_are_told_as_the_dispatcher_tells_them(
    kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str
) -> None:
    now = datetime.now(UTC)
    async with dispatcher_stage(kafka, await fresh_database(), topic_prefix) as stage:
        await stage.provider("prv_a")
        await stage.group(["prv_a"])
        await stage.campaign()
        missed = [Interval(now - timedelta(hours=2), now - timedelta(hours=1))]
        jobs = [
            *stage.jobs(20), stage.job(send_by=now), stage.job(allowed=missed), stage.job("cmp_gone"),
        ]  # fmt: skip
        async with dispatching(stage):
            await stage.order(jobs)

            async def is_over() -> bool:
                states = await stage.states()
                return sum(states.values()) == len(jobs) and states.keys() <= {
                    "DELIVERED",
                    "EXPIRED",
                    "FAILED",
                    "CANCELLED",
                }

            await eventually(is_over)
        records = sorted(await stage.read(DELIVERY_EVENTS), key=lambda record: (record.partition, record.offset))
    real = rows_of([(record.headers, record.value) for record in records])
    conformance.outcomes(real)
    assert {row.status for row in real} >= {"delivered", "expired", "quiet_hours", "cancelled"}
    conformance.outcomes(played_outcomes(stage.jobs(200), now))


def played_outcomes(jobs: list[SendJob], now: datetime) -> list[MessageChanged]:
    campaign = CampaignDefinition(
        "cmp_1", 1, "running", "one_time", "n", "transactional", When(), Who(), 1, {"1": What("Hi")}
    )
    played = PlayedDispatcher(
        {"cmp_1": Plan("cmp_1", "one_time", 0, [Version(now - timedelta(days=1), campaign)])}, "p.", 1
    )
    for job in jobs:
        played.take(job)
    said: list[Outgoing] = []
    at: datetime | None = now + timedelta(minutes=1)
    while at is not None:
        said += played.turn(at)
        at = played.next_at()
    rows = rows_of([(record.headers, record.value or b"") for record in said])
    assert {text.status for text in played.texts.values()} == {"delivered", "rejected", "unknown", "expired"}
    return rows


def rows_of(records: Sequence[tuple[Sequence[tuple[str, bytes]], bytes]]) -> list[MessageChanged]:
    """Each row once."""
    found: dict[str, MessageChanged] = {}
    for headers, value in records:
        envelope = envelope_of(headers)
        if envelope.type == MESSAGE_CHANGED:
            found.setdefault(envelope.id, codec.decode(value, MessageChanged))
    return list(found.values())
