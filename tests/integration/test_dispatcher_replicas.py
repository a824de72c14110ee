"""Several dispatchers as processes: one ledger and one rate for all, restarted one after the other under load, and one
of them killed. Nobody is texted twice, nobody is lost.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dispatcher.domain.budget import SLICE_SECONDS, capacity
from postrider.local.ports import free_port
from tests.standins.running import twilio_process
from tests.support.dispatching import ACCOUNT_SID, AUTH_TOKEN, Stage
from tests.support.dispatching import stage as new_stage
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration
TEXTS_BEFORE, RATE = 600, 100
LATE = 0.5
"""Seconds, of a busy machine, between the moment a text may leave and its line in the provider's log."""


@pytest.fixture
async def stage(kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str) -> AsyncIterator[Stage]:
    async with new_stage(kafka, await fresh_database(), topic_prefix) as made:
        yield made


@dataclass
class Replica:
    process: asyncio.subprocess.Process
    log: Path

    async def stopped(self) -> None:
        """In order, by SIGTERM."""
        self.process.terminate()
        code = await asyncio.wait_for(self.process.wait(), 30)
        assert code == 0, self.log.read_text()[-3_000:]


@asynccontextmanager
async def replica(stage: Stage, log: Path) -> AsyncIterator[Replica]:
    port = {"POSTRIDER_DISPATCHER_PORT": str(free_port())}
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "dispatcher", env=os.environ | stage.environment() | port, stdout=output
        )
    try:
        yield Replica(process, log)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def lines(log: Path) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in log.read_bytes().splitlines()] if log.exists() else []


async def owners(stage: Stage) -> set[str]:
    """Who has claimed something, by the marks that are not made yet."""
    rows = await stage.rows("SELECT DISTINCT owner FROM ledger WHERE state = 'QUEUED' AND owner IS NOT NULL")
    return {row.owner for row in rows}


async def test_replicas_share_a_rate_are_replaced_and_taken_over(stage: Stage, tmp_path: Path) -> None:
    log = tmp_path / "texts"
    options = ("--latency-ms", "60")
    async with AsyncExitStack() as running:
        port = await running.enter_async_context(
            twilio_process(log, *options, account_sid=ACCOUNT_SID, auth_token=AUTH_TOKEN)
        )
        await stage.twilio("prv_a", port, timeout_seconds=2, in_doubt_wait_seconds=1, parts_per_second=RATE)
        await stage.group(["prv_a"])
        await stage.campaign()
        jobs = stage.jobs(TEXTS_BEFORE)
        enough = asyncio.Event()

        async def feed() -> None:
            """There is always something waiting, and no more than a few seconds' worth."""
            while not enough.is_set():
                if len(jobs) - len(lines(log)) < 4 * RATE:
                    more = stage.jobs(RATE)
                    jobs.extend(more)
                    await stage.order(more)
                await asyncio.sleep(0.2)

        async def start(name: str) -> Replica:
            return await running.enter_async_context(replica(stage, tmp_path / name))

        async def both_send() -> bool:
            return len(await owners(stage)) == 2

        first, second = await start("first"), await start("second")
        await stage.order(jobs)
        feeding = asyncio.create_task(feed())
        await eventually(both_send)
        third = await start("third")
        await first.stopped()
        fourth = await start("fourth")
        await second.stopped()
        await eventually(both_send)
        assert await stage.rows("SELECT 1 FROM ledger WHERE state = 'IN_DOUBT'") == [], "a restart leaves no doubt"
        third.process.kill()
        await third.process.wait()
        enough.set()
        await feeding
        await taken_over(stage, len(jobs))
        assert fourth.process.returncode is None
    texts = lines(log)
    assert Counter(str(text["to"]) for text in texts) == Counter(job.phone for job in jobs)
    moments = sorted(float(text["at"]) for text in texts)
    for span in (1.0, 3.0):
        most = max(sum(1 for moment in moments if begin <= moment < begin + span) for begin in moments)
        assert most <= RATE * (span + LATE) + capacity(RATE) + 3 * RATE * SLICE_SECONDS, f"within {span} s"
    funnel = await stage.funnel(len(jobs))
    assert set(funnel) <= {"awaiting_receipt", "sent"} and sum(funnel.values()) == len(jobs)


async def taken_over(stage: Stage, n: int) -> None:
    """What the dead one held comes free with its leases: here, as soon as nobody else has anything to do."""

    async def left() -> list[tuple[Any, ...]]:
        rows = await stage.rows(
            "SELECT message_id, state, owner, lease_until FROM ledger WHERE state NOT IN ('ACCEPTED', 'SENT')"
            " ORDER BY message_id"
        )
        return [tuple(row) for row in rows]

    async def only_the_dead_ones_are_left() -> bool:
        before = await left()
        await asyncio.sleep(0.5)
        return all(row[2] is not None for row in before) and await left() == before

    await eventually(only_the_dead_ones_are_left)
    await stage.execute("UPDATE ledger SET lease_until = db_now() WHERE state IN ('QUEUED', 'SUBMITTING')")

    async def all_accepted() -> bool:
        states = await stage.states()
        assert set(states) <= {"ACCEPTED", "SENT"} and sum(states.values()) == n, states
        return True

    await eventually(all_accepted)
