"""What a claim costs Postgres: it only reserves, so it must not be as dear as a change of state."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from sqlalchemy import text

from dispatcher.domain.message import BULK
from dispatcher.store import claims, intake
from tests.support.dispatching import Stage
from tests.support.dispatching import stage as new_stage

pytestmark = pytest.mark.integration


@pytest.fixture
async def stage(kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str) -> AsyncIterator[Stage]:
    async with new_stage(kafka, await fresh_database(), topic_prefix) as made:
        yield made


async def test_a_claim_writes_into_no_index(stage: Stage) -> None:
    """Postgres calls such an update HOT: the row's new version is on the same page, and no index hears of it."""
    jobs = [(job, b"\0" * 32) for job in stage.jobs(500)]
    async with stage.database.begin() as tx:
        _, (queue,) = await intake.insert(tx, BULK, jobs)
    async with stage.database.begin() as tx:
        claim = await claims.claim(tx, "me", BULK, {queue: 500}, 15.0)
        await tx.execute(text("SELECT pg_stat_force_next_flush()"))
    assert len(claim.messages) == 500
    ((updated, hot),) = await stage.rows(
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relid = 'ledger'::regclass"
    )
    assert (updated, hot) == (500, 500)
