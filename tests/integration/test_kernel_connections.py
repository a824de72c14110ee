"""Connections to Postgres that are cut, or that die without a word: one mistake each, and the next one works."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from sqlalchemy import make_url, text

from postrider.postgres.database import Database, is_outage, open_database
from postrider.probe import PostgresPing
from tests.standins.postgres_proxy import PostgresProxy

pytestmark = pytest.mark.integration
POOL = 4


@pytest.fixture
async def wire(fresh_database: Callable[[], Awaitable[str]]) -> AsyncIterator[tuple[PostgresProxy, str]]:
    """The wire, and the database's URL through it."""
    url = make_url(await fresh_database())
    async with PostgresProxy(str(url.host), int(url.port or 5432)) as proxy:
        yield proxy, url.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)


@pytest.fixture
async def pooled(wire: tuple[PostgresProxy, str]) -> AsyncIterator[Database]:
    """With every connection of its pool made."""
    opened = open_database(wire[1], "public", POOL, command_timeout_seconds=1.0)
    async with opened.begin() as tx:
        await tx.execute(text("CREATE TABLE kept (n int)"))
    begun = [opened.begin() for _ in range(POOL)]
    for each in begun:
        await (await each.__aenter__()).execute(text("SELECT 1"))
    for each in begun:
        await each.__aexit__(None, None, None)
    yield opened
    await opened.close()


async def keep(database: Database, n: int) -> None:
    async with database.begin() as tx:
        await tx.execute(text("INSERT INTO kept VALUES (:n)"), {"n": n})


async def kept(database: Database) -> list[int]:
    async with database.begin() as tx:
        return [row.n for row in await tx.execute(text("SELECT n FROM kept ORDER BY n"))]


async def test_one_silent_connection_is_enough_to_distrust_those_in_the_pool(
    wire: tuple[PostgresProxy, str], pooled: Database
) -> None:
    proxy, url = wire
    ping = PostgresPing(url, 1.0)
    assert await ping.ask() is None
    async with proxy.black_hole():
        with pytest.raises(TimeoutError) as caught:
            await keep(pooled, 1)
        assert is_outage(caught.value)
        assert await ping.ask() == "TimeoutError"
    for n in range(2, 2 + POOL):  # the others of the pool are as dead, and nobody has tried them
        await keep(pooled, n)
    assert await kept(pooled) == list(range(2, 2 + POOL))
    assert await ping.ask() is None
    ping.close()


async def test_a_cut_commit_is_an_outage_and_may_have_happened(
    wire: tuple[PostgresProxy, str], pooled: Database
) -> None:
    proxy, _ = wire
    proxy.cut_share = 0.5
    unknown: set[int] = set()
    for n in range(60):
        try:
            await keep(pooled, n)
        except Exception as error:  # noqa: BLE001  # whatever it is, it has to be an outage
            assert is_outage(error), error
            unknown.add(n)
    proxy.cut_share = 0.0
    found = await kept(pooled)
    assert set(range(60)) - set(found) <= unknown
    assert unknown & set(found), "no cut came after its commit"


async def test_a_refused_connection_is_an_outage(wire: tuple[PostgresProxy, str], pooled: Database) -> None:
    proxy, _ = wire
    await proxy.refuse()
    for _ in range(POOL):
        with pytest.raises(Exception) as caught:  # whatever it is, it has to be an outage
            await keep(pooled, 1)
        assert is_outage(caught.value)
    await proxy.admit()
    await keep(pooled, 2)
    assert await kept(pooled) == [2]
