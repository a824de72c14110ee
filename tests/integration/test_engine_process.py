"""The segment-engine as a process: killed at any moment it loses and doubles nothing; asked to stop, it drains."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from postrider.clock import SystemClock
from postrider.contracts.audience import (
    PAGE,
    SNAPSHOT_REQUESTED,
    SNAPSHOTTED,
    ZONE_REQUESTED,
    AudiencePage,
    AudienceSnapshotted,
    SnapshotRequested,
    ZoneRequested,
)
from postrider.contracts.qualified import QUALIFIED, QualifiedUser
from postrider.contracts.topics import AUDIENCE_REQUESTS, QUALIFIED_USERS, QUALIFIED_USERS_BULK, USER_EVENTS
from tests.support.engine_process import engine_process, is_ready
from tests.support.eventually import eventually
from tests.support.segment_engine import Engine, engine, identify, live_campaign, track

pytestmark = pytest.mark.integration
USERS = 300
EVENTS_EACH = 10
KILLS = 5


@pytest.fixture
async def made(
    kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str, tmp_path: Path
) -> AsyncIterator[Engine]:
    async with engine(kafka, await fresh_database(), topic_prefix, tmp_path / "store") as made:
        yield made


async def test_kills_at_random_moments_lose_and_double_nothing(made: Engine) -> None:
    chance = random.Random(20261124)
    await made.define(live_campaign("Bought"))
    await made.send(*(identify(f"u-{n}", f"i-{n}", phone=f"+1555{2000000 + n}", first_name="A") for n in range(USERS)))
    events = [track(f"u-{n}", f"m-{n}-{turn}", "Bought") for turn in range(EVENTS_EACH) for n in range(USERS)]
    step = len(events) // KILLS
    async with (
        engine_process(made) as engine_,
        engine_.client() as http,
    ):
        for number in range(KILLS):
            await engine_.start()
            await made.send(
                *events[number * step : (number + 1) * step], *chance.sample(events[: number * step + 1], 1)
            )
            if number == 1:
                asked = SnapshotRequested("run_1", "cmp_1", "once", 7, SystemClock().now(), rule={"all": []})
                await made.tell(AUDIENCE_REQUESTS, "run_1", SNAPSHOT_REQUESTED, asked)
            if number == 2:
                zone = ZoneRequested("run_1", "cmp_1", "once", "UTC", 1, ["first_name"], 20)
                await made.tell(AUDIENCE_REQUESTS, "run_1", ZONE_REQUESTED, zone)
            await asyncio.sleep(chance.uniform(1.0, 4.0))
            assert engine_.process is not None
            assert engine_.process.returncode is None
            await engine_.end(signal.SIGKILL)
        wrong = (made.partition_of("u-0") + 1) % USER_EVENTS.partitions
        await made.send(track("u-0", "m-0-0", "Bought"), partition=wrong)
        await engine_.start()
        await eventually(lambda: is_ready(http), 40)
        exactly = {"did": {"event": "Bought", "count": {"op": "eq", "value": EVENTS_EACH}}}
        answer = await http.post("/internal/estimate", json={"rule": exactly})
        assert answer.json()["qualified"] == USERS, answer.text
        assert (await http.post("/internal/estimate", json={"rule": {"all": []}})).json()["reachable"] == USERS
        pages = await eventually(lambda: _pages(made), 30)
        assert await engine_.end(signal.SIGTERM) == 0
    (snapshot,) = {s.total for s in await made.published(QUALIFIED_USERS_BULK, SNAPSHOTTED, AudienceSnapshotted)}
    assert snapshot == USERS
    assert [user.rank for page in pages for user in page.users] == list(range(USERS))
    qualified = await made.published(QUALIFIED_USERS, QUALIFIED, QualifiedUser)
    assert {(q.user_id, q.occurrence) for q in qualified} == {(e["userId"], e["messageId"]) for e in events}
    assert all(user.phone == f"+1555{2000000 + int(user.user_id[2:])}" for user in qualified)


async def _pages(made: Engine) -> list[AudiencePage]:
    """Once the last is there; a crash may publish one again, then it is the same."""
    found: dict[int, AudiencePage] = {}
    for page in await made.published(QUALIFIED_USERS_BULK, PAGE, AudiencePage):
        assert found.setdefault(page.page, page) == page
    numbers: list[Any] = sorted(found)
    return [found[number] for number in numbers] if found and found[numbers[-1]].last else []
