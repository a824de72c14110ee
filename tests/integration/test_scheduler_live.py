"""The live lane on real Kafka and Postgres: one message for each (campaign, occurrence, user), whatever repeats."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial

import msgspec
import pytest

from postrider.contracts import ids
from postrider.contracts.definitions import CampaignDefinition, Trigger, What, When, Who
from postrider.contracts.envelope import Outgoing
from postrider.contracts.qualified import QUALIFIED, QualifiedUser
from postrider.contracts.topics import QUALIFIED_USERS, SEND_JOBS, SEND_JOBS_BULK
from postrider.postgres.database import open_database
from scheduler.loops.sweep import Sweep
from tests.support.eventually import eventually
from tests.support.scheduler_stage import Stage, expected_log, make_stage

pytestmark = pytest.mark.integration


@pytest.fixture
async def stage(kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str) -> AsyncIterator[Stage]:
    async with make_stage(kafka, fresh_database, topic_prefix) as stage:
        yield stage


def live(id: str, status: str = "running", version: int = 1) -> CampaignDefinition:
    return CampaignDefinition(
        campaign_id=id,
        version=version,
        status=status,
        kind="live_action",
        name="live",
        message_class="transactional",
        when=When(send_by_seconds=900),
        who=Who(trigger=Trigger("Order Completed")),
        what_version=version,
        whats={str(number): What("x") for number in range(1, version + 1)},
        scheduled_at=datetime.now(UTC),
    )


def qualified(campaign_id: str, user_id: str, occurrence: str = "e1", **changes: object) -> QualifiedUser:
    now = datetime.now(UTC)
    user = QualifiedUser(campaign_id, 1, 1, occurrence, user_id, now, now, "UTC", phone="+12025550123", event={"a": 1})
    return msgspec.structs.replace(user, **changes)


async def qualify(stage: Stage, *users: QualifiedUser) -> None:
    for user in users:
        await stage.send(QUALIFIED_USERS, user.user_id, QUALIFIED, user)


async def remembered(stage: Stage, count: int) -> bool:
    async with stage.database.begin() as tx:
        return bool((await tx.exec_driver_sql("SELECT count(*) FROM live_sends")).scalar_one() == count)


async def remembers_some(stage: Stage, count: int) -> bool:
    async with stage.database.begin() as tx:
        return bool((await tx.exec_driver_sql("SELECT count(*) FROM live_sends")).scalar_one() >= count)


async def test_each_qualification_makes_one_message(stage: Stage) -> None:
    for campaign in (live("cmp_on"), live("cmp_off", "stopped")):
        await stage.define(campaign)
    old = datetime.now(UTC) - timedelta(minutes=20)
    users = [
        *(qualified("cmp_on", f"u{n}") for n in range(20)),
        qualified("cmp_on", "u0", "e2"),
        qualified("cmp_on", "nophone", verdict="unreachable", reason="no_phone", phone=""),
        qualified("cmp_on", "stopper", verdict="suppressed", reason="opted_out"),
        qualified("cmp_on", "late", due_at=old),
        qualified("cmp_off", "u0"),
        qualified("cmp_gone", "u0"),
    ]
    async with stage.scheduler():
        await qualify(stage, *users, *users)
        await eventually(lambda: remembered(stage, len(users)), 30)
        unreadable = Outgoing(QUALIFIED_USERS.full_name(stage.config.topic_prefix), b"k", b"no json", ())
        await stage.publisher.publish([unreadable])
        dead_letters = QUALIFIED_USERS.dead_letter_name("scheduler", stage.config.topic_prefix)
        await eventually(lambda: stage.records(dead_letters), 20)
    async with stage.scheduler():
        await qualify(stage, *users, qualified("cmp_on", "one_more"))
        await eventually(lambda: remembered(stage, len(users) + 1), 30)
        await eventually(lambda: counted(stage, len(users) + 1), 30)
    jobs = await stage.jobs(SEND_JOBS)
    assert {len(copies) for copies in jobs.values()} == {1}
    texted = {("e1", f"u{n}") for n in range(20)} | {("e2", "u0"), ("e1", "one_more")}
    assert set(jobs) == {ids.message_id("cmp_on", occurrence, user_id) for occurrence, user_id in texted}
    assert await stage.records(SEND_JOBS_BULK) == []
    funnel = await stage.funnel()
    assert funnel == {"pending": 22, "unreachable": 1, "suppressed": 1, "expired": 1, "cancelled": 2}
    rows = await stage.message_rows()
    assert len(rows) == len(users) + 1
    assert expected_log(funnel, rows)
    assert {(row.campaign_id, row.reason) for row in rows if row.status == "cancelled"} == {
        ("cmp_off", "campaign_stopped"),
        ("cmp_gone", "campaign_deleted"),
    }


async def test_kills_lose_no_live_message_and_make_none_twice(stage: Stage) -> None:
    chance = random.Random(20261126)
    await stage.define(live("cmp_on"))
    users = [qualified("cmp_on", f"u{n}", verdict=chance.choice(["", "", "suppressed"])) for n in range(300)]
    for start in range(0, 300, 100):
        process = await stage.scheduler_process()
        await qualify(stage, *users[max(0, start - 50) : start + 100])  # half of those before come again
        await eventually(partial(remembers_some, stage, start + chance.randrange(1, 60)), 40, 0.005)
        await asyncio.sleep(chance.uniform(0, 0.05))
        process.kill()
        await process.wait()
    async with stage.scheduler():
        await eventually(lambda: counted(stage, 300), 60)
        await eventually(lambda: remembered(stage, 300), 20)
    texted = {ids.message_id("cmp_on", "e1", user.user_id) for user in users if not user.verdict}
    jobs = await stage.jobs(SEND_JOBS)
    assert set(jobs) == texted
    assert all(copy == copies[0] for copies in jobs.values() for copy in copies)
    funnel = await stage.funnel()
    assert funnel == {"pending": len(texted), "suppressed": 300 - len(texted)}
    assert expected_log(funnel, await stage.message_rows())


async def test_a_definition_that_is_on_its_way_is_waited_for(stage: Stage) -> None:
    async with stage.scheduler():
        await stage.define(live("cmp_new", version=2))
        await qualify(stage, qualified("cmp_new", "u1", campaign_version=2, what_version=2))
        await eventually(lambda: stage.jobs(SEND_JOBS), 30)
    [[job]] = (await stage.jobs(SEND_JOBS)).values()
    assert (job.what_version, job.event) == (2, {"a": 1})
    assert await stage.funnel() == {"pending": 1}


async def test_old_messages_are_forgotten_and_young_ones_are_not(stage: Stage) -> None:
    database = open_database(stage.url, "scheduler")
    async with database.begin() as tx:
        await tx.exec_driver_sql(
            "INSERT INTO live_sends SELECT gen_random_uuid(), clock_timestamp() - n * interval '1 day' "
            "FROM generate_series(0, 19) n"
        )
    assert await Sweep(database, 8).sweep_some() == 12
    assert await remembered(stage, 8)
    await database.close()


async def counted(stage: Stage, people: int) -> bool:
    return sum((await stage.funnel()).values()) == people
