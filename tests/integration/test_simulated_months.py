"""Months in seconds: campaigns of every kind, people in every kind of zone, against an oracle.

A whole year of thousands of campaigns: `make simulate`; a month with killed processes: `make simulate-month`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest

from postrider.postgres.database import open_database
from postrider.postgres.migrate import migrate
from tests.simulation.play import play

pytestmark = pytest.mark.integration
BEFORE_THE_CLOCKS_CHANGE = datetime(2027, 2, 20, 12, tzinfo=UTC)


async def test_everybody_gets_one_text_at_their_minute_or_is_told_why_not(
    fresh_database: Callable[[], Awaitable[str]],
) -> None:
    url = await fresh_database()
    await migrate(url, "scheduler", "scheduler")
    database = open_database(url, "scheduler", pool_size=1)
    try:
        played = await play(database, seed=1, campaigns=42, people=72, days=60, step=30, start=BEFORE_THE_CLOCKS_CHANGE)
    finally:
        await database.close()
    assert played.problems == []
    assert played.statuses.keys() >= {
        "pending", "expired", "cancelled", "quiet_hours", "limited", "capped", "control", "not_in_reach", "unreachable",
    }  # fmt: skip
