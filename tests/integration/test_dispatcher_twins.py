"""Texts that nobody can tell apart: each of a provider's texts is claimed once, and as many go out as were ordered."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from dispatcher import evidence
from dispatcher.announcer import Announcer
from dispatcher.evidence import Evidence
from dispatcher.store import evidence as evidence_store
from postrider.postgres.outbox import Outbox
from tests.standins.running import twilio_process
from tests.support.dispatching import ACCOUNT_SID, AUTH_TOKEN, Stage, dispatching
from tests.support.dispatching import stage as new_stage
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration


@pytest.fixture
async def stage(kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str) -> AsyncIterator[Stage]:
    async with new_stage(kafka, await fresh_database(), topic_prefix) as made:
        await made.campaign(body="Hi")
        await made.group(["prv_a"])
        yield made


async def settled(stage: Stage, states: dict[str, int], timeout: float = 20) -> None:
    async def reached() -> bool:
        assert await stage.states() == states
        return True

    await eventually(reached, timeout)


async def test_texts_alike_are_shared_among_the_messages_that_sent_them(stage: Stage, tmp_path: Path) -> None:
    """Three messages of one text to one phone, all replies lost: the look-up finds three, and none is unknown."""
    log = tmp_path / "texts"
    options = ("--drop-after-accept", "1", "--seed", "5")
    async with twilio_process(log, *options, account_sid=ACCOUNT_SID, auth_token=AUTH_TOKEN) as port:
        await stage.twilio("prv_a", port, timeout_seconds=1, in_doubt_wait_seconds=1)
        phone = "+15557654321"
        async with dispatching(stage):
            await stage.order(stage.jobs(3, phone=phone))
            await settled(stage, {"ACCEPTED": 3}, 40)
    texts = Counter(str(msgspec.json.decode(line)["to"]) for line in log.read_bytes().splitlines())
    assert texts == Counter({phone: 3})
    held = await stage.rows("SELECT DISTINCT provider_message_id FROM ledger")
    assert len(held) == 3
    assert await stage.funnel(3) == {"awaiting_receipt": 3}


async def test_a_text_that_a_twin_has_claimed_meanwhile_proves_nothing(stage: Stage) -> None:
    """Two look-ups found the same text at the same time; the second must not end the doubt of the other message."""
    await stage.provider("prv_a", outcome="in_doubt", in_doubt_wait_seconds=600)
    first, second = stage.jobs(2, phone="+15557654321")
    async with dispatching(stage):
        await stage.order([first, second])
        await settled(stage, {"IN_DOUBT": 2})
    announcer = Announcer(Outbox(stage.database, stage.publisher, "dispatcher", stage.prefix))
    async with stage.database.begin() as tx:
        found = Evidence(first.message_id, 1, "prv_a", "SM1", "accepted")
        assert (await evidence.believe(tx, announcer, [found], is_guess=True)).results == ["applied"]
    with pytest.raises(evidence.Taken):
        async with stage.database.begin() as tx:
            found = Evidence(second.message_id, 1, "prv_a", "SM1", "accepted")
            await evidence.believe(tx, announcer, [found], is_guess=True)
    async with stage.database.begin() as tx:
        rows = await evidence_store.lock(tx, [first.message_id, second.message_id])
    assert rows[first.message_id].state == "ACCEPTED" and rows[second.message_id].state == "IN_DOUBT"
    ((outcome, held),) = await stage.rows(
        "SELECT outcome, provider_message_id FROM attempts WHERE message_id = CAST(:id AS uuid)", id=second.message_id
    )
    assert (outcome, held) == ("in_doubt", None), "and the attempt is as it was"


async def test_a_late_reply_waits_for_the_end_of_the_next_call(stage: Stage) -> None:
    """Evidence of a call that was given up while another one is under way is kept until it can be applied."""
    await stage.provider("prv_a", latency_ms=2000, timeout_seconds=4, in_doubt_wait_seconds=600, receipt="none")
    (job,) = stage.jobs(1)
    async with dispatching(stage):
        await stage.order([job])
        await settled(stage, {"SUBMITTING": 1})
        await stage.execute("UPDATE ledger SET attempt = 2, owner = 'another', lease_until = db_now() + interval '1 h'")

        async def kept() -> bool:
            return [row.result for row in await stage.rows("SELECT result FROM receipts")] == ["wait"]

        await eventually(kept)
        assert await stage.states() == {"SUBMITTING": 1}
        await stage.execute("UPDATE ledger SET state = 'IN_DOUBT', next_at = db_now() + interval '1 h', owner = NULL")
        await settled(stage, {"ACCEPTED": 1})
