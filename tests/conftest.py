"""Fixtures of the integration and end-to-end tiers: real Kafka, real Postgres. A missing part fails the tests that
need it, with the launcher's message; nothing is skipped.
"""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from postrider.local.parts import Parts
from tests.support.parts import create_database, drop_database, session_parts
from tests.support.parts import topic_prefix as new_topic_prefix


@pytest.fixture(scope="session")
async def parts() -> AsyncIterator[Parts]:
    """The session's parts, nothing started yet: `kafka` and `database` start what they need."""
    async with session_parts() as parts:
        yield parts


@pytest.fixture(scope="session")
async def kafka(parts: Parts) -> str:
    """Bootstrap servers of the session's broker; keep tests apart with `topic_prefix`."""
    return await parts.start_kafka()


@pytest.fixture(scope="session")
async def database(parts: Parts) -> str:
    """Owner's URL of the session's database; most tests want `fresh_database` instead."""
    return await parts.start_postgres()


@pytest.fixture
async def fresh_database(database: str) -> AsyncIterator[Callable[[], Awaitable[str]]]:
    """`await fresh_database()` makes an empty database and returns its URL; dropped after the test."""
    made: list[str] = []

    async def make() -> str:
        made.append(await create_database(database))
        return made[-1]

    yield make
    for url in made:
        await drop_database(url)


@pytest.fixture
def topic_prefix() -> str:
    """A topic prefix that no other test uses."""
    return new_topic_prefix()
