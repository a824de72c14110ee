"""What the scheduler's rows keep: everything that a run is made of, from its first row on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from postrider.contracts.definitions import CampaignDefinition, Recurrence, What, When, Who
from postrider.postgres.database import open_database
from postrider.postgres.migrate import migrate
from scheduler.domain.run_states import RunState
from scheduler.domain.runs import Run, new_run
from scheduler.store import run_rows

pytestmark = pytest.mark.integration

NOW = datetime(2026, 12, 1, 9, tzinfo=UTC)
DAILY = When(send_by_seconds=3600, time_zone="user", recurrence=Recurrence("FREQ=DAILY", ["09:00"]))


def planned() -> Run:
    """As the planner makes it behind a run that a pause had held."""
    campaign = CampaignDefinition(
        campaign_id="cmp_1", version=3, status="paused", kind="recurring", name="n", message_class="transactional",
        when=DAILY, who=Who(rule={"all": []}), what_version=1, whats={"1": What("Hi")}, scheduled_at=NOW,
    )  # fmt: skip
    run = new_run(campaign, "Europe/Berlin", timedelta(minutes=1), NOW, "2026-12-02T09:00:00", NOW + timedelta(hours=2))
    return replace(run, state=RunState.PLANNED, reason="why")


async def test_a_new_run_is_read_as_it_was_added(fresh_database: Callable[[], Awaitable[str]]) -> None:
    url = await fresh_database()
    await migrate(url, "scheduler", "scheduler")
    database = open_database(url, "scheduler")
    run = planned()
    assert (run.paused, run.resumed_at) == (True, NOW + timedelta(hours=2))
    try:
        async with database.begin() as tx:
            assert await run_rows.add_run(tx, run)
            assert not await run_rows.add_run(tx, run)
            assert await run_rows.lock_run(tx, run.name.run_id) == run
            later = replace(
                run, state=RunState.RUNNING, requested_at=NOW, total=7, reachable=5, cut=3, paused=False, reason=""
            )
            await run_rows.save_run(tx, later)
            assert await run_rows.lock_run(tx, run.name.run_id) == later
    finally:
        await database.close()
