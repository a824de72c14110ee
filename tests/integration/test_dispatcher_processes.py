"""The dispatcher as a process that is killed and stopped at random moments, before a provider that loses replies."""

import asyncio
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from tests.standins.running import twilio_process
from tests.support.dispatching import ACCOUNT_SID, AUTH_TOKEN, Stage
from tests.support.dispatching import stage as new_stage
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration
TEXTS = 400


@pytest.fixture
async def stage(kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str) -> AsyncIterator[Stage]:
    async with new_stage(kafka, await fresh_database(), topic_prefix) as made:
        yield made


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
    return Counter(str(msgspec.json.decode(line)["to"]) for line in log.read_bytes().splitlines())


@pytest.mark.parametrize("seed", [1, 2])
async def test_nobody_is_texted_twice_and_nobody_is_lost(stage: Stage, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    log = tmp_path / "texts"
    options = ("--drop-after-accept", "0.1", "--latency-ms", "60", "--receipts", "delivered", "--seed", str(seed))
    async with twilio_process(log, *options, account_sid=ACCOUNT_SID, auth_token=AUTH_TOKEN) as port:
        await stage.twilio("prv_a", port, timeout_seconds=2, in_doubt_wait_seconds=3, parts_per_second=80)
        await stage.group(["prv_a"])
        await stage.campaign()
        jobs = stage.jobs(TEXTS)
        await stage.order(jobs)
        for _ in range(4):
            async with process(stage) as running:

                async def sends() -> bool:
                    before = len(log.read_bytes().splitlines()) if log.exists() else 0
                    await asyncio.sleep(0.3)
                    return len(log.read_bytes().splitlines()) > before or sum(accepted(log).values()) >= TEXTS

                await eventually(sends, 60)
                await asyncio.sleep(chance.random())
                if chance.random() < 0.4:
                    running.send_signal(signal.SIGSTOP)
                    await asyncio.sleep(1 + 2 * chance.random())
                    running.send_signal(signal.SIGCONT)
                    await asyncio.sleep(chance.random())
        async with process(stage) as running:

            async def all_settled() -> bool:
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
