"""Several segment-engines on one ClickHouse server or cluster: they share the work, and one that is killed is missed by
nobody.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from postrider.clock import SystemClock
from postrider.contracts.audience import SNAPSHOT_REQUESTED, SNAPSHOTTED, AudienceSnapshotted, SnapshotRequested
from postrider.contracts.qualified import QUALIFIED, QualifiedUser
from postrider.contracts.topics import AUDIENCE_REQUESTS, QUALIFIED_USERS, QUALIFIED_USERS_BULK
from tests.standins.clickhouse import PASSWORD, USER, ClickHouse
from tests.support.engine_process import EngineProcess, engine_process, is_ready
from tests.support.eventually import eventually
from tests.support.segment_engine import Engine, engine, identify, live_campaign, track

pytestmark = pytest.mark.integration
USERS = 200
EVENTS_EACH = 12
KILLS = 3


@pytest.fixture
async def made(
    kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str, tmp_path: Path
) -> AsyncIterator[Engine]:
    async with engine(kafka, await fresh_database(), topic_prefix, tmp_path / "unused") as made:
        yield made


async def test_two_engines_share_the_work_and_one_is_killed_over_and_over(made: Engine, tmp_path: Path) -> None:
    chance = random.Random(20261125)
    await made.define(live_campaign("Bought"))
    await made.send(*(identify(f"u-{n}", f"i-{n}", phone=f"+1555{2000000 + n}") for n in range(USERS)))
    events = [track(f"u-{n}", f"m-{n}-{turn}", "Bought") for turn in range(EVENTS_EACH) for n in range(USERS)]
    step = len(events) // (KILLS + 1)
    async with ClickHouse(tmp_path / "server", is_cluster=True).serving() as server:
        changes = {
            "POSTRIDER_EVENT_STORE_PATH": "",
            "POSTRIDER_CLICKHOUSE_URL": server.url,
            "POSTRIDER_CLICKHOUSE_USER": USER,
            "POSTRIDER_CLICKHOUSE_PASSWORD": PASSWORD,
            "POSTRIDER_CLICKHOUSE_CLUSTER": "main",
        }
        async with engine_process(made, changes) as first, engine_process(made, changes) as second:
            async with first.client() as of_first, second.client() as of_second:
                await first.start()
                await second.start()
                await eventually(lambda: is_ready(of_first), 40)
                await eventually(lambda: is_ready(of_second), 40)
                for number in range(KILLS):
                    server.faults.append(("INSERT INTO events", "cut after"))
                    await made.send(*events[number * step : (number + 1) * step], *chance.sample(events[: step + 1], 9))
                    if number == 1:
                        asked = SnapshotRequested("run_1", "cmp_1", "once", 7, SystemClock().now(), rule={"all": []})
                        await made.tell(AUDIENCE_REQUESTS, "run_1", SNAPSHOT_REQUESTED, asked)
                    if number == 0:
                        await eventually(lambda: _shared(of_first, of_second), 40)
                    await asyncio.sleep(chance.uniform(0.2, 1.5))
                    await _replace(second)
                await made.send(*events[KILLS * step :])
                exactly = {"did": {"event": "Bought", "count": {"op": "eq", "value": EVENTS_EACH}}}
                await eventually(lambda: is_ready(of_second), 60)
                for http in (of_first, of_second):
                    answer = await http.post("/internal/estimate", json={"rule": exactly})
                    assert (answer.status_code, answer.json()["qualified"]) == (200, USERS), answer.text
                snapshots = await eventually(lambda: _snapshots(made), 30)
                assert await second.end(signal.SIGTERM) == 0
                assert await first.end(signal.SIGTERM) == 0
    assert {(snapshot.total, snapshot.reachable) for snapshot in snapshots} == {(USERS, USERS)}
    qualified = await made.published(QUALIFIED_USERS, QUALIFIED, QualifiedUser)
    assert {(user.user_id, user.occurrence) for user in qualified} == {(e["userId"], e["messageId"]) for e in events}


async def _replace(engine_: EngineProcess) -> None:
    assert engine_.process is not None
    assert engine_.process.returncode is None
    await engine_.end(signal.SIGKILL)
    await engine_.start()


async def _shared(*engines: httpx.AsyncClient) -> bool:
    """Each has stored some events."""
    name = "postrider_segment_engine_events_stored_total "
    for http in engines:
        lines = (await http.get("/metrics")).text.splitlines()
        if not any(line.startswith(name) and float(line.removeprefix(name)) > 0 for line in lines):
            return False
    return True


async def _snapshots(made: Engine) -> list[AudienceSnapshotted]:
    return await made.published(QUALIFIED_USERS_BULK, SNAPSHOTTED, AudienceSnapshotted)
