"""The segment-engine while its event store has no room: it waits, says so, and goes on without loss or double."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from postrider.contracts.audience import (
    REFUSED,
    SNAPSHOT_REQUESTED,
    SNAPSHOTTED,
    AudienceRefused,
    AudienceSnapshotted,
    SnapshotRequested,
)
from postrider.contracts.qualified import QUALIFIED, QualifiedUser
from postrider.contracts.topics import AUDIENCE_REQUESTS, QUALIFIED_USERS, QUALIFIED_USERS_BULK
from postrider.health import Check
from segment_engine.event_store.chdb_store import ChdbRunner
from segment_engine.event_store.disk import Disk, Usage
from segment_engine.event_store.port import EventStore
from segment_engine.event_store.sql_store import SqlEventStore
from tests.support.eventually import eventually
from tests.support.segment_engine import Engine, engine, identify, live_campaign, track

pytestmark = pytest.mark.integration


@pytest.fixture
async def made(
    kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str, tmp_path: Path
) -> AsyncIterator[Engine]:
    async with engine(kafka, await fresh_database(), topic_prefix, tmp_path / "store") as made:
        yield made


class SmallDisk:
    """`refused` counts the writes that found it full."""

    def __init__(self) -> None:
        self.full = False
        self.refused = 0

    def usage(self, _: Path) -> Usage:
        self.refused += self.full
        return Usage(10**9, 0 if self.full else 10**9)

    def store(self, folder: Path, check: Check) -> EventStore:
        return SqlEventStore(ChdbRunner(folder, check, Disk(folder, self.usage)))


async def part(http: httpx.AsyncClient) -> dict[str, str]:
    found: dict[str, str] = (await http.get("/readyz")).json()["parts"]["event_store"]
    return found


async def is_ready(http: httpx.AsyncClient) -> bool:
    return (await http.get("/readyz")).status_code == 200


async def test_a_full_disk_is_waited_for_while_live_campaigns_go_on(made: Engine) -> None:
    disk = SmallDisk()
    began = datetime.now(UTC)

    async def is_down() -> bool:
        return (await part(http))["status"] == "down"

    async def qualified() -> bool:
        users = await made.published(QUALIFIED_USERS, QUALIFIED, QualifiedUser)
        return {user.occurrence for user in users} == {"m-1", "m-2"}

    async with made.running(disk.store) as http:
        await made.define(live_campaign("Bought"))
        await made.send(identify("u-1", "i-1", phone="+15550100001"), track("u-1", "m-1", "Bought"))
        twice = {"rule": {"did": {"event": "Bought", "count": {"op": "eq", "value": 2}}}}
        assert (await http.post("/internal/estimate", json=twice)).json()["qualified"] == 0
        disk.full = True
        await made.send(track("u-1", "m-2", "Bought"), identify("u-2", "i-2", city="Pune"))
        await eventually(is_down)
        found = await part(http)
        assert "disk is full" in found["reason"]
        assert began < datetime.fromisoformat(found["since"]) <= datetime.now(UTC)
        assert not await is_ready(http)
        assert 'postrider_part_up{part="event_store"} 0.0' in (await http.get("/metrics")).text
        await eventually(qualified)
        wanted = disk.refused + 10
        await eventually(lambda: disk.refused >= wanted)
        disk.full = False
        await eventually(lambda: is_ready(http))
        assert (await http.post("/internal/estimate", json=twice)).json()["qualified"] == 1
        pune = {"rule": {"attribute": {"name": "city", "op": "eq", "value": "Pune"}}}
        assert (await http.post("/internal/estimate", json=pune)).json()["qualified"] == 1


async def test_a_snapshot_waits_for_room_and_is_not_refused(made: Engine) -> None:
    disk = SmallDisk()

    async def snapshots() -> list[AudienceSnapshotted]:
        return await made.published(QUALIFIED_USERS_BULK, SNAPSHOTTED, AudienceSnapshotted)

    async with made.running(disk.store) as http:
        await made.send(identify("u-1", "i-1", phone="+15550100001"))
        assert (await http.post("/internal/estimate", json={"rule": {"all": []}})).json()["reachable"] == 1
        disk.full = True
        request = SnapshotRequested("run_1", "cmp_1", "once", 7, datetime.now(UTC), {"all": []})
        await made.tell(AUDIENCE_REQUESTS, "run_1", SNAPSHOT_REQUESTED, request)
        await eventually(lambda: disk.refused > 5, 20)
        assert await snapshots() == []
        disk.full = False
        (snapshot,) = await eventually(snapshots)
        assert (snapshot.total, snapshot.reachable) == (1, 1)
    assert await made.published(QUALIFIED_USERS_BULK, REFUSED, AudienceRefused) == []
