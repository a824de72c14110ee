"""The dispatcher as a process that is killed and stopped at random moments, before a provider that loses replies."""

import asyncio
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from tests.standins.running import twilio_process
from tests.support.dispatching import ACCOUNT_SID, AUTH_TOKEN, Stage
from tests.support.dispatching import stage as new_stage
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration
TEXTS = 400


@asynccontextmanager
async def process(stage: Stage) -> AsyncIterator[asyncio.subprocess.Process]:
    """`python -m dispatcher`; killed at the end of the block if it still runs."""
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "dispatcher", env=os.environ | stage.environment(), stdout=asyncio.subprocess.DEVNULL
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()


def accepted(log: Path) -> Counter[str]:
    lines = log.read_bytes().splitlines() if log.exists() else []
    return Counter(str(msgspec.json.decode(line)["to"]) for line in lines)


async def test_nobody_is_texted_twice_and_nobody_is_lost(
    kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str, tmp_path: Path
) -> None:
    """Two runs side by side that know nothing of each other: most of each is leases that have to end."""
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        for seed in (1, 2):
            made = new_stage(kafka, await fresh_database(), f"{topic_prefix}-{seed}")
            group.create_task(killed_and_stopped(await stack.enter_async_context(made), tmp_path / f"{seed}", seed))


async def killed_and_stopped(stage: Stage, log: Path, seed: int) -> None:
    chance = random.Random(seed)
    options = ("--drop-after-accept", "0.1", "--latency-ms", "60", "--receipts", "delivered", "--seed", str(seed))
    async with twilio_process(log, *options, account_sid=ACCOUNT_SID, auth_token=AUTH_TOKEN) as port:
        await stage.twilio("prv_a", port, timeout_seconds=2, in_doubt_wait_seconds=3, parts_per_second=80)
        await stage.group(["prv_a"])
        await stage.campaign()
        jobs = stage.jobs(TEXTS)
        await stage.order(jobs)
        for _ in range(4):
            async with process(stage) as running:

                async def sends(running: asyncio.subprocess.Process = running) -> bool:
                    lives(running)
                    before = accepted(log).total()
                    await asyncio.sleep(0.3)
                    return accepted(log).total() > before or accepted(log).total() >= TEXTS

                await eventually(sends, 60)
                await asyncio.sleep(chance.random())
                if chance.random() < 0.4:
                    running.send_signal(signal.SIGSTOP)
                    await asyncio.sleep(1 + 2 * chance.random())
                    running.send_signal(signal.SIGCONT)
                    await asyncio.sleep(chance.random())
                lives(running)
        async with process(stage) as running:

            async def all_settled() -> bool:
                lives(running)
                states = await stage.states()
                assert set(states) <= {"ACCEPTED", "SENT", "DELIVERED"} and sum(states.values()) == TEXTS, states
                return True

            await eventually(all_settled, 90)
            running.terminate()
            assert await asyncio.wait_for(running.wait(), 30) == 0
    assert accepted(log) == Counter(job.phone for job in jobs)
    assert sum((await stage.funnel(TEXTS)).values()) == TEXTS
    assert not (await stage.funnel(TEXTS)).get("pending")
    assert not (await stage.funnel(TEXTS)).get("in_doubt")


def lives(process: asyncio.subprocess.Process) -> None:
    """Nobody but the test ends it."""
    if process.returncode is not None:
        pytest.fail(f"the dispatcher ended by itself, with {process.returncode}")
