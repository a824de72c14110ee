"""Statements outside a transaction: a connection that breaks while it is made ready is an outage, and is not lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from sqlalchemy import text
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_connection, AsyncAdapt_asyncpg_dbapi

from dispatcher.app import PREFER_INDEXES
from dispatcher.store.alone import alone
from postrider.postgres.database import Database, is_outage, open_database

pytestmark = pytest.mark.integration


@pytest.fixture
async def database(fresh_database: Callable[[], Awaitable[str]]) -> AsyncIterator[Database]:
    database = open_database(await fresh_database(), "public", 1, server_settings=PREFER_INDEXES)
    yield database
    await database.close()


async def one(database: Database) -> int:
    async with alone(database) as connection:
        return int((await connection.execute(text("SELECT 1"))).scalar_one())


async def test_a_connection_cut_while_it_is_made_ready(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(_connection: AsyncAdapt_asyncpg_connection, _level: str) -> None:
        raise AsyncAdapt_asyncpg_dbapi.InternalClientError("cannot switch to state 11; another operation (2)")  # type: ignore[no-untyped-call]

    with monkeypatch.context() as broken:
        broken.setattr(AsyncAdapt_asyncpg_connection, "set_isolation_level", cut)
        with pytest.raises(Exception) as raised:
            await one(database)
        assert is_outage(raised.value)
    assert await asyncio.wait_for(one(database), 10) == 1


async def test_it_commits_each_statement_and_the_next_user_has_transactions_again(database: Database) -> None:
    async with alone(database) as connection:
        await connection.execute(text("CREATE TABLE kept (n int)"))
        await connection.execute(text("INSERT INTO kept VALUES (1)"))
    with pytest.raises(ZeroDivisionError):
        async with database.begin() as tx:
            await tx.execute(text("INSERT INTO kept VALUES (2)"))
            raise ZeroDivisionError
    async with database.begin() as tx:
        assert list((await tx.execute(text("SELECT n FROM kept"))).scalars()) == [1]


async def test_a_session_keeps_its_settings_whoever_is_first(database: Database) -> None:
    async with alone(database) as connection:
        assert (await connection.execute(text("SHOW enable_seqscan"))).scalar_one() == "off"
    async with database.begin() as tx:
        assert (await tx.execute(text("SHOW enable_seqscan"))).scalar_one() == "off"
