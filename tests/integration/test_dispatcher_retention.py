"""What is over for long is forgotten; what waits, is in doubt or is an opt-out is not."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest

from postrider.contracts.send_jobs import Interval
from tests.support.dispatching import Stage, dispatching
from tests.support.dispatching import stage as new_stage
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration


@pytest.fixture
async def stage(kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str) -> AsyncIterator[Stage]:
    async with new_stage(kafka, await fresh_database(), topic_prefix) as made:
        await made.provider("prv_a")
        await made.group(["prv_a"])
        await made.campaign()
        yield made


async def test_the_ledger_forgets_what_is_over(stage: Stage) -> None:
    now = datetime.now(UTC)
    later = [Interval(now + timedelta(minutes=50), now + timedelta(hours=1))]
    old, young, waiting = stage.jobs(5), stage.jobs(2), stage.job(allowed=later)

    async def through(n: int) -> bool:
        assert await stage.states() == {"DELIVERED": n, "DEFERRED": 1}
        return True

    async with dispatching(stage):
        await stage.order([*old, waiting])
        await eventually(lambda: through(5))
    await stage.execute("INSERT INTO inbound VALUES ('prv_a', 'in-1', 'stop', db_now())")
    await stage.execute("INSERT INTO suppressions VALUES ('\\x00', true, 1, 'opted_out', 'test', '+1', db_now())")
    for table, moment in (
        ("ledger", "created_at"), ("ledger", "updated_at"), ("receipts", "received_at"), ("sandbox_inbox", "at"),
        ("inbound", "received_at"), ("suppressions", "at"),
    ):  # fmt: skip
        await stage.execute(f"UPDATE {table} SET {moment} = db_now() - interval '4 days'")
    await stage.execute("UPDATE attempts SET day = day - 4")
    await stage.execute(
        "INSERT INTO receipts (provider_id, provider_message_id, status, raw_status, received_at, next_at)"
        " VALUES ('prv_a', 'early', 'sent', 'sent', db_now() - interval '4 days', db_now() + interval '1 hour')"
    )
    async with dispatching(stage, retention_days=3):
        await stage.order(young)
        await eventually(lambda: through(2))

        async def forgotten() -> bool:
            for table, n in (("attempts", 2), ("sandbox_inbox", 2), ("inbound", 0), ("receipts", 5)):
                assert len(await stage.rows(f"SELECT 1 FROM {table}")) == n, table
            return True

        await eventually(forgotten)
    assert len(await stage.rows("SELECT 1 FROM suppressions")) == 1
    left = {row.message_id.hex for row in await stage.rows("SELECT message_id FROM ledger")}
    assert left == {waiting.message_id, *(job.message_id for job in young)}
