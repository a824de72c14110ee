"""Message ids begin with their run; versions before named texts otherwise. A job is one text under either id."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from msgspec.structs import replace

from dispatcher.domain.message import BULK
from dispatcher.store import intake, retention
from postrider.contracts.ids import former_message_id
from postrider.contracts.send_jobs import SendJob
from tests.support.dispatching import Stage
from tests.support.dispatching import stage as new_stage

pytestmark = pytest.mark.integration


@pytest.fixture
async def stage(kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str) -> AsyncIterator[Stage]:
    async with new_stage(kafka, await fresh_database(), topic_prefix) as made:
        yield made


def former(job: SendJob) -> SendJob:
    return replace(job, message_id=former_message_id(job.campaign_id, job.occurrence, job.user_id))


def present(job: SendJob) -> SendJob:
    return job


async def insert(stage: Stage, *jobs: SendJob) -> int:
    """How many were new."""
    async with stage.database.begin() as tx:
        new, _ = await intake.insert(tx, BULK, [(job, b"\0" * 32) for job in jobs])
    return new


async def test_a_job_is_one_text_under_its_former_and_its_present_id(stage: Stage) -> None:
    await stage.execute("INSERT INTO former_ids SELECT db_now()")
    for first, second in itertools.permutations((former, present), 2):
        job = stage.job()
        assert await insert(stage, first(job)) == 1
        assert await insert(stage, second(job), first(job), *stage.jobs(2)) == 2, "two others alone are new"
        together = stage.job()
        assert await insert(stage, first(together), second(together)) == 1
        ((kept,),) = await stage.rows("SELECT message_id FROM ledger WHERE user_id = :user", user=together.user_id)
        assert kept.hex == first(together).message_id


async def test_both_are_looked_for_after_an_upgrade_and_for_as_long_as_the_ledger_remembers(stage: Stage) -> None:
    assert await stage.rows("SELECT 1 FROM former_ids") == [], "nothing was ever consumed before"
    await stage.execute("INSERT INTO former_ids SELECT db_now() - interval '29 days'")
    async with stage.database.begin() as tx:
        assert await retention.forget(tx, "former_ids", 30, 10) == 0
        assert await retention.forget(tx, "former_ids", 28, 10) == 1
