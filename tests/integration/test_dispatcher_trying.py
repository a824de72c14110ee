"""Test sends and verifications as the campaign-api asks for them: one text a key, in no count; answers that help."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.standins.misbehaving import hang, refusing_port, serving
from tests.standins.running import twilio_process
from tests.support.dispatching import ACCOUNT_SID, AUTH_TOKEN, TOKEN, Stage, dispatching
from tests.support.dispatching import stage as new_stage
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration

PHONE = "+15550100001"


@pytest.fixture
async def stage(kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str) -> AsyncIterator[Stage]:
    async with new_stage(kafka, await fresh_database(), topic_prefix) as made:
        yield made


def asking(stage: Stage, token: str = TOKEN) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {token}"}
    base_url = f"http://127.0.0.1:{stage.port}/internal"
    return httpx.AsyncClient(base_url=base_url, headers=headers, timeout=30, trust_env=False)


def trial(body: str = "Hi {{ Profile.name }}", **more: Any) -> dict[str, Any]:
    """By the provider, or with `provider_id` None by the default group."""
    what = {"body": body, "provider_id": more.pop("provider_id", "prv_a")}
    given = {
        "message_id": uuid.uuid4().hex, "phone": PHONE, "country": "US", "what": what,
        "campaign_id": "cmp_draft", "campaign_name": "Sale", "user_id": "u-42", "profile": {"name": "Ada"},
    }  # fmt: skip
    return given | more


async def sent(client: httpx.AsyncClient, asked: dict[str, Any], wait: float = 10.0) -> dict[str, Any]:
    answer = await client.post("/test-sends", json=asked, params={"wait_seconds": wait})
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


async def test_a_test_send_is_one_text_by_its_key_and_counts_nowhere(stage: Stage) -> None:
    """By a group whose first provider refuses, of a campaign that nobody has heard of, asked for three times."""
    await stage.provider("prv_r", outcome="rejected_provider")
    await stage.provider("prv_a", receipt="none")
    await stage.group(["prv_r", "prv_a"])
    asked = trial(provider_id=None)
    async with dispatching(stage), asking(stage) as client:
        first, second = await asyncio.gather(sent(client, asked), sent(client, asked))
        third = await sent(client, asked | {"what": {"body": "Another text", "provider_id": "prv_a"}})
        inbox = (await client.get("/sandbox/inbox")).json()["items"]
    for shown in (first, second, third):
        assert (shown["status"], shown["body"], shown["phone"]) == ("awaiting_receipt", "Hi Ada", PHONE)
        assert (shown["campaign_id"], shown["user_id"], shown["test"]) == ("cmp_draft", "u-42", True)
        tries = [(each["attempt"], each["provider_id"], each["outcome"]) for each in shown["attempts"]]
        assert tries == [(1, "prv_r", "rejected_provider"), (2, "prv_a", "accepted")]
    assert [(text["body"], text["campaign_id"]) for text in inbox] == [("Hi Ada", "cmp_draft")]
    moves, changed = await stage.events()
    assert moves == []
    told = changed[asked["message_id"]]
    assert (told.campaign_id, told.run_id, told.status, len(told.attempts)) == (
        "cmp_draft", "test", "awaiting_receipt", 2,
    )  # fmt: skip


async def test_what_is_not_sent_says_why_at_once(stage: Stage) -> None:
    outcomes = ("rejected_provider", "rejected_later", "rejected_recipient", "accept")
    for outcome in outcomes:
        await stage.provider(f"prv_{outcome}", outcome=outcome)
    async with dispatching(stage), asking(stage) as client:
        for outcome in outcomes[:3]:
            shown = await sent(client, trial(provider_id=f"prv_{outcome}"))
            assert shown["status"] == "rejected" and [each["outcome"] for each in shown["attempts"]] == [outcome]
        accept = {"provider_id": "prv_accept"}
        shown = await sent(client, trial(**accept, profile={}))
        assert (shown["status"], shown["reason"], shown["attempts"]) == ("personalisation_failed", "missing_value", [])
        shown = await sent(client, trial("{% abort 'not you' %}", **accept))
        assert (shown["status"], shown["reason"]) == ("aborted", "not you")
        await client.post("/suppressions", json={"phone": PHONE, "reason": "opted_out"})
        refused = await client.post("/test-sends", json=trial(**accept))
        assert refused.status_code == 409 and "opted_out" in refused.json()["detail"]
        shown = await sent(client, trial(**accept, phone="+15550100002"))
        assert shown["status"] in ("awaiting_receipt", "sent", "delivered")
        read = await client.get("/test-sends", params={"message_id": shown["id"]})
        assert read.json()["id"] == shown["id"]
        assert (await client.get("/test-sends", params={"message_id": uuid.uuid4().hex})).status_code == 404
        assert (await client.post("/test-sends", json={"message_id": "x"})).status_code == 422
        assert (await client.post("/test-sends", json=trial(provider_id="prv_new"))).status_code == 503
    assert len(await stage.rows("SELECT 1 FROM sandbox_inbox")) == 1


async def test_a_doubt_about_a_test_is_never_answered_by_a_second_text(stage: Stage) -> None:
    """Not even when a look-up has proven that it was not sent: whoever tried may try again."""
    await stage.provider("prv_a", outcome="in_doubt", in_doubt_wait_seconds=0)
    asked = trial()
    async with dispatching(stage), asking(stage) as client:
        await sent(client, asked, wait=0)

        async def ended() -> dict[str, Any]:
            shown: dict[str, Any] = (await client.get("/test-sends", params={"message_id": asked["message_id"]})).json()
            assert shown["status"] == "rejected", shown
            return shown

        shown = await eventually(ended, 40)
    assert [each["outcome"] for each in shown["attempts"]] == ["not_found"]


async def test_verify_says_what_is_proven_or_what_is_wrong(stage: Stage, tmp_path: Path) -> None:
    """Of providers that were saved a moment ago, too; and never a secret."""
    async with (
        twilio_process(tmp_path / "texts", account_sid=ACCOUNT_SID, auth_token=AUTH_TOKEN) as port,
        serving(hang) as hanging,
        dispatching(stage),
        asking(stage) as client,
    ):
        seen = []

        async def verified(provider_id: str) -> tuple[bool | None, bool, str | None, str]:
            answer = await client.post(f"/providers/{provider_id}/verify", json={})
            assert answer.status_code == 200, answer.text
            seen.append(answer.text)
            shown = answer.json()
            assert shown["checked_at"]
            return shown["ok"], shown["checked"], shown["reason"], shown["detail"]

        await stage.twilio("prv_good", port)
        ok, checked, reason, detail = await verified("prv_good")
        assert (ok, checked, reason) == (True, True, None) and "sender is the account's own" in detail
        await stage.twilio("prv_wrong", port, credentials={"auth_token": "nobody-s-token"})
        ok, checked, reason, detail = await verified("prv_wrong")
        assert (ok, checked, reason) == (False, True, "20003") and "refuses the credentials" in detail
        await stage.twilio("prv_hangs", hanging.port, timeout_seconds=0.5)
        assert (await verified("prv_hangs"))[:3] == (False, True, "timeout")
        await stage.twilio("prv_away", refusing_port())
        assert (await verified("prv_away"))[:3] == (False, True, "refused")
        await stage.twilio("prv_private", 1, base_url="http://10.1.2.3")
        ok, _, reason, detail = await verified("prv_private")
        assert (ok, reason) == (False, "address_not_allowed") and "POSTRIDER_ALLOWED_PRIVATE_HOSTS" in detail
        await stage.twilio("prv_nowhere", 1, base_url="http://nowhere.invalid", timeout_seconds=2)
        assert (await verified("prv_nowhere"))[0] is False
        gateway = {"url": "https://gw.example/send", "form": {"to": "$$To", "text": "$$Body"}}
        await stage.provider("prv_generic", "generic", **gateway)
        ok, checked, reason, detail = await verified("prv_generic")
        assert (ok, checked) == (None, False) and detail.startswith("not checkable")
        await stage.provider("prv_broken", "twilio", account_sid="AC1", **{"from": "+15550100100"})
        ok, checked, reason, detail = await verified("prv_broken")
        assert (ok, reason) == (False, "unusable") and "/credentials/auth_token" in detail
        away = await client.post("/providers/prv_nobody/verify", json={})
        assert away.status_code == 503 and away.headers["retry-after"]
        async with asking(stage, "wrong") as stranger:
            assert (await stranger.post("/providers/prv_good/verify", json={})).status_code == 401
        assert not any(secret in text for text in seen for secret in (AUTH_TOKEN, "nobody-s-token", ACCOUNT_SID))
