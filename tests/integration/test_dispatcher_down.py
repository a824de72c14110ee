"""A provider that dies in the middle of its work: the group's next one takes over, what the dead one may have is never
given away, and it gets texts again when it is back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from dispatcher import metrics
from tests.standins.running import standin_started
from tests.support.dispatching import ACCOUNT_SID, AUTH_TOKEN, Stage, dispatching
from tests.support.dispatching import stage as new_stage
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration

JOBS, CONCURRENCY = 150, 8


@pytest.fixture
async def stage(kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str) -> AsyncIterator[Stage]:
    async with new_stage(kafka, await fresh_database(), topic_prefix) as made:
        await made.campaign()
        yield made


def texts(log: Path) -> list[str]:
    """Whom it has texted. A line that is not whole is being written, or was never answered."""
    return [msgspec.json.decode(line)["to"] for line in log.read_bytes().rpartition(b"\n")[0].splitlines()]


async def test_the_next_provider_takes_over_until_the_dead_one_is_back(stage: Stage, tmp_path: Path) -> None:
    log = tmp_path / "a"
    account = ("--account-sid", ACCOUNT_SID, "--auth-token", AUTH_TOKEN)
    process, port = await standin_started("twilio", log, *account, "--drop-after-accept", "0.1", "--seed", "5")
    try:
        await stage.twilio("prv_a", port, parts_per_second=60, timeout_seconds=3, in_doubt_wait_seconds=2)
        await stage.provider("prv_b", receipt="none")
        await stage.group(["prv_a", "prv_b"])
        jobs = stage.jobs(JOBS)
        async with dispatching(stage, concurrency=CONCURRENCY):
            await stage.order(jobs)
            await eventually(lambda: log.exists() and len(texts(log)) >= 20)
            process.kill()
            await process.wait()
            taken = texts(log)  # all that it will ever have of these

            async def everybody_else_went_through_b() -> bool:
                states = await stage.states()
                assert set(states) <= {"ACCEPTED", "SENT", "IN_DOUBT"} and sum(states.values()) == JOBS, states
                return True

            await eventually(everybody_else_went_through_b)
            assert metrics.BREAKER.labels("prv_a")._value.get() > 0
            by_b = [row.sent_to for row in await stage.rows("SELECT sent_to FROM sandbox_inbox")]
            doubts = await stage.rows("SELECT phone, provider_id FROM ledger WHERE state = 'IN_DOUBT'")
            in_doubt = {row.phone for row in doubts}
            assert max(Counter([*taken, *by_b]).values()) == 1, "nobody has two texts"
            assert in_doubt.isdisjoint(by_b), "what A may have is not given to B"
            # Calls that were under way when A died, before it had kept them, left no trace: nobody knows but they do.
            untraced = {job.phone for job in jobs}.difference(taken, by_b)
            assert untraced <= in_doubt and len(untraced) <= CONCURRENCY
            assert all(row.provider_id == "prv_a" for row in doubts), "a doubt stays with its provider"
            process, _ = await standin_started("twilio", log, *account, "--port", str(port))
            more = stage.jobs(60)
            await stage.order(more)

            async def all_of_them_and_some_by_a() -> bool:
                states = await stage.states()
                assert set(states) <= {"ACCEPTED", "SENT"} and sum(states.values()) == JOBS + len(more), states
                return True

            await eventually(all_of_them_and_some_by_a)

            async def a_is_well_again() -> bool:
                await stage.order(stage.jobs(1))
                return len(texts(log)) > len(taken)

            await eventually(a_is_well_again, every=0.3)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    got = Counter([*texts(log), *(row.sent_to for row in await stage.rows("SELECT sent_to FROM sandbox_inbox"))])
    assert max(got.values()) == 1 and {job.phone for job in [*jobs, *more]} <= set(got)
    refused = await stage.rows("SELECT 1 FROM attempts WHERE provider_id = 'prv_a' AND outcome = 'rejected_provider'")
    assert len(refused) <= 3 * CONCURRENCY, "the breaker spares the others the way through A"
