"""At most once: failover on definite rejections only, doubts that are resolved, crashes, zombies."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import msgspec
import pytest

from dispatcher.providers.sandbox import sandbox_id
from tests.standins.running import twilio_process
from tests.support.dispatching import ACCOUNT_SID, AUTH_TOKEN, Stage, dispatching
from tests.support.dispatching import stage as new_stage
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration


@pytest.fixture
async def stage(kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str) -> AsyncIterator[Stage]:
    async with new_stage(kafka, await fresh_database(), topic_prefix) as made:
        await made.campaign()
        yield made


async def settled(stage: Stage, states: dict[str, int], timeout: float = 20) -> None:
    async def reached() -> bool:
        assert await stage.states() == states
        return True

    await eventually(reached, timeout)


def accepted(log: Path) -> Counter[str]:
    """Texts by recipient, from the stand-in's own fsynced ledger."""
    return Counter(str(msgspec.json.decode(line)["to"]) for line in log.read_bytes().splitlines())


async def test_a_provider_that_refuses_is_followed_by_the_next(stage: Stage, tmp_path: Path) -> None:
    options = ("--refuse-code", "30002")
    async with twilio_process(tmp_path / "a", *options, account_sid=ACCOUNT_SID, auth_token=AUTH_TOKEN) as port:
        await stage.twilio("prv_a", port)
        await stage.provider("prv_b", receipt="none")
        await stage.group(["prv_a", "prv_b"])
        jobs = stage.jobs(40)
        async with dispatching(stage):
            await stage.order(jobs)
            await settled(stage, {"ACCEPTED": 40})
        async with httpx.AsyncClient() as client:
            refused = (await client.get(f"http://127.0.0.1:{port}/_stats")).json()["refused"]
    texts = Counter(row.sent_to for row in await stage.rows("SELECT sent_to FROM sandbox_inbox"))
    assert texts == Counter(job.phone for job in jobs)
    assert 5 <= refused <= 40, "the breaker spares most of them the way through A"
    changed = (await stage.events())[1]
    stories = Counter(tuple((a.provider_id, a.outcome) for a in changed[job.message_id].attempts) for job in jobs)
    assert stories[("prv_a", "rejected_provider"), ("prv_b", "accepted")] == refused
    assert await stage.funnel(40) == {"awaiting_receipt": 40}


async def test_a_lost_reply_is_never_failed_over_and_is_found_by_look_up(stage: Stage, tmp_path: Path) -> None:
    options = ("--drop-after-accept", "0.5", "--index-lag-ms", "700", "--seed", "7")
    async with twilio_process(tmp_path / "a", *options, account_sid=ACCOUNT_SID, auth_token=AUTH_TOKEN) as port:
        await stage.twilio("prv_a", port, in_doubt_wait_seconds=3, timeout_seconds=2)
        await stage.provider("prv_b")
        await stage.group(["prv_a", "prv_b"])
        jobs = stage.jobs(60)
        async with dispatching(stage):
            await stage.order(jobs)

            async def done() -> bool:
                states = await stage.states()
                assert set(states) <= {"ACCEPTED", "SENT", "DELIVERED"}, states
                return sum(states.values()) == 60

            await eventually(done, 40)
    by_a = accepted(tmp_path / "a")
    by_b = Counter(row.sent_to for row in await stage.rows("SELECT sent_to FROM sandbox_inbox"))
    assert by_a + by_b == Counter(job.phone for job in jobs), "each exactly once"
    doubted = await stage.rows("SELECT provider_id FROM attempts WHERE attempt = 1 AND outcome = 'accepted'")
    assert len(doubted) == 60
    held = await stage.rows("SELECT provider_message_id FROM attempts WHERE provider_message_id IS NOT NULL")
    assert len({row.provider_message_id for row in held}) == 60


async def test_a_text_that_was_lost_gets_a_second_attempt_when_that_is_proven(stage: Stage) -> None:
    await stage.provider("prv_a", outcome="in_doubt", in_doubt_wait_seconds=1, timeout_seconds=1, receipt="none")
    await stage.group(["prv_a"])
    async with dispatching(stage):
        await stage.order(stage.jobs(4))
        await settled(stage, {"IN_DOUBT": 4})
        await stage.provider("prv_a", in_doubt_wait_seconds=1, timeout_seconds=1, receipt="none")
        await settled(stage, {"ACCEPTED": 4})
    assert len(await stage.rows("SELECT 1 FROM sandbox_inbox")) == 4
    assert await stage.rows("SELECT DISTINCT attempt FROM ledger") == [(2,)]
    outcomes = await stage.rows("SELECT DISTINCT attempt, outcome FROM attempts ORDER BY attempt")
    assert [tuple(row) for row in outcomes] == [(1, "not_found"), (2, "accepted")]
    assert await stage.funnel(4) == {"awaiting_receipt": 4}


