"""From send job to the provider's 2xx and the funnel: the main way, and the ways out before a call."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from sqlalchemy.exc import DBAPIError

from dispatcher.domain.budget import capacity
from postrider.contracts.send_jobs import Interval
from postrider.local.ports import free_port
from tests.standins.running import twilio_process
from tests.support.dispatching import ACCOUNT_SID, AUTH_TOKEN, Stage, dispatching
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


async def settled(stage: Stage, states: dict[str, int]) -> None:
    async def reached() -> bool:
        assert await stage.states() == states
        return True

    await eventually(reached)


async def test_jobs_become_texts_once_and_the_funnel_adds_up(stage: Stage) -> None:
    jobs, live = stage.jobs(60), stage.jobs(5)
    async with dispatching(stage):
        await stage.order(jobs)
        await stage.order(jobs)
        await stage.order_live(live)
        await settled(stage, {"DELIVERED": 65})
    texts = await stage.rows("SELECT sent_to, body FROM sandbox_inbox")
    assert sorted(tuple(text) for text in texts) == sorted((job.phone, f"Hi {job.user_id}") for job in [*jobs, *live])
    assert await stage.funnel(65) == {"delivered": 65}
    changed = (await stage.events())[1]
    one = changed[jobs[0].message_id]
    assert (one.status, one.body, one.parts, one.phone) == ("delivered", f"Hi {jobs[0].user_id}", 1, jobs[0].phone)
    assert [(each.attempt, each.provider_id, each.outcome) for each in one.attempts] == [(1, "prv_a", "accepted")]
    assert await stage.rows("SELECT 1 FROM outbox") == []


async def test_what_is_not_sent_says_why(stage: Stage) -> None:
    abort = "{% if Profile.name == 'x' %}{% abort 'not you' %}{% endif %}"
    await stage.campaign("cmp_2", body=f"{abort}Hi {{{{ Profile.name }}}}")
    await stage.campaign("cmp_3", body="€" * 200, max_parts=1)
    now = datetime.now(UTC)
    missed = [Interval(now - timedelta(hours=2), now - timedelta(hours=1))]
    jobs = {
        "personalisation_failed missing_value": stage.job(profile={}),
        "aborted not you": stage.job("cmp_2", profile={"name": "x"}),
        "personalisation_failed too_many_parts": stage.job("cmp_3"),
        "expired deadline": stage.job(send_by=now - timedelta(seconds=1)),
        "quiet_hours quiet_hours": stage.job(allowed=missed),
        "expired quiet_hours": stage.job(allowed=missed, on_hit="delay"),
        "cancelled campaign_deleted": stage.job("cmp_gone"),
        "personalisation_failed unknown_what_version": stage.job(what_version=7),
    }
    async with dispatching(stage):
        await stage.order(list(jobs.values()))
        await settled(stage, {"FAILED": 5, "EXPIRED": 2, "CANCELLED": 1})
    changed = (await stage.events())[1]
    assert {f"{changed[job.message_id].status} {changed[job.message_id].reason}" for job in jobs.values()} == set(jobs)
    assert await stage.rows("SELECT 1 FROM sandbox_inbox") == []
    assert sum((await stage.funnel(8)).values()) == 8


async def test_a_text_outside_its_interval_waits_for_it(stage: Stage) -> None:
    now = datetime.now(UTC)
    soon = Interval(now + timedelta(seconds=3), now + timedelta(hours=1))
    async with dispatching(stage):
        await stage.order([stage.job(allowed=[soon])])
        await settled(stage, {"DEFERRED": 1})
        await settled(stage, {"DELIVERED": 1})
    ((sent_at,),) = await stage.rows("SELECT at FROM sandbox_inbox")
    assert sent_at >= soon.start


async def test_a_text_that_is_ordered_before_it_is_due_waits_in_its_queue(stage: Stage) -> None:
    due = datetime.now(UTC) + timedelta(seconds=3)
    async with dispatching(stage):
        await stage.order([stage.job(due_at=due, allowed=[Interval(due, due + timedelta(hours=1))])])
        await settled(stage, {"QUEUED": 1})
        assert [row.next_at for row in await stage.rows("SELECT next_at FROM ledger")] == [due]
        await settled(stage, {"DELIVERED": 1})
    ((sent_at,),) = await stage.rows("SELECT at FROM sandbox_inbox")
    assert sent_at >= due


async def test_a_stop_cancels_what_waits_and_nothing_leaves_afterwards(stage: Stage) -> None:
    await stage.provider("prv_a", parts_per_second=20, receipt="none")
    async with dispatching(stage):
        await stage.order(stage.jobs(400))

        async def some_sent() -> bool:
            return (await stage.states()).get("ACCEPTED", 0) > 3

        await eventually(some_sent)
        await stage.campaign(status="stopped")
        published = datetime.now(UTC)

        async def nothing_waits() -> bool:
            return set(await stage.states()) == {"ACCEPTED", "CANCELLED"}

        await eventually(nothing_waits)
        await stage.order(stage.jobs(5))

        async def late_jobs_too() -> bool:
            return sum((await stage.states()).values()) == 405 and await nothing_waits()

        await eventually(late_jobs_too)
    ((last,),) = await stage.rows("SELECT max(at) FROM sandbox_inbox")
    assert last <= published + timedelta(seconds=1)
    counts = await stage.funnel(405)
    assert counts["cancelled"] + counts["awaiting_receipt"] == 405


async def test_a_pause_holds_and_a_resume_sends(stage: Stage) -> None:
    await stage.campaign(status="paused")
    async with dispatching(stage):
        await stage.order(stage.jobs(10))
        await settled(stage, {"HELD": 10})
        await stage.campaign(status="running")
        await settled(stage, {"DELIVERED": 10})
    assert await stage.funnel(10) == {"delivered": 10}


async def test_the_rate_of_a_provider_is_kept(stage: Stage) -> None:
    await stage.provider("prv_a", parts_per_second=40, receipt="none")
    async with dispatching(stage):
        await stage.order(stage.jobs(100))
        await settled(stage, {"ACCEPTED": 100})
    moments = sorted(row.at for row in await stage.rows("SELECT at FROM sandbox_inbox"))
    for first in moments:
        within = sum(1 for moment in moments if first <= moment < first + timedelta(seconds=1))
        # The bucket, one draw of it, and a quarter of a second between the call and its line on a busy machine.
        assert within <= 40 * 1.25 + capacity(40) + 4, "a second's parts, and what was in hand"
    least = (100 - capacity(40) - 4) / 40 - 0.25
    assert moments[-1] - moments[0] >= timedelta(seconds=least), "and over all of them the rate itself"


async def test_a_live_text_does_not_wait_behind_bulk(stage: Stage) -> None:
    await stage.provider("prv_a", parts_per_second=10, receipt="none")
    await stage.campaign("cmp_live", kind="live_action")
    bulk, live = stage.jobs(200), stage.jobs(3, "cmp_live")
    async with dispatching(stage):
        await stage.order(bulk)

        async def bulk_runs() -> bool:
            return bool(await stage.rows("SELECT 1 FROM sandbox_inbox"))

        await eventually(bulk_runs)
        await stage.order_live(live)

        async def live_sent() -> bool:
            rows = await stage.rows("SELECT 1 FROM ledger WHERE campaign_id = 'cmp_live' AND state = 'ACCEPTED'")
            return len(rows) == 3

        await eventually(live_sent)
        assert (await stage.states())["QUEUED"] > 100, "and bulk is far from through"


async def test_a_drain_leaves_nothing_under_way_and_the_next_process_goes_on(stage: Stage) -> None:
    await stage.provider("prv_a", latency_ms=150, receipt="none")
    jobs = stage.jobs(500)
    async with dispatching(stage):
        await stage.order(jobs)

        async def some_sent() -> bool:
            return (await stage.states()).get("ACCEPTED", 0) > 50

        await eventually(some_sent)
    left = await stage.states()
    assert set(left) <= {"ACCEPTED", "QUEUED"}
    assert await stage.rows("SELECT 1 FROM ledger WHERE owner IS NOT NULL") == []
    async with dispatching(stage):
        await settled(stage, {"ACCEPTED": 500})
    texts = Counter(row.sent_to for row in await stage.rows("SELECT sent_to FROM sandbox_inbox"))
    assert texts == Counter(job.phone for job in jobs)
    assert await stage.funnel(500) == {"awaiting_receipt": 500}


async def test_two_dispatchers_share_the_work_and_send_once(stage: Stage) -> None:
    await stage.provider("prv_a", latency_ms=20, parts_per_second=300, receipt="none")
    jobs = stage.jobs(600)
    async with dispatching(stage):
        async with dispatching(stage, port=free_port()):
            await stage.order(jobs)
            await settled(stage, {"ACCEPTED": 600})
    texts = Counter(row.sent_to for row in await stage.rows("SELECT sent_to FROM sandbox_inbox"))
    assert texts == Counter(job.phone for job in jobs)


async def test_cut_database_connections_cost_time_and_no_text(stage: Stage, tmp_path: Path) -> None:
    """Some are cut in a mark or settlement, where nobody knows whether it was committed."""
    log = tmp_path / "texts"
    async with twilio_process(log, "--latency-ms", "20", account_sid=ACCOUNT_SID, auth_token=AUTH_TOKEN) as port:
        await stage.twilio("prv_a", port, timeout_seconds=1, in_doubt_wait_seconds=2, parts_per_second=300)
        jobs = stage.jobs(900)
        async with dispatching(stage):
            await stage.order(jobs)
            for _ in range(6):
                await asyncio.sleep(0.4)
                await stage.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                    " AND datname = current_database() AND application_name = 'postrider-dispatcher'"
                )
            await eventually(lambda: _all_accepted(stage, 900), 60)
    texts = Counter(str(msgspec.json.decode(line)["to"]) for line in log.read_bytes().splitlines())
    assert texts == Counter(job.phone for job in jobs)
    funnel = await stage.funnel(900)
    assert sum(funnel.values()) == 900 and set(funnel) <= {"awaiting_receipt", "sent"}


async def _all_accepted(stage: Stage, n: int) -> bool:
    """One that was in doubt and is looked up comes back as sent."""
    try:
        states = await stage.states()
    except (DBAPIError, OSError):
        return False  # our own connection was one of those that were cut
    assert set(states) <= {"ACCEPTED", "SENT"} and sum(states.values()) == n, states
    return True
