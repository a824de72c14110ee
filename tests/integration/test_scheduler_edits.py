"""What an edit, a stop or a crash between any two moments of a run means for the people who were not texted yet."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import msgspec
import pytest

from postrider.contracts import codec, ids
from postrider.contracts.audience import (
    REFUSED,
    SNAPSHOTTED,
    UNEXPANDED_SETTLED,
    ZONE_REQUESTED,
    AudiencePage,
    AudienceRefused,
    AudienceSnapshotted,
    PageUser,
    UnexpandedSettled,
    ZoneRequested,
)
from postrider.contracts.definitions import AccountSettings, CampaignDefinition, References, What, When, Who
from postrider.contracts.delivery_events import RUN_CHANGED, RunChanged
from postrider.contracts.envelope import Outgoing, envelope_of
from postrider.contracts.send_jobs import SEND_JOB
from postrider.contracts.topics import QUALIFIED_USERS_BULK, SEND_JOBS_BULK
from postrider.kafka.loop import Batch, Received
from postrider.postgres.outbox import Outbox
from scheduler.domain.runs import new_run
from scheduler.handlers.audiences import PAGES_AT_ONCE, Answer, Audiences
from scheduler.handlers.planning import Planner
from scheduler.handlers.timers import Timers
from scheduler.records import Records
from scheduler.store import run_rows
from tests.support.eventually import eventually
from tests.support.scheduler_stage import Engine, Stage, make_stage

pytestmark = pytest.mark.integration

CAMPAIGN = "cmp_edits"
RUN = ids.run_id(CAMPAIGN, "once")
PHONE = "+12025550123"


@pytest.fixture
async def stage(kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str) -> AsyncIterator[Stage]:
    async with make_stage(kafka, fresh_database, topic_prefix) as stage:
        yield stage


def campaign(at: datetime | None = None, **changes: object) -> CampaignDefinition:
    local = None if at is None else at.replace(tzinfo=None).isoformat()
    defined = CampaignDefinition(
        campaign_id=CAMPAIGN,
        version=1,
        status="scheduled",
        kind="one_time",
        name="edits",
        message_class="transactional",
        when=When(at=local, time_zone="user"),
        who=Who(rule={"all": []}),
        what_version=1,
        whats={"1": What("Hi {{ Profile.first_name }}", References(["first_name"]))},
        scheduled_at=datetime.now(UTC),
    )
    return msgspec.structs.replace(defined, **changes)


def edited(defined: CampaignDefinition) -> CampaignDefinition:
    whats = {**defined.whats, "2": What("Hello {{ Profile.first_name }}", References(["first_name"]))}
    return msgspec.structs.replace(defined, version=defined.version + 1, what_version=2, whats=whats)


def stopped(defined: CampaignDefinition) -> CampaignDefinition:
    return msgspec.structs.replace(defined, version=defined.version + 1, status="stopped")


async def state_is(stage: Stage, state: str) -> bool:
    return state in await stage.run_states()


async def scalar(stage: Stage, sql: str) -> int:
    async with stage.database.begin() as tx:
        return int((await tx.exec_driver_sql(sql)).scalar_one_or_none() or 0)


async def has_expanded(stage: Stage, people: int) -> bool:
    return await scalar(stage, "SELECT coalesce(sum(expanded_users), -1) FROM zone_timers") >= people


async def knows_version(stage: Stage, version: int) -> bool:
    return await scalar(stage, "SELECT definition_version FROM runs") == version


async def audience_fixed_and_scheduler_gone(stage: Stage, defined: CampaignDefinition, fixed_at: datetime) -> None:
    async with stage.scheduler():
        await stage.define(defined)
        await eventually(lambda: scalar(stage, "SELECT count(*) FROM runs"), 20)
        await stage.shift_clock(fixed_at - datetime.now(UTC))
        await eventually(lambda: state_is(stage, "running"), 20)


async def test_a_text_edited_while_the_scheduler_was_away_is_the_one_that_is_sent(stage: Stage) -> None:
    nine = (datetime.now(UTC) + timedelta(days=3)).replace(hour=9, minute=0, second=0, microsecond=0)
    async with stage.engine(Engine({"UTC": [""] * 3})):
        await audience_fixed_and_scheduler_gone(stage, campaign(nine), nine - timedelta(hours=14))
        await stage.define(edited(campaign(nine)))
        await stage.shift_clock(nine - datetime.now(UTC))
        async with stage.scheduler():
            await eventually(lambda: state_is(stage, "expanded"), 30)
    [request] = await stage.requests(ZONE_REQUESTED, ZoneRequested)
    assert request.what_version == 2
    jobs = await stage.jobs(SEND_JOBS_BULK)
    assert [copies[0].what_version for copies in jobs.values()] == [2, 2, 2]


async def test_a_campaign_stopped_while_the_scheduler_was_away_asks_for_nobody(stage: Stage) -> None:
    nine = (datetime.now(UTC) + timedelta(days=3)).replace(hour=9, minute=0, second=0, microsecond=0)
    async with stage.engine(Engine({"UTC": [""] * 3})) as engine:
        await audience_fixed_and_scheduler_gone(stage, campaign(nine), nine - timedelta(hours=14))
        await stage.define(stopped(campaign(nine)))
        await stage.shift_clock(nine - datetime.now(UTC))
        async with stage.scheduler():
            await eventually(lambda: state_is(stage, "stopped"), 30)
        assert engine.asked_zones == []
    assert await stage.requests(ZONE_REQUESTED, ZoneRequested) == []
    assert await stage.funnel() == {"cancelled": 3}


async def test_answers_that_come_after_a_stop_change_nothing(stage: Stage) -> None:
    defined = campaign()
    async with stage.scheduler():
        await stage.define(defined)
        await eventually(lambda: state_is(stage, "requested"), 20)
        await stage.define(stopped(defined))
        await eventually(lambda: state_is(stage, "stopped"), 20)
        for type, answer in (
            (SNAPSHOTTED, AudienceSnapshotted(RUN, CAMPAIGN, "once", 5, 5, {"UTC": 5})),
            (REFUSED, AudienceRefused(RUN, CAMPAIGN, "once", "segment_unknown")),
        ):
            await stage.send(QUALIFIED_USERS_BULK, RUN, type, answer)
        progress = "SELECT coalesce(sum(next_offset), 0) FROM consumer_progress WHERE consumer_group = 'scheduler-bulk'"
        await eventually(lambda: scalar(stage, f"{progress} HAVING sum(next_offset) = 2"), 20)
    assert await stage.funnel() == {}
    assert await stage.run_states() == ["planned", "requested", "stopped"]
    assert await stage.requests(UNEXPANDED_SETTLED, UnexpandedSettled) == []


async def test_an_edit_in_the_middle_of_a_zone_reaches_the_pages_behind_it(stage: Stage) -> None:
    defined = campaign()
    engine = Engine({"UTC": [""] * 4}, withheld={("UTC", 1)})
    async with stage.engine(engine), stage.scheduler(page_size=2):
        await stage.define(defined)
        await eventually(lambda: has_expanded(stage, 2), 30)
        await stage.define(edited(defined))
        await eventually(lambda: knows_version(stage, 2), 20)
        users = [PageUser(f"UTC-{rank}", rank, phone=PHONE) for rank in (2, 3)]
        await stage.send_page(AudiencePage(RUN, CAMPAIGN, "once", "UTC", 1, True, 1, users))
        await eventually(lambda: state_is(stage, "expanded"), 20)
    made_for = {job.user_id: job.what_version for [job] in (await stage.jobs(SEND_JOBS_BULK)).values()}
    assert made_for == {"UTC-0": 1, "UTC-1": 1, "UTC-2": 2, "UTC-3": 2}


async def test_a_campaign_that_means_nothing_here_holds_up_no_other(stage: Stage) -> None:
    lost = campaign(datetime.now(UTC), campaign_id="cmp_a_lost", when=When(at="2030-01-01T09:00:00", time_zone="Mars"))
    await stage.define(lost)
    async with stage.engine(Engine({"UTC": [""]})), stage.scheduler():
        await stage.define(msgspec.structs.replace(lost, version=2))
        await stage.define(campaign())
        await eventually(lambda: state_is(stage, "expanded"), 30)
    assert await scalar(stage, "SELECT count(*) FROM runs") == 1


async def test_pages_that_have_waited_are_taken_a_few_at_a_time(stage: Stage) -> None:
    """Handlers on a real database: what one transaction holds does not grow with what has piled up behind a page."""
    count = 3 * PAGES_AT_ONCE
    records = Records(Outbox(stage.database, stage.publisher, "scheduler", stage.config.topic_prefix))
    planner = Planner(records, timedelta(0))
    audiences = Audiences(records, planner, AccountSettings, lambda: None)
    timers = Timers(records, planner, AccountSettings, 1)
    pages = [
        AudiencePage(RUN, CAMPAIGN, "once", "UTC", n, n == count - 1, 1, [PageUser(f"UTC-{n}", n, phone=PHONE)])
        for n in range(count)
    ]
    async with stage.database.begin() as tx:
        assert await run_rows.add_run(tx, new_run(campaign(), "UTC", timedelta(0), datetime.now(UTC)))
        await timers.request_audiences(tx)
    await handled(stage, audiences, [AudienceSnapshotted(RUN, CAMPAIGN, "once", count, count, {"UTC": count})])
    async with stage.database.begin() as tx:
        assert len((await timers.fire_zones(tx)).outgoing) == 1
    assert await handled(stage, audiences, pages[:0:-1]) == []

    jobs = await handled(stage, audiences, pages[:1])
    assert len(jobs) == PAGES_AT_ONCE
    is_full = True
    while is_full:
        async with stage.database.begin() as tx:
            turn = await audiences.expand_parked(tx)
        made = jobs_in(turn.outgoing)
        assert len(made) <= PAGES_AT_ONCE
        jobs += made
        is_full = turn.is_full
    assert jobs == [f"UTC-{n}" for n in range(count)]
    assert await scalar(stage, "SELECT count(*) FROM pages_ahead") == 0
    async with stage.database.begin() as tx:
        assert len((await timers.finish_runs(tx)).outgoing) == 1


async def handled(stage: Stage, audiences: Audiences, answers: Sequence[Answer]) -> list[str]:
    batch = Batch([Received(answer, "t", 0, offset, None, ()) for offset, answer in enumerate(answers)], [])
    async with stage.database.begin() as tx:
        return jobs_in(await audiences.handle(tx, batch))


def jobs_in(outgoing: Sequence[Outgoing]) -> list[str]:
    """The people of the send jobs, in order."""
    jobs = [record for record in outgoing if envelope_of(record.headers).type == SEND_JOB]
    return [(job.key or b"").decode() for job in jobs]


async def test_a_stop_amid_kills_accounts_for_everybody(stage: Stage) -> None:
    chance = random.Random(20261125)
    verdicts = ["", "", "", "unreachable", "suppressed"]
    zones = ["UTC", "Asia/Kolkata", "America/Lima", "Europe/Berlin"]
    engine = Engine({zone: [chance.choice(verdicts) for _ in range(150)] for zone in zones}, repeats=2, shuffled=True)
    defined = campaign()
    await stage.define(defined)
    async with stage.engine(engine):
        for people in (0, 60, 200):
            process = await stage.scheduler_process(POSTRIDER_PAGE_SIZE="10")
            await eventually(partial(has_expanded, stage, people), 40, 0.005)
            if people == 200:
                await stage.define(stopped(defined))
            await asyncio.sleep(chance.uniform(0, 0.1))
            process.kill()
            await process.wait()
        async with stage.scheduler(page_size=10):
            await eventually(lambda: state_is(stage, "stopped"), 60)
            await eventually(lambda: scalar(stage, "SELECT count(*) = 0 FROM outbox"), 20)
    assert "expanded" not in await stage.run_states()
    in_log = Counter(row.status for row in await stage.message_rows())
    accounted = [row.user_id for row in await stage.message_rows()]
    for settled in await stage.requests(UNEXPANDED_SETTLED, UnexpandedSettled):
        for zone, expanded in settled.zones.items():
            accounted += [f"{zone}-{rank}" for rank in range(expanded, 150)]
            in_log[settled.status] += 150 - expanded
    assert sorted(accounted) == sorted(engine.user_ids())
    assert await stage.funnel() == dict(in_log)
    assert len(await stage.jobs(SEND_JOBS_BULK)) == in_log["pending"]


async def test_a_page_that_cannot_be_read_holds_up_its_zone_until_it_is_replayed(stage: Stage) -> None:
    engine = Engine({"UTC": [""] * 6, "Asia/Kolkata": [""] * 2}, withheld={("UTC", 0)})
    dead_letters = QUALIFIED_USERS_BULK.dead_letter_name("scheduler-bulk", stage.config.topic_prefix)
    page = AudiencePage(
        RUN, CAMPAIGN, "once", "UTC", 0, False, 1, [PageUser(f"UTC-{n}", n, phone=PHONE) for n in (0, 1)]
    )
    async with stage.engine(engine), stage.scheduler(page_size=2):
        await stage.define(campaign())
        await stage.send(
            QUALIFIED_USERS_BULK, f"{RUN}:UTC:0", "audience.page", Unreadable(RUN, codec.encode(page).decode())
        )
        await eventually(lambda: stage.records(dead_letters), 30)
        await eventually(lambda: scalar(stage, "SELECT count(*) = 2 FROM pages_ahead"), 20)
        await stage.send_page(page)
        await eventually(lambda: state_is(stage, "expanded"), 30)
    assert len(await stage.jobs(SEND_JOBS_BULK)) == 8


class Unreadable(msgspec.Struct):
    """No page."""

    run_id: str
    text: str


async def test_a_definition_that_nobody_can_plan_holds_up_nobody(stage: Stage) -> None:
    """Else every start of the process would find it again, and end."""
    good = campaign()
    poison: list[dict[str, Any]] = [
        {"version": 2**40},
        {"version": 2**70},
        {"whats": {}},
        {"when": When(at="whenever")},
        {"when": When(at="9999-12-31T23:59:59", time_zone="user")},
        {"when": When(at="2030-01-01T00:00:00", time_zone="Mars/Phobos")},
        {"when": When(send_by_seconds=10**18, catch_up_seconds=10**18)},
        {"scheduled_at": datetime(1, 1, 1, tzinfo=UTC)},
        {"scheduled_at": datetime(2026, 1, 1)},  # noqa: DTZ001
        {"name": "a\x00b"},
    ]
    for number, changes in enumerate(poison):
        await stage.define(msgspec.structs.replace(good, campaign_id=f"cmp_{number}", **changes))
    async with stage.scheduler():
        await stage.define(good)
        await eventually(lambda: is_requested(stage), 30)


async def is_requested(stage: Stage) -> bool:
    return "requested" in [
        run.state for run in await stage.told(RUN_CHANGED, RunChanged) if run.campaign_id == CAMPAIGN
    ]