async def test_a_provider_that_hung_is_not_believed_before_it_has_read_what_it_was_sent(
    stage: Stage, tmp_path: Path
) -> None:
    """Stopped for longer than time-out and wait together, it goes on with our texts, unread, in its sockets, and with
    look-ups behind them, which it answers first: from memory, while it writes the texts to its disk."""
    async with twilio_process(tmp_path / "a", account_sid=ACCOUNT_SID, auth_token=AUTH_TOKEN) as port:
        async with httpx.AsyncClient(trust_env=False) as client:
            pid = (await client.get(f"http://127.0.0.1:{port}/_stats")).json()["pid"]
        await stage.twilio("prv_a", port, in_doubt_wait_seconds=1, timeout_seconds=1)
        await stage.group(["prv_a"])
        jobs = stage.jobs(40)
        async with dispatching(stage):
            os.kill(pid, signal.SIGSTOP)
            try:
                await stage.order(jobs)

                async def all_in_doubt() -> bool:
                    rows = await stage.rows("SELECT 1 FROM ledger WHERE state = 'IN_DOUBT' AND not_before < db_now()")
                    return len(rows) > 10

                await eventually(all_in_doubt, 30)
                await asyncio.sleep(1.5)  # look-ups that could prove something are under way
            finally:
                os.kill(pid, signal.SIGCONT)

            async def all_accepted() -> bool:
                states = await stage.states()
                assert set(states) <= {"ACCEPTED", "SENT"}, states
                return sum(states.values()) == 40

            await eventually(all_accepted, 60)
    assert accepted(tmp_path / "a") == Counter(job.phone for job in jobs)


async def test_what_is_disproved_after_a_stop_is_cancelled(stage: Stage) -> None:
    await stage.provider("prv_a", outcome="in_doubt", in_doubt_wait_seconds=1, timeout_seconds=1)
    await stage.group(["prv_a"])
    async with dispatching(stage):
        await stage.order(stage.jobs(3))
        await settled(stage, {"IN_DOUBT": 3})
        await stage.campaign(status="stopped")
        await settled(stage, {"CANCELLED": 3})
    assert await stage.funnel(3) == {"cancelled": 3}


async def abandon(stage: Stage) -> None:
    """Makes what waits look like the texts of a process that died in its calls."""
    await stage.execute(
        "UPDATE ledger SET state = 'SUBMITTING', attempt = 1, provider_id = 'prv_a', owner = 'dead', body = 'Hi',"
        " encoding = 'GSM-7', parts = 1, marked_at = db_now(), lease_until = db_now() - interval '1 second'"
    )


async def test_a_crash_in_a_call_is_found_by_its_lease_and_resolved(stage: Stage) -> None:
    await stage.provider("prv_a", in_doubt_wait_seconds=1, timeout_seconds=1, receipt="none")
    await stage.group(["prv_a"])
    await stage.campaign(status="paused")
    sent, lost = stage.jobs(2)
    async with dispatching(stage):
        await stage.order([sent, lost])
        await settled(stage, {"HELD": 2})
    await stage.execute(
        "INSERT INTO sandbox_inbox (provider_id, message_id, attempt, provider_message_id, sent_to, sent_from, body,"
        " parts, at) VALUES ('prv_a', CAST(:id AS uuid), 1, :sid, :phone, 'SANDBOX', 'Hi', 1, db_now())",
        id=sent.message_id, sid=sandbox_id("prv_a", sent.message_id, 1), phone=sent.phone,
    )  # fmt: skip
    await abandon(stage)
    await stage.campaign(status="running")
    async with dispatching(stage):
        await settled(stage, {"ACCEPTED": 2})
    rows = await stage.rows("SELECT message_id, attempt FROM ledger")
    assert {row.message_id.hex: row.attempt for row in rows} == {sent.message_id: 1, lost.message_id: 2}
    texts = Counter(row.sent_to for row in await stage.rows("SELECT sent_to FROM sandbox_inbox"))
    assert texts == Counter([sent.phone, lost.phone])
    assert await stage.funnel(2) == {"awaiting_receipt": 2}


