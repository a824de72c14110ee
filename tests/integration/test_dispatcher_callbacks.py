"""Receipts and inbound texts: kept at once, applied in any order, never believed unsigned; opt-outs obeyed."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from dispatcher.providers.sandbox import sandbox_id
from dispatcher.providers.twilio_signature import sign
from postrider.contracts import codec
from postrider.contracts.send_jobs import Interval
from postrider.contracts.suppressions import SuppressionChanged
from postrider.contracts.topics import SUPPRESSIONS
from tests.standins.running import twilio_process
from tests.support.dispatching import ACCOUNT_SID, AUTH_TOKEN, TOKEN, Stage, dispatching
from tests.support.dispatching import stage as new_stage
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration


@pytest.fixture
async def stage(kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str) -> AsyncIterator[Stage]:
    async with new_stage(kafka, await fresh_database(), topic_prefix) as made:
        await made.campaign()
        yield made


async def settled(stage: Stage, states: dict[str, int]) -> None:
    async def reached() -> bool:
        assert await stage.states() == states
        return True

    await eventually(reached)


def outside(stage: Stage) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{stage.port}", trust_env=False)


def inside(stage: Stage) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{stage.port}", headers=headers, trust_env=False)


async def test_receipts_doubled_and_out_of_order_end_where_they_should(stage: Stage, tmp_path: Path) -> None:
    options = ("--receipts", "delivered", "--receipt-chaos", "--seed", "3")
    async with twilio_process(tmp_path / "a", *options, account_sid=ACCOUNT_SID, auth_token=AUTH_TOKEN) as port:
        await stage.twilio("prv_a", port)
        await stage.group(["prv_a"])
        async with dispatching(stage):
            await stage.order(stage.jobs(80))
            await settled(stage, {"DELIVERED": 80})
    assert await stage.funnel(80) == {"delivered": 80}


async def test_only_the_provider_is_believed(stage: Stage) -> None:
    await stage.twilio("prv_a", 9)
    await stage.group(["prv_a"])
    path = "/receipts/prv_a/token-of-prv_a"
    form = {"MessageSid": "SM1", "MessageStatus": "delivered"}
    signature = sign(AUTH_TOKEN, f"http://127.0.0.1:{stage.port}{path}", form.items())
    async with dispatching(stage), outside(stage) as provider:
        assert (await provider.post("/receipts/prv_a/wrong", data=form)).status_code == 403
        assert (await provider.post("/receipts/prv_none/token", data=form)).status_code == 403
        assert (await provider.post(path, data=form)).status_code == 403
        forged = {"X-Twilio-Signature": sign("another token", str(provider.base_url) + path, form.items())}
        assert (await provider.post(path, data=form, headers=forged)).status_code == 403
        large = await provider.post(path, content=b"x" * 100_000, headers={"X-Twilio-Signature": signature})
        assert large.status_code == 413
        assert await stage.rows("SELECT 1 FROM receipts") == []
        answer = await provider.post(path, data=form, headers={"X-Twilio-Signature": signature})
        assert answer.status_code == 204
        assert len(await stage.rows("SELECT 1 FROM receipts")) == 1


async def test_a_receipt_before_our_own_reply_waits_for_it(stage: Stage) -> None:
    await stage.provider("prv_a", latency_ms=1500, timeout_seconds=5, receipt="none")
    await stage.group(["prv_a"])
    (job,) = stage.jobs(1)
    async with dispatching(stage), outside(stage) as provider:
        await stage.order([job])
        await settled(stage, {"SUBMITTING": 1})
        sid = sandbox_id("prv_a", job.message_id, 1)
        receipt = {"provider_message_id": sid, "status": "delivered", "reference": f"{job.message_id}.1"}
        for _ in range(2):
            assert (await provider.post("/receipts/prv_a/token-of-prv_a", json=receipt)).status_code == 204
        await settled(stage, {"DELIVERED": 1})
    assert await stage.funnel(1) == {"delivered": 1}


async def test_a_receipt_with_our_reference_ends_a_doubt(stage: Stage) -> None:
    await stage.provider("prv_a", outcome="in_doubt", in_doubt_wait_seconds=60)
    await stage.group(["prv_a"])
    (job,) = stage.jobs(1)
    async with dispatching(stage), outside(stage) as provider:
        await stage.order([job])
        await settled(stage, {"IN_DOUBT": 1})
        wrong = {"provider_message_id": "SB9", "status": "delivered", "reference": f"{job.message_id}.2"}
        right = wrong | {"reference": f"{job.message_id}.1"}
        await provider.post("/receipts/prv_a/token-of-prv_a", json=wrong | {"provider_message_id": "SB8"})
        await provider.post("/receipts/prv_a/token-of-prv_a", json=right)
        await settled(stage, {"DELIVERED": 1})
    assert await stage.funnel(1) == {"delivered": 1}
    assert await stage.rows("SELECT provider_message_id FROM ledger") == [("SB9",)]


async def test_a_stop_suppresses_at_once_and_everywhere_and_start_lifts_it(stage: Stage) -> None:
    await stage.provider("prv_a", receipt="none")
    await stage.group(["prv_a"])
    now = datetime.now(UTC)
    later = [Interval(now + timedelta(minutes=30), now + timedelta(hours=1))]
    parked, other = stage.job(allowed=later), stage.job(allowed=later)
    async with dispatching(stage), inside(stage) as person:
        await stage.order([parked, other])
        await settled(stage, {"DEFERRED": 2})
        reply = {"from": parked.phone, "provider_id": "prv_a", "body": " Stop "}
        assert (await person.post("/internal/sandbox/reply", json=reply)).json() == {"keyword": "stop"}
        await settled(stage, {"DEFERRED": 1, "SUPPRESSED": 1})
        await stage.campaign("cmp_2")
        await stage.order([stage.job("cmp_2", phone=parked.phone)])
        await settled(stage, {"DEFERRED": 1, "SUPPRESSED": 2})
        listed = (await person.get("/internal/suppressions")).json()["items"]
        assert [(each["phone"], each["reason"]) for each in listed] == [(parked.phone, "opted_out")]

        await person.post("/internal/sandbox/reply", json=reply | {"body": "START"})
        await stage.campaign("cmp_3")
        await stage.order([stage.job("cmp_3", phone=parked.phone)])
        await settled(stage, {"DEFERRED": 1, "SUPPRESSED": 2, "ACCEPTED": 1})
    changes = [codec.decode(record.value, SuppressionChanged) for record in await stage.read(SUPPRESSIONS)]
    assert sorted((change.version, change.suppressed) for change in changes) == [(1, True), (2, False)]
    assert await stage.funnel(4) == {"pending": 1, "suppressed": 2, "awaiting_receipt": 1}


async def test_start_does_not_lift_what_is_not_the_persons_to_lift(stage: Stage) -> None:
    await stage.provider("prv_a")
    await stage.group(["prv_a"])
    (job,) = stage.jobs(1)
    async with dispatching(stage), inside(stage) as caller:
        blocked = {"phone": job.phone, "reason": "blocked", "source": "support"}
        assert (await caller.post("/internal/suppressions", json=blocked)).status_code == 201
        start = {"from": job.phone, "provider_id": "prv_a", "body": "start"}
        await caller.post("/internal/sandbox/reply", json=start)
        await stage.order([job])
        await settled(stage, {"SUPPRESSED": 1})
    assert await stage.rows("SELECT 1 FROM sandbox_inbox") == []


async def test_a_signed_stop_of_the_vendor_and_its_repeat(stage: Stage, tmp_path: Path) -> None:
    async with twilio_process(tmp_path / "a", account_sid=ACCOUNT_SID, auth_token=AUTH_TOKEN) as port:
        await stage.twilio("prv_a", port)
        await stage.group(["prv_a"])
        url = f"http://127.0.0.1:{stage.port}/inbound/prv_a/token-of-prv_a"
        form = {"MessageSid": "SM7", "From": "+15551234567", "To": "+15005550006", "Body": "STOP"}
        headers = {"X-Twilio-Signature": sign(AUTH_TOKEN, url, form.items())}
        start = form | {"MessageSid": "SM8", "Body": "start"}
        async with dispatching(stage), httpx.AsyncClient(trust_env=False) as vendor:
            assert (await vendor.post(url, data=form, headers=headers)).status_code == 204
            assert len(await stage.rows("SELECT 1 FROM suppressions WHERE suppressed")) == 1
            signed = {"X-Twilio-Signature": sign(AUTH_TOKEN, url, start.items())}
            await vendor.post(url, data=start, headers=signed)
            assert (await vendor.post(url, data=form, headers=headers)).status_code == 204
            assert await stage.rows("SELECT 1 FROM suppressions WHERE suppressed") == [], "a repeat is no new STOP"


async def test_a_provider_that_knows_of_an_opt_out_suppresses_for_all(stage: Stage, tmp_path: Path) -> None:
    options = ("--refuse-code", "21610")
    async with twilio_process(tmp_path / "a", *options, account_sid=ACCOUNT_SID, auth_token=AUTH_TOKEN) as port:
        await stage.twilio("prv_a", port)
        await stage.provider("prv_b")
        await stage.group(["prv_a", "prv_b"])
        await stage.campaign("cmp_2", provider_id="prv_b")
        (job,) = stage.jobs(1)
        async with dispatching(stage):
            await stage.order([job])
            await settled(stage, {"FAILED": 1})
            await stage.order([stage.job("cmp_2", phone=job.phone)])
            await settled(stage, {"FAILED": 1, "SUPPRESSED": 1})
    ((reason,),) = await stage.rows("SELECT reason FROM suppressions WHERE suppressed")
    assert reason == "provider_opt_out"
    assert await stage.rows("SELECT 1 FROM sandbox_inbox") == []


async def test_internal_calls_need_the_service_token(stage: Stage) -> None:
    async with dispatching(stage), outside(stage) as stranger:
        assert (await stranger.get("/internal/sandbox/inbox")).status_code == 401
        wrong = {"Authorization": "Bearer wrong"}
        assert (await stranger.post("/internal/suppressions", headers=wrong, json={})).status_code == 401


async def test_the_sandbox_inbox_is_paged_newest_first(stage: Stage) -> None:
    await stage.provider("prv_a")
    await stage.group(["prv_a"])
    jobs = stage.jobs(7)
    async with dispatching(stage), inside(stage) as caller:
        await stage.order(jobs)
        await settled(stage, {"DELIVERED": 7})
        first = (await caller.get("/internal/sandbox/inbox", params={"limit": 5})).json()
        more = {"limit": 5, "cursor": first["next_cursor"]}
        rest = (await caller.get("/internal/sandbox/inbox", params=more)).json()
        one = (await caller.get("/internal/sandbox/inbox", params={"phone": jobs[0].phone})).json()
    assert (len(first["items"]), len(rest["items"]), rest["next_cursor"]) == (5, 2, None)
    assert {text["user_id"] for text in first["items"] + rest["items"]} == {job.user_id for job in jobs}
    (text,) = one["items"]
    assert (text["to"], text["from"], text["body"], text["campaign_id"], text["provider_id"], text["parts"]) == (
        jobs[0].phone, "SANDBOX", f"Hi {jobs[0].user_id}", "cmp_1", "prv_a", 1,
    )  # fmt: skip


async def test_ready_says_so_and_metrics_are_there(stage: Stage) -> None:
    await stage.provider("prv_a")
    async with dispatching(stage), outside(stage) as prober:

        async def ready() -> bool:
            answer = await prober.get("/readyz")
            assert answer.status_code == 200, answer.text
            return True

        await eventually(ready)
        assert (await prober.get("/livez")).status_code == 200
        assert "postrider_dispatcher_calls_total" in (await prober.get("/metrics")).text
