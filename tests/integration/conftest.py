"""A campaign-api for the tests of a module, on a database of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.campaign_api import Running, running
from tests.support.parts import create_database, drop_database, topic_prefix


@pytest.fixture(scope="module")
async def api(kafka: str, database: str, module_database: str) -> AsyncIterator[Running]:
    async with running(kafka, module_database, topic_prefix()) as api:
        yield api


@pytest.fixture(scope="module")
async def module_database(database: str) -> AsyncIterator[str]:
    url = await create_database(database)
    yield url
    await drop_database(url)
