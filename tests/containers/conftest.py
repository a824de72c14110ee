"""The suite in containers, once for the session, of the images that `make images` built (`make containers` does)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from postrider.local.client import ApiClient
from tests.containers.suite import ComposeSuite, compose_suite
from tests.support.parts import quiet


@pytest.fixture(scope="session")
def suite() -> Iterator[ComposeSuite]:
    """Healthy inside; taken down, with nothing left of it, afterwards."""
    with compose_suite(quiet) as running:
        yield running


@pytest.fixture
async def api(suite: ComposeSuite) -> AsyncIterator[ApiClient]:
    async with ApiClient(suite.url(), suite.key) as client:
        yield client