async def test_what_a_dead_process_left_waits_for_its_provider_no_longer_than_that_asks_for(stage: Stage) -> None:
    """Also what is found in the first moment of a start: two minutes are for providers that nobody knows any more."""
    await stage.provider("prv_a", in_doubt_wait_seconds=1, timeout_seconds=1, receipt="none")
    await stage.group(["prv_a"])
    await stage.campaign(status="paused")
    async with dispatching(stage):
        await stage.order(stage.jobs(3))
        await settled(stage, {"HELD": 3})
    await abandon(stage)
    await stage.campaign(status="running")
    async with dispatching(stage, connected=8):
        await settled(stage, {"ACCEPTED": 3})
    assert await stage.rows("SELECT DISTINCT attempt FROM ledger") == [(2,)]


async def test_who_comes_back_after_his_lease_changes_nothing_but_brings_evidence(stage: Stage) -> None:
    """The call takes longer than its lease: the text goes in doubt, and the late reply ends the doubt, once."""
    await stage.provider("prv_a", latency_ms=2500, timeout_seconds=4, in_doubt_wait_seconds=60, receipt="none")
    await stage.group(["prv_a"])
    async with dispatching(stage):
        await stage.order(stage.jobs(3))
        await settled(stage, {"SUBMITTING": 3})
        await stage.execute("UPDATE ledger SET lease_until = db_now() - interval '1 second'")
        await settled(stage, {"IN_DOUBT": 3})
        await settled(stage, {"ACCEPTED": 3})
    assert len(await stage.rows("SELECT 1 FROM sandbox_inbox")) == 3
    assert await stage.rows("SELECT DISTINCT attempt FROM ledger") == [(1,)]
    assert await stage.funnel(3) == {"awaiting_receipt": 3}


async def test_a_late_refusal_of_a_zombie_moves_nothing(stage: Stage) -> None:
    await stage.provider(
        "prv_a", outcome="rejected_recipient", latency_ms=1500, timeout_seconds=4, in_doubt_wait_seconds=60
    )
    await stage.group(["prv_a"])
    async with dispatching(stage):
        await stage.order(stage.jobs(2))
        await settled(stage, {"SUBMITTING": 2})
        await stage.execute("UPDATE ledger SET owner = 'another'")
        await asyncio.sleep(2.5)  # the call ends meanwhile, and its settlement finds another owner
        assert await stage.states() == {"SUBMITTING": 2}


async def test_unknown_ends_with_late_evidence(stage: Stage) -> None:
    await stage.provider("prv_a", in_doubt_wait_seconds=60, timeout_seconds=1)
    await stage.group(["prv_a"])
    await stage.campaign(status="paused")
    (job,) = stage.jobs(1)
    async with dispatching(stage):
        await stage.order([job])
        await settled(stage, {"HELD": 1})
        await stage.execute(
            "UPDATE ledger SET state = 'UNKNOWN', attempt = 1, provider_id = 'prv_a', marked_at = db_now()"
        )
        receipt = {"provider_message_id": "SB1", "status": "delivered", "reference": f"{job.message_id}.1"}
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{stage.port}", trust_env=False) as provider:
            answer = await provider.post("/receipts/prv_a/token-of-prv_a", json=receipt)
        assert answer.status_code == 204
        await settled(stage, {"DELIVERED": 1})


async def test_a_provider_that_hangs_delays_nobody_else(stage: Stage, tmp_path: Path) -> None:
    async with twilio_process(tmp_path / "a", "--hang", "1", account_sid=ACCOUNT_SID, auth_token=AUTH_TOKEN) as port:
        await stage.twilio("prv_a", port, timeout_seconds=20)
        await stage.provider("prv_b", receipt="none")
        await stage.group(["prv_b"])
        await stage.campaign("cmp_a", provider_id="prv_a")
        async with dispatching(stage, drain_seconds=1.0):
            await stage.order(stage.jobs(100, "cmp_a"))

            async def all_connections_hang() -> bool:
                return (await stage.states()).get("SUBMITTING", 0) >= 56

            await eventually(all_connections_hang)
            await stage.order(stage.jobs(300))

            async def others_are_through() -> bool:
                rows = await stage.rows("SELECT 1 FROM ledger WHERE campaign_id = 'cmp_1' AND state = 'ACCEPTED'")
                return len(rows) == 300

            await eventually(others_are_through, 10)
            assert (await stage.states())["SUBMITTING"] >= 56
