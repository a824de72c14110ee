"""Replicas that stand still in the middle of a transaction, wherever that is, keep nobody waiting for their rows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg
import pytest

from postrider.postgres.database import Database, open_database
from postrider.postgres.silent_sessions import SilentSessions
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration
LOCK = "SELECT 1 FROM held FOR UPDATE"


@pytest.fixture
async def database(fresh_database: Callable[[], Awaitable[str]]) -> AsyncIterator[Database]:
    database = open_database(await fresh_database(), "public")
    async with database.begin() as tx:
        await tx.exec_driver_sql("CREATE TABLE held AS SELECT 1 AS n")
    yield database
    await database.close()


@asynccontextmanager
async def silent(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """A session that holds the row; the transaction is never ended by us."""
    connection = await database.engine.raw_connection()
    driver = connection.driver_connection
    assert driver is not None
    try:
        await driver.execute("BEGIN")
        await driver.execute(LOCK)
        yield driver
    finally:
        driver.terminate()
        connection.invalidate()


async def locks(database: Database) -> bool:
    async with database.begin() as tx:
        await tx.exec_driver_sql(LOCK)
    return True


async def ended(sessions: SilentSessions) -> bool:
    return await sessions.end() > 0


@pytest.mark.parametrize("between", ["statements", "parse and execution"])
async def test_its_rows_are_free_again(database: Database, between: str) -> None:
    async with silent(database) as session:
        if between != "statements":
            await session.prepare("SELECT 2")
        waiting = asyncio.create_task(locks(database))
        await eventually(lambda: ended(SilentSessions(database, 0.2)))
        assert await waiting


async def test_who_waits_or_works_or_has_nothing_open_is_left_alone(database: Database) -> None:
    async with silent(database):
        waiting = asyncio.create_task(locks(database))
        async with database.begin() as tx:
            working = asyncio.create_task(tx.exec_driver_sql("SELECT pg_sleep(1.5)"))
            await asyncio.sleep(0.5)
            assert await SilentSessions(database, 60).end() == 0
            assert await SilentSessions(database, 0.2).end() == 1  # the silent one
            await working
        assert await waiting
    async with database.begin() as tx:
        assert (await tx.exec_driver_sql("SELECT 3")).scalar_one() == 3
