"""Thousands who are due at one moment: their jobs are there when it comes, and say when they may leave."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from postrider.contracts.definitions import CampaignDefinition, What, When, Who
from postrider.contracts.topics import SEND_JOBS_BULK
from scheduler.domain.moves import ahead_of
from tests.support.eventually import eventually
from tests.support.scheduler_stage import Engine, Stage, make_stage

pytestmark = pytest.mark.integration
MANY, FEW = 15_000, 40
SECOND = timedelta(seconds=1)


async def stop_clock(stage: Stage, at: datetime) -> None:
    """The database's clock stands there."""
    async with stage.database.begin() as tx:
        body = f"SELECT timestamptz ''{at.isoformat()}''"
        await tx.execute(
            text(f"CREATE OR REPLACE FUNCTION db_now() RETURNS timestamptz LANGUAGE sql VOLATILE AS '{body}'")
        )


def campaign(id: str, due: datetime) -> CampaignDefinition:
    when = When(at=f"{due:%Y-%m-%dT%H:%M:%S}", time_zone="Etc/UTC")
    return CampaignDefinition(
        id, 1, "scheduled", "one_time", "many", "transactional", when, Who(rule={"all": []}), 1, {"1": What("Hi")},
        due - timedelta(hours=1),
    )  # fmt: skip


async def zones(stage: Stage, state: str) -> int:
    async with stage.database.begin() as tx:
        found = await tx.execute(text("SELECT count(*) FROM zone_timers WHERE state = :state"), {"state": state})
        return int(found.scalar_one())


async def test_many_jobs_are_made_before_they_are_due_and_few_when_they_are(
    kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str
) -> None:
    due = datetime.now(UTC).replace(microsecond=0)
    ahead = ahead_of(MANY)
    assert ahead > SECOND and not ahead_of(FEW)
    async with make_stage(kafka, fresh_database, topic_prefix) as stage:
        await stop_clock(stage, due - ahead - SECOND)
        engine = Engine({"Etc/UTC": [""] * (MANY - FEW), "Europe/Berlin": [""] * FEW})
        async with stage.engine(engine), stage.scheduler():
            await stage.define(campaign("cmp_many", due))
            await eventually(lambda: zones_are(stage, "waiting", 2))
            await stop_clock(stage, due - SECOND)
            await eventually(lambda: zones_are(stage, "expanded", 2), 60)
            jobs = [job for copies in (await stage.jobs(SEND_JOBS_BULK)).values() for job in copies]
            assert len(jobs) == MANY
            assert {job.due_at for job in jobs} == {interval.start for job in jobs for interval in job.allowed} == {due}

            engine.audience = {"Etc/UTC": [""] * FEW}
            await stage.define(campaign("cmp_few", due))
            await eventually(lambda: zones_are(stage, "waiting", 1))
            asked = len(engine.asked_zones)
            await stop_clock(stage, due)
            await eventually(lambda: zones_are(stage, "expanded", 3))
            assert len(engine.asked_zones) == asked + 1


async def zones_are(stage: Stage, state: str, count: int) -> bool:
    found = await zones(stage, state)
    assert found == count, found
    return True
