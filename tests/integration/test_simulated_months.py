"""Months in seconds: campaigns of every scheduled kind, people in every kind of zone, against a slow oracle.

A whole year of a thousand campaigns: `make simulate`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from postrider.postgres.database import open_database
from postrider.postgres.migrate import migrate
from tests.simulation.check import simulate

pytestmark = pytest.mark.integration


async def test_everybody_is_due_at_their_local_minute_exactly_once(
    fresh_database: Callable[[], Awaitable[str]],
) -> None:
    url = await fresh_database()
    await migrate(url, "scheduler", "scheduler")
    database = open_database(url, "scheduler")
    try:
        told = await simulate(database, seed=1, campaigns=25, people_count=30, days=120)
    finally:
        await database.close()
    assert told.problems == []
    assert told.texts > 1_000
