"""Providers and groups edited while texts wait, are in doubt, or have been refused."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.standins.running import twilio_process
from tests.support.dispatching import ACCOUNT_SID, AUTH_TOKEN, Stage, dispatching
from tests.support.dispatching import stage as new_stage
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration
DOUBT = {"timeout_seconds": 1, "in_doubt_wait_seconds": 1}


@pytest.fixture
async def stage(kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str) -> AsyncIterator[Stage]:
    async with new_stage(kafka, await fresh_database(), topic_prefix) as made:
        await made.campaign()
        await made.group(["prv_a"])
        yield made


async def settled(stage: Stage, states: dict[str, int], timeout: float = 20) -> None:
    async def reached() -> bool:
        assert await stage.states() == states
        return True

    await eventually(reached, timeout)


def texts(log: Path) -> int:
    return len(log.read_bytes().splitlines()) if log.exists() else 0


@pytest.mark.parametrize("edit", ["group", "archive"])
async def test_what_is_queued_takes_the_group_as_it_is_at_submission(stage: Stage, edit: str) -> None:
    await stage.provider("prv_a", parts_per_second=3, receipt="none")
    await stage.provider("prv_b", receipt="none")
    await stage.group(["prv_a", "prv_b"])
    jobs = stage.jobs(30)
    async with dispatching(stage):
        await stage.order(jobs)

        async def some_sent() -> bool:
            return len(await stage.rows("SELECT 1 FROM sandbox_inbox")) >= 2

        await eventually(some_sent)
        if edit == "group":
            await stage.group(["prv_b"])
        else:
            await stage.provider("prv_a", parts_per_second=3, receipt="none", status="archived")
        edited_at = datetime.now(UTC)
        await settled(stage, {"ACCEPTED": 30})
    rows = await stage.rows("SELECT provider_id, sent_to, at FROM sandbox_inbox")
    assert Counter(row.sent_to for row in rows) == Counter(job.phone for job in jobs)
    late = [row for row in rows if row.provider_id == "prv_a" and row.at > edited_at + timedelta(seconds=1)]
    assert late == [], "not even those that were claimed and rendered for it"


async def test_a_doubt_is_not_disproved_by_another_account(stage: Stage, tmp_path: Path) -> None:
    """The address is changed while a text is in doubt: the new one does not know it, and that proves nothing."""
    options = ("--drop-after-accept", "1", "--index-lag-ms", "2000")
    a, b = tmp_path / "a", tmp_path / "b"
    async with (
        twilio_process(a, *options, account_sid=ACCOUNT_SID, auth_token=AUTH_TOKEN) as old,
        twilio_process(b, account_sid=ACCOUNT_SID, auth_token=AUTH_TOKEN) as new,
    ):
        await stage.twilio("prv_a", old, **DOUBT)
        async with dispatching(stage):
            await stage.order(stage.jobs(1))
            await settled(stage, {"IN_DOUBT": 1})
            await stage.twilio("prv_a", new, **DOUBT)
            await asyncio.sleep(4)  # past not_before, and past several look-ups
            assert await stage.states() == {"IN_DOUBT": 1}
            await stage.twilio("prv_a", old, **DOUBT)
            await settled(stage, {"SENT": 1})
    assert (texts(a), texts(b)) == (1, 0)


async def test_a_text_of_the_former_sender_is_found(stage: Stage, tmp_path: Path) -> None:
    options = ("--drop-after-accept", "1", "--index-lag-ms", "1500")
    log = tmp_path / "a"
    async with twilio_process(log, *options, account_sid=ACCOUNT_SID, auth_token=AUTH_TOKEN) as port:
        await stage.twilio("prv_a", port, **DOUBT)
        async with dispatching(stage):
            await stage.order(stage.jobs(1))
            await settled(stage, {"IN_DOUBT": 1})
            await stage.twilio("prv_a", port, **(DOUBT | {"from": "+15005550099"}))
            await settled(stage, {"SENT": 1})
    assert texts(log) == 1


async def test_a_doubt_waits_for_credentials_that_cannot_be_opened(stage: Stage, tmp_path: Path) -> None:
    """After a restart there is no adapter for this provider: that is no answer, and not for ever."""
    options = ("--drop-after-accept", "1", "--index-lag-ms", "2000")
    log = tmp_path / "a"
    async with twilio_process(log, *options, account_sid=ACCOUNT_SID, auth_token=AUTH_TOKEN) as port:
        await stage.twilio("prv_a", port, **DOUBT)
        async with dispatching(stage):
            await stage.order(stage.jobs(1))
            await settled(stage, {"IN_DOUBT": 1})
        await stage.twilio("prv_a", port, credentials={}, **DOUBT)
        async with dispatching(stage):
            await asyncio.sleep(3)
            assert await stage.states() == {"IN_DOUBT": 1}
            await stage.twilio("prv_a", port, **DOUBT)
            await settled(stage, {"SENT": 1})
    assert texts(log) == 1


async def test_a_refusal_does_not_tie_a_text_to_a_provider_that_is_down(stage: Stage) -> None:
    """A throttles for a while and B is down: what A has refused goes back to A, and does not wait for B for hours."""
    await stage.provider("prv_b", outcome="rejected_provider")
    await stage.group(["prv_b"])
    await stage.campaign("cmp_b")
    async with dispatching(stage):
        await stage.order(stage.jobs(8, "cmp_b"))  # opens the breaker of B
        await asyncio.sleep(1)
        await stage.provider("prv_a", outcome="rejected_provider", receipt="none")
        await stage.group(["prv_a", "prv_b"])
        await stage.order(stage.jobs(3))

        async def refused() -> bool:
            rows = await stage.rows("SELECT 1 FROM attempts WHERE provider_id = 'prv_a'")
            return len(rows) >= 3

        await eventually(refused)
        await stage.provider("prv_a", receipt="none")

        async def sent() -> bool:
            rows = await stage.rows("SELECT 1 FROM ledger WHERE campaign_id = 'cmp_1' AND state = 'ACCEPTED'")
            return len(rows) == 3

        await eventually(sent, 20)
