"""Texts per minute of a campaign: kept by all replicas together, at nobody else's cost."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from dispatcher.budget import Budget
from dispatcher.domain.budget import capacity
from dispatcher.domain.message import BULK, Queue
from dispatcher.store import claims, intake
from postrider.clock import FakeClock
from postrider.contracts.definitions import When
from postrider.contracts.send_jobs import SendJob
from postrider.local.ports import free_port
from tests.support.dispatching import Stage, dispatching
from tests.support.dispatching import stage as new_stage
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration
LATE = timedelta(seconds=0.3)
"""Of a busy machine, between the moment a text may leave and its line in the provider's log."""


@pytest.fixture
async def stage(kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str) -> AsyncIterator[Stage]:
    async with new_stage(kafka, await fresh_database(), topic_prefix) as made:
        await made.provider("prv_a", receipt="none")
        await made.group(["prv_a"])
        await made.campaign(when=When(throttle_per_minute=600))
        yield made


async def sent(stage: Stage, campaign_id: str = "cmp_1") -> list[datetime]:
    """The provider's log."""
    rows = await stage.rows(
        "SELECT s.at FROM sandbox_inbox s JOIN ledger l USING (message_id) WHERE l.campaign_id = :id ORDER BY s.at",
        id=campaign_id,
    )
    return [row.at for row in rows]


def most_within(moments: Sequence[datetime], span: timedelta) -> int:
    return max(sum(1 for moment in moments if first <= moment < first + span) for first in moments)


async def test_replicas_keep_to_a_throttle_together_through_a_pause_and_a_death(stage: Stage) -> None:
    jobs = stage.jobs(70)

    async def so_many(n: int) -> bool:
        return len(await sent(stage)) >= n

    async with dispatching(stage):
        async with dispatching(stage, port=free_port()):
            await stage.order(jobs)
            await eventually(lambda: so_many(20))
            await stage.campaign(status="paused", when=When(throttle_per_minute=600))
            await asyncio.sleep(1.5)
            await stage.campaign(when=When(throttle_per_minute=600))
            await eventually(lambda: so_many(40))
        await eventually(lambda: so_many(70))
    moments = await sent(stage)
    assert len(moments) == 70
    for seconds in (1, 2, 4):
        span = timedelta(seconds=seconds)
        allowed = 10 * (span + LATE).total_seconds() + capacity(10)
        assert most_within(moments, span) <= allowed, f"within {span}"


async def fill(stage: Stage, jobs: Sequence[SendJob], times: int) -> None:
    """As many copies of queued texts, each to somebody else, without the way through Kafka."""
    ids = [job.message_id for job in jobs]
    columns = [row.column_name for row in await stage.rows(
        "SELECT column_name FROM information_schema.columns WHERE table_name = 'ledger' AND table_schema = 'dispatcher'"
    )]  # fmt: skip
    new = {"message_id": "gen_random_uuid()", "user_id": "l.user_id || '-' || n", "owner": "NULL"}
    values = ", ".join(new.get(name, f"l.{name}") for name in columns)
    await stage.execute(
        f"INSERT INTO ledger ({', '.join(columns)}) SELECT {values} FROM ledger l, generate_series(1, {times}) n"
        " WHERE l.message_id = ANY(CAST(:ids AS uuid[]))",
        ids=ids,
    )


