"""From send job to the provider's 2xx and the funnel: the main way, and the ways out before a call."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest

from postrider.contracts.send_jobs import Interval
from tests.support.dispatching import Stage, dispatching
from tests.support.dispatching import stage as new_stage
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration


@pytest.fixture
async def stage(
    kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str
) -> AsyncIterator[Stage]:
    async with new_stage(kafka, await fresh_database(), topic_prefix) as made:
        yield made


async def test_jobs_become_texts_once_and_the_funnel_adds_up(stage: Stage) -> None:
    await stage.provider("prv_a")
    await stage.group(["prv_a"])
    await stage.campaign()
    jobs = stage.jobs(60)
    live = stage.jobs(5)
    async with dispatching(stage):
        await stage.order(jobs)
        await stage.order(jobs)
        await stage.order_live(live)

        async def delivered() -> bool:
            return await stage.states() == {"DELIVERED": 65}

        await eventually(delivered)
    texts = await stage.rows("SELECT sent_to, body FROM sandbox_inbox")
    assert sorted(tuple(text) for text in texts) == sorted((job.phone, f"Hi {job.user_id}") for job in [*jobs, *live])
    assert await stage.funnel(65) == {"delivered": 65}
    changed = (await stage.events())[1]
    one = changed[jobs[0].message_id]
    assert (one.status, one.body, one.parts, one.phone) == ("delivered", f"Hi {jobs[0].user_id}", 1, jobs[0].phone)
    assert [(each.attempt, each.provider_id, each.outcome) for each in one.attempts] == [(1, "prv_a", "accepted")]
    assert await stage.rows("SELECT 1 FROM outbox") == []
