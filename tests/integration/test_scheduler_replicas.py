"""Three schedulers share a run and live texts; one is killed and one stands still past its session. The third goes on
with all of it, the one that moves again has lost what was its own, and nobody is texted twice or forgotten.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx
import pytest

from postrider.clock import SystemClock
from postrider.contracts import codec, ids
from postrider.contracts.audience import PAGE, SNAPSHOT_REQUESTED, SNAPSHOTTED, SnapshotRequested, ZoneRequested
from postrider.contracts.definitions import CampaignDefinition, Trigger, What, When, Who
from postrider.contracts.envelope import Outgoing, headers_of
from postrider.contracts.qualified import QUALIFIED, QualifiedUser
from postrider.contracts.topics import QUALIFIED_USERS, QUALIFIED_USERS_BULK, SEND_JOBS, SEND_JOBS_BULK, Topic
from postrider.local.ports import free_port
from tests.support.eventually import eventually
from tests.support.scheduler_stage import Engine, Stage, make_stage

pytestmark = pytest.mark.integration

RUN, LIVE = "cmp_run", "cmp_live"
ZONES, PEOPLE, PAGE_SIZE = 24, 300, 5
AT_ONCE = 6
"""Pages of a zone that are published together."""
FIRST_LIVE, LATER_LIVE = 300, 100
PATIENCE_SECONDS = 90.0


@dataclass(frozen=True)
class Replica:
    process: asyncio.subprocess.Process
    port: int

    async def jobs(self, http: httpx.AsyncClient, lane: str) -> float:
        """How many it has made, by its own count."""
        page = (await http.get(f"http://127.0.0.1:{self.port}/metrics")).text
        name = f'postrider_scheduler_jobs_total{{lane="{lane}"}} '
        return sum(float(line.removeprefix(name)) for line in page.splitlines() if line.startswith(name))


@asynccontextmanager
async def replicas(stage: Stage, count: int) -> AsyncIterator[list[Replica]]:
    """Killed in the end."""
    ports = [free_port() for _ in range(count)]
    found = [
        Replica(
            await stage.scheduler_process(
                POSTRIDER_INSTANCE_ID=f"r{number}",
                POSTRIDER_SCHEDULER_PORT=str(port),
                POSTRIDER_PAGE_SIZE=str(PAGE_SIZE),
            ),
            port,
        )
        for number, port in enumerate(ports)
    ]
    try:
        yield found
    finally:
        for each in found:
            if each.process.returncode is None:
                each.process.kill()
            await each.process.wait()


@pytest.fixture
async def stage(kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str) -> AsyncIterator[Stage]:
    async with make_stage(kafka, fresh_database, topic_prefix) as stage:
        yield stage


def campaign(id: str, kind: str, who: Who) -> CampaignDefinition:
    status = "running" if kind == "live_action" else "scheduled"
    return CampaignDefinition(
        id, 1, status, kind, "replicas", "transactional", When(time_zone="user"), who, 1, {"1": What("Hi")},
        datetime.now(UTC),
    )  # fmt: skip


def outgoing(stage: Stage, topic: Topic, key: str, type: str, value: object) -> Outgoing:
    headers = headers_of("test", type, "test", SystemClock().now())
    return Outgoing(topic.full_name(stage.config.topic_prefix), key.encode(), codec.encode(value), headers)


async def give_out(stage: Stage, engine: Engine, go_on: asyncio.Event) -> None:
    """Answers the snapshot and each zone, a few pages of every zone in turn, one of them twice; the second half when it
    is told to."""
    [asked] = await eventually(lambda: stage.requests(SNAPSHOT_REQUESTED, SnapshotRequested), PATIENCE_SECONDS)
    await stage.send(QUALIFIED_USERS_BULK, asked.run_id, SNAPSHOTTED, engine.snapshot(asked))
    run = ids.run_id(RUN, "once")
    pages = {
        zone: engine.pages(ZoneRequested(run, RUN, "once", zone, 1, [], PAGE_SIZE)) for zone in engine.audience
    }  # fmt: skip
    await eventually(lambda: fired(stage), PATIENCE_SECONDS)
    for start in range(0, PEOPLE // PAGE_SIZE, AT_ONCE):
        if start * PAGE_SIZE >= PEOPLE // 2:
            await go_on.wait()
        for zone, all_pages in pages.items():
            these = all_pages[start : start + AT_ONCE]
            sent = [*these, these[0]]
            await stage.publisher.publish(
                [outgoing(stage, QUALIFIED_USERS_BULK, f"{run}:{zone}", PAGE, page) for page in sent]
            )


async def fired(stage: Stage) -> bool:
    return await scalar(stage, "SELECT count(*) FROM zone_timers WHERE state = 'requested'") == ZONES


async def all_ready(http: httpx.AsyncClient, all_of_them: tuple[Replica, ...]) -> bool:
    """Whoever has no partition of a lane yet is not ready."""
    for each in all_of_them:
        try:
            assert (await http.get(f"http://127.0.0.1:{each.port}/readyz")).status_code == 200
        except httpx.TransportError as error:
            raise AssertionError("is not up yet") from error
    return True


async def qualify(stage: Stage, numbers: range) -> None:
    """Each twice."""
    for number in numbers:
        now = datetime.now(UTC)
        user = QualifiedUser(LIVE, 1, 1, "e1", f"u{number}", now, now, "UTC", phone="+12025550123")
        record = outgoing(stage, QUALIFIED_USERS, user.user_id, QUALIFIED, user)
        await stage.publisher.publish([record, record])


async def scalar(stage: Stage, sql: str) -> int:
    async with stage.database.begin() as tx:
        return int((await tx.exec_driver_sql(sql)).scalar_one())


async def expanded(stage: Stage, people: int) -> bool:
    found = await scalar(stage, "SELECT coalesce(sum(expanded_users), 0) FROM zone_timers")
    assert found >= people, found
    return True


async def emitted(stage: Stage, topic: Topic, wanted: set[str]) -> bool:
    jobs = await stage.jobs(topic)
    assert set(jobs) == wanted, (len(jobs), len(wanted))
    # A relay may repeat what a replica had committed and not published: the same job under the same key.
    assert all(copy == copies[0] for copies in jobs.values() for copy in copies)
    return True


def live_keys(count: int) -> set[str]:
    return {ids.message_id(LIVE, "e1", f"u{number}") for number in range(count)}


async def test_others_take_over_from_a_killed_and_from_a_silent_replica(stage: Stage) -> None:
    engine = Engine({f"Area/Zone{number}": [""] * PEOPLE for number in range(ZONES)})
    await stage.define(campaign(RUN, "one_time", Who(rule={"all": []})))
    await stage.define(campaign(LIVE, "live_action", Who(trigger=Trigger("Bought"))))
    everybody = {ids.message_id(RUN, "once", user) for user in engine.user_ids()}
    async with replicas(stage, 3) as (killed, silent, last), httpx.AsyncClient(trust_env=False) as http:
        await eventually(lambda: all_ready(http, (killed, silent, last)), PATIENCE_SECONDS)
        go_on = asyncio.Event()
        giving = asyncio.gather(give_out(stage, engine, go_on), qualify(stage, range(FIRST_LIVE)))
        try:
            await eventually(lambda: shared(http, (killed, silent, last)), PATIENCE_SECONDS)
            killed.process.kill()
            silent.process.send_signal(signal.SIGSTOP)
            go_on.set()
            await giving
        finally:
            giving.cancel()
        # All is done while one is dead and the other still stands.
        await eventually(lambda: emitted(stage, SEND_JOBS_BULK, everybody), PATIENCE_SECONDS)
        await eventually(lambda: emitted(stage, SEND_JOBS, live_keys(FIRST_LIVE)), PATIENCE_SECONDS)
        silent.process.send_signal(signal.SIGCONT)
        before = await silent.jobs(http, "live")
        await qualify(stage, range(FIRST_LIVE, FIRST_LIVE + LATER_LIVE))
        await eventually(lambda: emitted(stage, SEND_JOBS, live_keys(FIRST_LIVE + LATER_LIVE)), PATIENCE_SECONDS)
        await eventually(lambda: is_back(stage, http, silent, before), PATIENCE_SECONDS)
        assert silent.process.returncode is None and last.process.returncode is None
        await eventually(lambda: adds_up(stage, everybody), PATIENCE_SECONDS)


async def adds_up(stage: Stage, everybody: set[str]) -> bool:
    """Each is counted once and has a row in the message log, and no job has come twice meanwhile."""
    lives = await scalar(stage, "SELECT count(*) FROM live_sends")
    assert await stage.funnel() == {"pending": len(everybody) + lives}
    assert {row.message_id for row in await stage.message_rows() if row.campaign_id == RUN} == everybody
    return await emitted(stage, SEND_JOBS_BULK, everybody)


async def shared(http: httpx.AsyncClient, all_of_them: tuple[Replica, ...]) -> bool:
    """Each has made a part of the run and of the live texts."""
    for each in all_of_them:
        assert await each.jobs(http, "bulk") and await each.jobs(http, "live")
    return True


async def is_back(stage: Stage, http: httpx.AsyncClient, replica: Replica, before: float) -> bool:
    """It has partitions again, and works."""
    number = await scalar(stage, "SELECT count(*) FROM live_sends")
    await qualify(stage, range(number, number + 6))
    assert await replica.jobs(http, "live") > before
    return True