async def test_a_long_throttled_queue_keeps_nobody_waiting(stage: Stage) -> None:
    """A hundred thousand texts at one a second beside three thousand without a throttle, at the same provider."""
    when = When(throttle_per_minute=60)
    await stage.campaign(status="paused", when=when)
    await stage.campaign("cmp_2")
    slow, quick = stage.jobs(10), stage.jobs(3_000, "cmp_2")
    async with dispatching(stage):
        await stage.order(slow)
        await eventually(lambda: is_in(stage, {"HELD": 10}))
        await fill(stage, slow, 9_999)
        await stage.execute("UPDATE ledger SET state = 'QUEUED'")
        await stage.execute("ANALYZE ledger")
        await stage.campaign(when=when)
        await eventually(lambda: some_sent(stage))
        await stage.order(quick)

        async def through() -> bool:
            return len(await sent(stage, "cmp_2")) == 3_000

        await eventually(through, 60)
        explained = await stage.rows(
            "EXPLAIN (ANALYZE, FORMAT TEXT) SELECT message_id FROM ledger WHERE lane = 1 AND queue = :queue"
            " AND state IN ('QUEUED', 'DEFERRED') AND next_at <= db_now() AND (owner IS NULL OR lease_until < db_now())"
            " ORDER BY next_at LIMIT 1",
            queue=Queue("cmp_1", 1, "US").name,
        )
    first, last = (await sent(stage, "cmp_2"))[0], (await sent(stage, "cmp_2"))[-1]
    beside = [moment for moment in await sent(stage) if first <= moment <= last]
    assert len(beside) <= (last - first + LATE).total_seconds() + capacity(1)
    plan = "\n".join(row[0] for row in explained)
    assert "ledger_claimable" in plan and "Sort" not in plan, plan


async def test_a_look_for_queues_goes_on_where_the_last_one_ended(stage: Stage) -> None:
    """However many queues a throttle keeps full, those behind them are found."""
    jobs = [(stage.job(f"cmp_{n}"), b"\0" * 32) for n in range(7)]
    async with stage.database.begin() as tx:
        await intake.insert(tx, BULK, jobs)
        first = await claims.queues(tx, most=4)
        rest = await claims.queues(tx, first[-1], most=4)
        assert [Queue.parse(queue).campaign_id for _, queue in first + rest] == [f"cmp_{n}" for n in range(7)]
        assert await claims.queues(tx, rest[-1], most=4) == []


async def is_in(stage: Stage, states: dict[str, int]) -> bool:
    return await stage.states() == states


async def some_sent(stage: Stage) -> bool:
    return bool(await sent(stage))


async def test_no_more_is_claimed_ahead_than_leaves_in_a_second(stage: Stage) -> None:
    """A provider that answers slowly must not get at once what the throttle granted meanwhile."""
    await stage.provider("prv_a", latency_ms=1_500, receipt="none")
    await stage.campaign(when=When(throttle_per_minute=120))
    async with dispatching(stage, concurrency=1):
        await stage.order(stage.jobs(30))
        for n in (1, 2):
            await eventually(partial(has_sent, stage, n))
            claimed = await stage.rows("SELECT 1 FROM ledger WHERE state = 'QUEUED' AND owner IS NOT NULL")
            assert len(claimed) <= 2


async def has_sent(stage: Stage, n: int) -> bool:
    return len(await sent(stage)) >= n


async def test_an_edit_of_the_throttle_takes_effect(stage: Stage) -> None:
    await stage.campaign(when=When(throttle_per_minute=60))
    async with dispatching(stage):
        await stage.order(stage.jobs(300))
        await eventually(lambda: some_sent(stage))
        await stage.campaign(when=When(throttle_per_minute=None))
        await eventually(lambda: is_in(stage, {"ACCEPTED": 300}))
    first, last = (await sent(stage))[0], (await sent(stage))[-1]
    assert last - first < timedelta(seconds=150), "at one a second it would have taken twice as long"


async def test_an_empty_bucket_is_not_asked_before_it_can_have_something(stage: Stage) -> None:
    clock = FakeClock(datetime.now(UTC))
    budget = Budget(stage.database, clock, "cmp_1", 0.001)

    async def asked() -> datetime:
        ((at,),) = await stage.rows("SELECT refilled_at FROM provider_budget")
        return datetime.fromisoformat(str(at))

    assert await budget.available(1, 10) == 0
    first = await asked()
    clock.advance(timedelta(seconds=900))
    assert await budget.available(1, 10) == 0 and await asked() == first
    assert 0 < budget.wait_seconds < 101
    await stage.execute("UPDATE provider_budget SET tokens = 1")
    clock.advance(timedelta(seconds=101))
    assert await budget.available(1, 10) == 1
