"""A vendor who reports part by part (Vonage): one text stays one text, and is delivered when all of it is."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from postrider.contracts.definitions import ProviderDefinition
from tests.standins.running import standin_process
from tests.support.dispatching import Stage, dispatching
from tests.support.dispatching import stage as new_stage
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration

KEY, SECRET, SIGNING = "abcd1234", "api-secret", "signature-secret"
ACCOUNT = ("--api-key", KEY, "--api-secret", SECRET, "--signature-method", "sha256", "--signature-secret", SIGNING)
THREE_PARTS = "Hi {{ Profile.name }}, " + "a long text " * 35


@pytest.fixture
async def stage(kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str) -> AsyncIterator[Stage]:
    async with new_stage(kafka, await fresh_database(), topic_prefix) as made:
        await made.campaign(body=THREE_PARTS)
        yield made


async def vonage(stage: Stage, port: int) -> ProviderDefinition:
    return await stage.provider(
        "prv_a", "vonage", api_key=KEY, signature_method="sha256", base_url=f"http://127.0.0.1:{port}",
        credentials={"api_secret": SECRET, "signature_secret": SIGNING}, in_doubt_wait_seconds=60,
        **{"from": "Acme"},
    )  # fmt: skip


def doubles_so_far() -> float:
    return REGISTRY.get_sample_value("postrider_dispatcher_double_evidence_total") or 0.0


def late_so_far() -> float:
    return REGISTRY.get_sample_value("postrider_dispatcher_settled_late_total") or 0.0


async def settled(stage: Stage, states: dict[str, int]) -> None:
    async def reached() -> bool:
        assert await stage.states() == states
        return True

    await eventually(reached)


async def applied(stage: Stage, n: int) -> None:
    """So many receipts came, and nothing waits."""

    async def reached() -> bool:
        ((came, waiting),) = await stage.rows(
            "SELECT count(*), count(*) FILTER (WHERE next_at IS NOT NULL) FROM receipts WHERE is_part"
        )
        assert (came, waiting) == (n, 0)
        return True

    await eventually(reached)


@pytest.mark.parametrize(
    ("receipts", "lost_replies", "state"),
    [("delivered", "0.5", "DELIVERED"), ("last-part-failed", "0.5", "UNDELIVERED")],
)
async def test_receipts_of_parts_in_any_order(
    stage: Stage, tmp_path: Path, receipts: str, lost_replies: str, state: str
) -> None:
    """Half of the replies are lost too: what the first receipt of any part proves, the others do not contradict."""
    doubles = doubles_so_far()
    options = (
        *ACCOUNT, "--receipts", receipts, "--receipt-chaos", "--callbacks-by", "json", "--drop-after-accept",
        lost_replies, "--seed", "5",
    )  # fmt: skip
    async with standin_process("vonage", tmp_path / "a", *options) as port:
        await vonage(stage, port)
        await stage.group(["prv_a"])
        async with dispatching(stage):
            await stage.order(stage.jobs(24))
            await settled(stage, {state: 24})
            await applied(stage, 24 * 3 * 2)
            assert await stage.states() == {state: 24}
    assert await stage.funnel(24) == {state.lower(): 24}
    assert len((tmp_path / "a").read_text().splitlines()) == 24
    assert doubles_so_far() == doubles
    reasons = await stage.rows("SELECT DISTINCT reason FROM ledger")
    assert reasons == [("6" if state == "UNDELIVERED" else "",)]


async def test_a_text_of_which_the_vendor_refused_a_part_was_sent_and_is_never_delivered(
    stage: Stage, tmp_path: Path
) -> None:
    options = (*ACCOUNT, "--receipts", "delivered", "--callbacks-by", "get", "--first-part-only")
    async with standin_process("vonage", tmp_path / "a", *options) as port:
        await vonage(stage, port)
        await stage.group(["prv_a"])
        async with dispatching(stage):
            await stage.order(stage.jobs(3))
            await applied(stage, 3 * 2)
            await settled(stage, {"SENT": 3})
    assert await stage.funnel(3) == {"sent": 3}
    assert await stage.rows("SELECT DISTINCT outcome, code FROM attempts") == [("accepted", "1")]


async def test_a_late_reply_after_a_receipt_of_another_part_is_no_double(stage: Stage, tmp_path: Path) -> None:
    """The lease ends in the call; whichever part's receipt proves the text first, the reply names the first part."""
    doubles, late = doubles_so_far(), late_so_far()
    options = (*ACCOUNT, "--receipts", "delivered", "--receipt-chaos", "--seed", "5", "--latency-ms", "2500")
    async with standin_process("vonage", tmp_path / "a", *options) as port:
        await vonage(stage, port)
        await stage.group(["prv_a"])
        async with dispatching(stage):
            await stage.order(stage.jobs(8))
            await settled(stage, {"SUBMITTING": 8})
            await stage.execute("UPDATE ledger SET lease_until = db_now() - interval '1 second'")
            await settled(stage, {"DELIVERED": 8})
            await eventually(lambda: late_so_far() == late + 8)
    assert doubles_so_far() == doubles
    first_parts = {json.loads(line)["sid"] for line in (tmp_path / "a").read_text().splitlines()}
    held = {row.provider_message_id for row in await stage.rows("SELECT provider_message_id FROM ledger")}
    assert held - first_parts, "some were proven by another part, or the test shows nothing"
