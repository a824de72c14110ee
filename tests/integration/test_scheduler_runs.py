"""Runs on real Kafka and Postgres: every person counted once and texted at most once, whatever repeats or dies."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import partial

import httpx
import msgspec
import pytest

from postrider.contracts import ids
from postrider.contracts.audience import (
    REFUSED,
    SNAPSHOT_REQUESTED,
    UNEXPANDED_SETTLED,
    AudiencePage,
    AudienceRefused,
    PageUser,
    SnapshotRequested,
    UnexpandedSettled,
)
from postrider.contracts.definitions import CampaignDefinition, References, What, When, Who
from postrider.contracts.topics import QUALIFIED_USERS_BULK, SEND_JOBS_BULK
from postrider.kafka.loop import ConsumerRecord
from tests.support.eventually import eventually
from tests.support.scheduler_stage import TOKEN, Engine, Stage, expected_log, make_stage

pytestmark = pytest.mark.integration

CAMPAIGN = "cmp_stage"
RUN = ids.run_id(CAMPAIGN, "once")
MIXED = ["", "", "unreachable", "", "suppressed", "", "", "duplicate_phone", "cancelled", ""]


@pytest.fixture
async def stage(kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str) -> AsyncIterator[Stage]:
    async with make_stage(kafka, fresh_database, topic_prefix) as stage:
        yield stage


def campaign(
    at: datetime | None = None, status: str = "scheduled", version: int = 1, **when: object
) -> CampaignDefinition:
    local = None if at is None else at.replace(tzinfo=None).isoformat()
    return CampaignDefinition(
        campaign_id=CAMPAIGN,
        version=version,
        status=status,
        kind="one_time",
        name="stage",
        message_class="transactional",
        when=msgspec.structs.replace(When(at=local, time_zone="user"), **when),
        who=Who(rule={"all": []}),
        what_version=1,
        whats={"1": What("Hi {{ Profile.first_name }}", References(["first_name"]))},
        scheduled_at=datetime.now(UTC),
    )


async def state_is(stage: Stage, state: str) -> bool:
    return state in await stage.run_states()


async def is_ready(client: httpx.AsyncClient) -> bool:
    answer = await client.get("/readyz")
    assert answer.status_code == 200, answer.text
    return True


async def zone_cursor(client: httpx.AsyncClient, zone: str) -> int:
    found = await client.get(
        "/internal/runs", params={"campaign_id": CAMPAIGN}, headers={"Authorization": f"Bearer {TOKEN}"}
    )
    zones = {row["zone"]: row for run in found.json()["items"] for row in run["zones"]}
    return int(zones[zone]["expanded_users"]) if zone in zones else -1


async def zone_expanded(client: httpx.AsyncClient, zone: str, people: int) -> bool:
    return await zone_cursor(client, zone) == people


def assert_jobs(jobs: Mapping[str, object], user_ids: set[str]) -> None:
    assert set(jobs) == {ids.message_id(CAMPAIGN, "once", user_id) for user_id in user_ids}


@pytest.mark.parametrize("replicas", [1, 2])
async def test_a_run_from_definition_to_jobs_with_every_page_twice_and_in_any_order(
    stage: Stage, replicas: int
) -> None:
    engine = Engine({"UTC": MIXED * 3, "Asia/Kolkata": MIXED, "America/Lima": [""]}, repeats=2, shuffled=True)
    async with stage.engine(engine), AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(stage.scheduler(f"r{n}", page_size=4)) for n in range(replicas)]
        for client in clients:
            await eventually(partial(is_ready, client), 40)
        await stage.define(campaign())
        await eventually(lambda: state_is(stage, "expanded"), 40)
        await eventually(lambda: is_empty(stage, "outbox"), 20)
        assert await is_empty(stage, "pages_ahead")
        assert (await clients[0].get("/internal/runs", params={"campaign_id": CAMPAIGN})).status_code == 401
    jobs = await stage.jobs(SEND_JOBS_BULK)
    assert_jobs(jobs, engine.user_ids(reachable=True))
    assert {len(copies) for copies in jobs.values()} == {1}
    funnel = await stage.funnel()
    assert funnel == {"pending": 25, "unreachable": 4, "suppressed": 4, "duplicate_phone": 4, "cancelled": 4}
    messages = await stage.messages()
    assert set(messages) == engine.user_ids()
    assert expected_log(funnel, list(messages.values()))
    assert sorted(await stage.run_states()) == ["expanded", "planned", "requested", "running"]
    [request] = await stage.requests(SNAPSHOT_REQUESTED, SnapshotRequested)
    assert (request.run_id, request.rule) == (RUN, {"all": []})


async def test_zones_fire_each_at_its_time_and_a_stop_acts_on_what_is_left(stage: Stage) -> None:
    nine = (datetime.now(UTC) + timedelta(days=3)).replace(hour=9, minute=0, second=0, microsecond=0)
    engine = Engine(
        {"Pacific/Kiritimati": [""] * 4, "Asia/Tokyo": MIXED, "America/Lima": [""] * 7},
        withheld={("Asia/Tokyo", 1)},
    )
    defined = campaign(nine)
    async with stage.engine(engine), stage.scheduler(page_size=3) as client:
        await stage.define(defined)
        await eventually(lambda: zone_planned(stage), 20)
        assert await stage.run_states() == ["planned"]
        now = datetime.now(UTC)
        await stage.shift_clock(nine - timedelta(hours=14, seconds=30) - now)
        await eventually(lambda: state_is(stage, "running"), 20)
        assert engine.asked_zones == []
        await stage.shift_clock(nine - timedelta(hours=14) - now)
        await eventually(lambda: zone_expanded(client, "Pacific/Kiritimati", 4), 20)
        assert engine.asked_zones == ["Pacific/Kiritimati"]
        await stage.shift_clock(nine - timedelta(hours=9) - now)
        await eventually(lambda: engine.asked_zones == ["Pacific/Kiritimati", "Asia/Tokyo"], 20)
        await eventually(lambda: pages_parked(stage, 2), 20)
        assert await zone_cursor(client, "Asia/Tokyo") == 3

        await stage.define(msgspec.structs.replace(defined, status="stopped", version=2))
        await eventually(lambda: state_is(stage, "stopped"), 20)
        late = [PageUser(f"Asia/Tokyo-{rank}", rank, MIXED[rank], phone="+12025550123") for rank in (3, 4, 5)]
        await stage.send_page(AudiencePage(RUN, CAMPAIGN, "once", "Asia/Tokyo", 1, False, 1, late))
        await eventually(lambda: consumed(stage, QUALIFIED_USERS_BULK.full_name(stage.config.topic_prefix)), 20)
        assert engine.asked_zones == ["Pacific/Kiritimati", "Asia/Tokyo"]
    expanded = {f"Pacific/Kiritimati-{rank}" for rank in range(4)} | {"Asia/Tokyo-0", "Asia/Tokyo-1"}
    assert_jobs(await stage.jobs(SEND_JOBS_BULK), expanded)
    assert await stage.funnel() == {"pending": 6, "unreachable": 1, "cancelled": 14}
    [settled] = await stage.requests(UNEXPANDED_SETTLED, UnexpandedSettled)
    assert (settled.zones, settled.status) == ({"Asia/Tokyo": 3, "America/Lima": 0}, "cancelled")
    assert settled.reason == "campaign_stopped"
    assert set(await stage.messages()) == expanded | {"Asia/Tokyo-2"}


async def test_what_was_missed_by_downtime_expires_and_what_had_passed_is_dropped(stage: Stage) -> None:
    at = datetime.now(UTC) - timedelta(hours=3)
    engine = Engine({"UTC": [""] * 3, "America/Lima": [""] * 2, "Etc/GMT+12": [""]})
    defined = msgspec.structs.replace(campaign(at), scheduled_at=at + timedelta(hours=1))
    await stage.define(defined)
    await stage.shift_clock(timedelta(hours=4))  # Lima's time, at + 5 h, is two hours past
    async with stage.engine(engine), stage.scheduler():
        await eventually(lambda: state_is(stage, "running"), 20)
        assert await stage.funnel() == {"pending": 1, "expired": 5}
        await stage.shift_clock(timedelta(days=1))
        await eventually(lambda: state_is(stage, "expanded"), 20)
    assert await stage.funnel() == {"expired": 6}
    settled = await stage.requests(UNEXPANDED_SETTLED, UnexpandedSettled)
    assert {(row.reason, zone) for row in settled for zone in row.zones} == {
        ("zone_passed", "UTC"),
        ("missed", "America/Lima"),
        ("missed", "Etc/GMT+12"),
    }
    assert engine.asked_zones == []


async def test_a_run_whose_audience_is_refused_fails(stage: Stage) -> None:
    async with stage.scheduler():
        await stage.define(campaign())
        await eventually(lambda: state_is(stage, "requested"), 20)
        refused = AudienceRefused(RUN, CAMPAIGN, "once", "segment_unknown")
        await stage.send(QUALIFIED_USERS_BULK, RUN, REFUSED, refused)
        await eventually(lambda: state_is(stage, "failed"), 20)
    assert await stage.funnel() == {}


async def test_an_empty_audience_ends_the_run(stage: Stage) -> None:
    async with stage.engine(Engine({})), stage.scheduler():
        await stage.define(campaign())
        await eventually(lambda: state_is(stage, "expanded"), 20)
    assert await stage.funnel() == {}


async def test_kills_lose_nobody_and_count_nobody_twice(stage: Stage) -> None:
    chance = random.Random(20261124)
    zones = ["UTC", "Asia/Kolkata", "America/Lima", "Europe/Berlin"]
    engine = Engine({zone: [chance.choice(MIXED) for _ in range(150)] for zone in zones})
    await stage.define(campaign())
    async with stage.engine(engine):
        for expanded in (0, 1, 100, 200, 300, 450):
            process = await stage.scheduler_process(POSTRIDER_PAGE_SIZE="10")
            await eventually(partial(has_expanded, stage, expanded), 40, 0.005)
            await asyncio.sleep(chance.uniform(0, 0.1))
            process.kill()
            await process.wait()
        async with stage.scheduler(page_size=10):
            await eventually(lambda: state_is(stage, "expanded"), 90, 0.5)
    jobs = await stage.jobs(SEND_JOBS_BULK)
    assert_jobs(jobs, engine.user_ids(reachable=True))
    assert all(copy == copies[0] for copies in jobs.values() for copy in copies)
    funnel = await stage.funnel()
    assert sum(funnel.values()) == 600
    assert funnel["pending"] == len(jobs)
    messages = await stage.messages()
    assert set(messages) == engine.user_ids()
    assert expected_log(funnel, list(messages.values()))


async def test_a_terminated_process_drains_and_exits_0(stage: Stage) -> None:
    await stage.define(campaign())
    process = await stage.scheduler_process()
    await eventually(lambda: state_is(stage, "requested"), 30)
    process.terminate()
    assert await asyncio.wait_for(process.wait(), 30) == 0


async def is_empty(stage: Stage, table: str) -> bool:
    async with stage.database.begin() as tx:
        return bool((await tx.exec_driver_sql(f"SELECT count(*) FROM {table}")).scalar_one() == 0)


async def zone_planned(stage: Stage) -> bool:
    async with stage.database.begin() as tx:
        return bool((await tx.exec_driver_sql("SELECT count(*) FROM runs")).scalar_one() == 1)


async def pages_parked(stage: Stage, count: int) -> bool:
    async with stage.database.begin() as tx:
        return bool((await tx.exec_driver_sql("SELECT count(*) FROM pages_ahead")).scalar_one() == count)


async def consumed(stage: Stage, topic: str) -> bool:
    """Whether the bulk group has committed everything that is on its topic."""
    records: list[ConsumerRecord] = await stage.records(topic)
    async with stage.database.begin() as tx:
        done = await tx.exec_driver_sql(
            "SELECT sum(next_offset) FROM consumer_progress WHERE consumer_group = 'scheduler-bulk'"
        )
        return int(done.scalar_one() or 0) == len(records)


async def has_expanded(stage: Stage, people: int) -> bool:
    """Whether the audience is fixed and pages of at least so many people were worked off."""
    async with stage.database.begin() as tx:
        expanded = await tx.exec_driver_sql("SELECT coalesce(sum(expanded_users), -1) FROM zone_timers")
        return bool(expanded.scalar_one() >= people)
