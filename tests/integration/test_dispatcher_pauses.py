"""Campaigns paused, resumed and stopped while texts wait, are under way, are in doubt, and while nobody was there."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from dispatcher.announcer import Announcer
from dispatcher.sweeper import Sweeper
from postrider.contracts import codec
from postrider.contracts.definitions import CampaignDefinition, When, Who
from postrider.contracts.delivery_events import MESSAGE_CHANGED, MessageChanged
from postrider.contracts.envelope import envelope_of
from postrider.contracts.send_jobs import Interval
from postrider.contracts.topics import DELIVERY_EVENTS
from postrider.local.ports import free_port
from postrider.postgres.outbox import Outbox
from tests.support.dispatching import News, Stage, dispatching
from tests.support.dispatching import stage as new_stage
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration
BEFORE_THE_NEXT_LOOK = 3.0
"""The sweeper looks for itself every five seconds; what happens sooner was told to it."""


@pytest.fixture
async def stage(kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str) -> AsyncIterator[Stage]:
    async with new_stage(kafka, await fresh_database(), topic_prefix) as made:
        await made.provider("prv_a", receipt="none")
        await made.group(["prv_a"])
        await made.campaign()
        yield made


async def settled(stage: Stage, states: dict[str, int], timeout: float = 30) -> None:
    async def reached() -> bool:
        assert await stage.states() == states
        return True

    await eventually(reached, timeout)


async def story(stage: Stage, message_id: str) -> list[str]:
    """What the message log was told of a text, in order."""
    told: dict[int, str] = {}
    for record in await stage.read(DELIVERY_EVENTS):
        if envelope_of(record.headers).type == MESSAGE_CHANGED:
            change = codec.decode(record.value, MessageChanged)
            if change.message_id == message_id:
                told[change.seq] = f"{change.status} {change.reason}".rstrip()
    return [told[seq] for seq in sorted(told)]


async def test_a_resume_sends_at_once_what_is_inside_its_deadline_and_the_log_tells_all(stage: Stage) -> None:
    await stage.campaign(status="paused")
    jobs = stage.jobs(8)
    late = stage.job(send_by=datetime.now(UTC) + timedelta(seconds=4))
    async with dispatching(stage):
        await stage.order([*jobs, late])
        await settled(stage, {"HELD": 9})
        await settled(stage, {"HELD": 8, "EXPIRED": 1})
        await asyncio.sleep(0.5)  # the look is over that every process makes by itself
        for _ in range(2):
            await stage.campaign(status="running")
            await settled(stage, {"ACCEPTED": len(jobs), "EXPIRED": 1}, BEFORE_THE_NEXT_LOOK)
            await stage.campaign(status="paused")
            jobs += more if (more := stage.jobs(3)) else []
            await stage.order(jobs[-3:])
            await settled(stage, {"ACCEPTED": len(jobs) - 3, "HELD": 3, "EXPIRED": 1})
        await stage.campaign(status="stopped")
        await settled(stage, {"ACCEPTED": len(jobs) - 3, "CANCELLED": 3, "EXPIRED": 1})
    assert await story(stage, jobs[0].message_id) == ["pending campaign_paused", "pending", "awaiting_receipt"]
    assert await story(stage, late.message_id) == ["pending campaign_paused", "expired campaign_paused"]
    assert await story(stage, jobs[-1].message_id) == ["pending campaign_paused", "cancelled campaign_stopped"]
    assert await stage.funnel(15) == {"awaiting_receipt": 11, "cancelled": 3, "expired": 1}


async def test_a_text_that_waits_for_its_moment_waits_on_after_a_pause(stage: Stage) -> None:
    """The moment at which it is due, or its next allowed interval."""
    now = datetime.now(UTC)
    evening = Interval(now + timedelta(seconds=5), now + timedelta(hours=1))
    async with dispatching(stage):
        await stage.order([stage.job(allowed=[evening], on_hit="delay"), stage.job(due_at=evening.start)])
        await settled(stage, {"DEFERRED": 1, "QUEUED": 1})
        await stage.campaign(status="paused")
        await settled(stage, {"HELD": 2})
        await stage.campaign(status="running")
        await settled(stage, {"ACCEPTED": 2})
    texts = await stage.rows("SELECT at FROM sandbox_inbox")
    assert len(texts) == 2 and min(row.at for row in texts) >= evening.start


async def test_a_doubt_that_ends_in_a_pause_is_held(stage: Stage) -> None:
    doubtful: dict[str, Any] = {"in_doubt_wait_seconds": 1, "timeout_seconds": 1, "receipt": "none"}
    await stage.provider("prv_a", outcome="in_doubt", **doubtful)
    async with dispatching(stage):
        await stage.order(stage.jobs(3))
        await settled(stage, {"IN_DOUBT": 3})
        await stage.campaign(status="paused")
        await settled(stage, {"HELD": 3})
        await stage.provider("prv_a", **doubtful)
        await stage.campaign(status="running")
        await settled(stage, {"ACCEPTED": 3})
    assert await stage.funnel(3) == {"awaiting_receipt": 3}


async def test_a_pause_outlives_every_process(stage: Stage) -> None:
    async with dispatching(stage):
        await stage.campaign(status="paused")
        await stage.order(stage.jobs(5))
        await settled(stage, {"HELD": 5})
    async with dispatching(stage):
        await stage.order(stage.jobs(2))
        await settled(stage, {"HELD": 7})
    await stage.campaign(status="running")
    async with dispatching(stage):
        await settled(stage, {"ACCEPTED": 7})


async def more_than(stage: Stage, n: int) -> bool:
    return len(await stage.rows("SELECT 1 FROM sandbox_inbox")) > n


async def test_a_storm_of_pauses_and_resumes_loses_and_doubles_nobody(stage: Stage) -> None:
    await stage.provider("prv_a", latency_ms=40, parts_per_second=150, receipt="none")
    jobs = stage.jobs(900)
    async with dispatching(stage), dispatching(stage, port=free_port()):
        await stage.order(jobs)
        for _ in range(5):
            sent = len(await stage.rows("SELECT 1 FROM sandbox_inbox"))
            await eventually(partial(more_than, stage, sent))
            await stage.campaign(status="paused")
            await asyncio.sleep(0.2)
            await stage.campaign(status="running")
        await stage.campaign(status="paused")
        await stage.campaign(status="stopped")
        stopped_at = datetime.now(UTC)

        async def nothing_waits() -> bool:
            states = await stage.states()
            return set(states) <= {"ACCEPTED", "CANCELLED"} and sum(states.values()) == 900

        await eventually(nothing_waits)
    texts = await stage.rows("SELECT sent_to, at FROM sandbox_inbox")
    assert len(texts) == len(set(Counter(row.sent_to for row in texts)))
    states = await stage.states()
    assert len(texts) == states["ACCEPTED"] < 900
    # The sandbox writes when its latency is over: 40 ms after the call began.
    assert max(row.at for row in texts) <= stopped_at + timedelta(seconds=1.04)
    assert await stage.funnel(900) == {"awaiting_receipt": len(texts), "cancelled": 900 - len(texts)}


async def test_on_old_news_a_stop_is_believed_and_nothing_else(stage: Stage) -> None:
    """Cut off from Kafka a dispatcher knows neither a new campaign nor that one was resumed: it must not cancel the
    first, nor move the texts of the second to and fro with a replica that does."""
    states = {"cmp_1": "stopped", "cmp_2": "running", "cmp_new": "unknown here"}
    jobs = [job for campaign_id in states for job in stage.jobs(2, campaign_id)]
    async with dispatching(stage):
        for campaign_id in states:
            await stage.campaign(campaign_id, status="paused")
        await stage.order(jobs)
        await settled(stage, {"HELD": 6})

    class OldNews(News):
        @property
        def campaigns(self) -> dict[str, CampaignDefinition]:
            return {
                id: CampaignDefinition(id, 1, status, "one_time", "", "", When(), Who(), 1, {})
                for id, status in states.items()
                if status != "unknown here"
            }

    news = OldNews(confirmed=False)
    outbox = Outbox(stage.database, stage.publisher, "dispatcher", stage.prefix)
    resumed: list[set[tuple[int, str]]] = []
    sweeper = Sweeper(stage.database, news, Announcer(outbox), resumed.append)
    stop = asyncio.Event()
    running = asyncio.create_task(sweeper.run(stop))
    await settled(stage, {"HELD": 4, "CANCELLED": 2})
    await asyncio.sleep(0.3)
    assert await stage.states() == {"HELD": 4, "CANCELLED": 2} and not resumed
    states["cmp_new"] = "running"
    news.confirmed = True
    await settled(stage, {"QUEUED": 4, "CANCELLED": 2})
    assert {queue.split("|")[0] for queues in resumed for _, queue in queues} == {"cmp_2", "cmp_new"}
    stop.set()
    await running
