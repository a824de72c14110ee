"""Groups of unlike providers: each is given its own of a `what`, and what it cannot be given goes to the next."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from postrider.contracts.definitions import Content
from tests.support.dispatching import Stage, dispatching
from tests.support.dispatching import stage as new_stage
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration


@pytest.fixture
async def stage(kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str) -> AsyncIterator[Stage]:
    async with new_stage(kafka, await fresh_database(), topic_prefix) as made:
        yield made


async def settled(stage: Stage, states: dict[str, int]) -> None:
    async def reached() -> bool:
        assert await stage.states() == states
        return True

    await eventually(reached)


async def came_of(stage: Stage, campaign_id: str, columns: str) -> set[Any]:
    rows = await stage.rows(f"SELECT {columns} FROM ledger WHERE campaign_id = :id", id=campaign_id)
    return {tuple(row) for row in rows}


async def test_a_provider_is_given_only_what_fits_it(stage: Stage) -> None:
    """Nobody listens where the provider of templates is: whatever is handed to it would not come back accepted."""
    await stage.provider("prv_a", "msg91", base_url="http://127.0.0.1:9", credentials={"auth_key": "k"})
    await stage.provider("prv_b", receipt="none")
    await stage.group(["prv_a", "prv_b"])
    await stage.campaign("cmp_1")
    await stage.campaign("cmp_2", by_provider={"prv_b": Content(template_id="t")})
    await stage.order([*stage.jobs(5, "cmp_1"), *stage.jobs(5, "cmp_2")])
    async with dispatching(stage):
        await settled(stage, {"ACCEPTED": 5, "FAILED": 5})
    assert await came_of(stage, "cmp_1", "provider_id, attempt") == {("prv_b", 1)}, "the other was never tried"
    said = {("personalisation_failed", "not_for_provider: body", 0)}
    assert await came_of(stage, "cmp_2", "cause, reason, attempt") == said


async def test_a_text_that_is_refused_is_made_again_for_the_next(stage: Stage) -> None:
    await stage.provider("prv_a", outcome="rejected_provider")
    await stage.provider("prv_b", receipt="none")
    await stage.group(["prv_a", "prv_b"])
    own = {"prv_a": Content("A {{ Profile.name }}"), "prv_b": Content("B {{ Profile.name }}")}
    await stage.campaign("cmp_1", by_provider=own)
    await stage.order(stage.jobs(1, "cmp_1"))
    async with dispatching(stage):
        await settled(stage, {"ACCEPTED": 1})
    assert await came_of(stage, "cmp_1", "body, provider_id, attempt") == {("B u-1", "prv_b", 2)}
