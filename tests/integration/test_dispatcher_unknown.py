"""Doubts at vendors that cannot be asked: they end by the campaign's policy when the wait is over, and late evidence
ends them all the same. Every kind of provider is here that has no look-up.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY

from dispatcher.providers.registry import FACTORIES, AdapterParts, build_adapter
from postrider.contracts.send_jobs import SendJob
from tests.standins.misbehaving import close_after_body, serving
from tests.support.dispatching import Stage, dispatching, no_receipts
from tests.support.dispatching import stage as new_stage
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration


@dataclass(frozen=True)
class Vendor:
    """`receipt` of (phone, reference) → what the vendor posts, as httpx takes it; None: it sends none."""

    settings: dict[str, Any]
    credentials: dict[str, Any]
    receipt: Callable[[str, str], dict[str, Any]] | None
    what: dict[str, Any] = field(default_factory=dict)


def vonage(phone: str, reference: str) -> dict[str, Any]:
    return {
        "method": "GET", "params": {
            "msisdn": phone[1:], "to": "Acme", "messageId": "0C000000217B7F02", "status": "delivered", "err-code": "0",
            "scts": "2612010905", "price": "0.03", "network-code": "20404", "client-ref": reference,
        }
    }  # fmt: skip


def exotel(phone: str, reference: str) -> dict[str, Any]:
    return {
        "data": {
            "SmsSid": "a1b2c3d4", "To": phone, "Status": "sent", "DetailedStatus": "DELIVERED_TO_HANDSET",
            "SmsUnits": "1", "CustomField": reference,
        }
    }  # fmt: skip


def msg91(phone: str, reference: str) -> dict[str, Any]:
    report = {"requestId": "3763646c3058373530393938", "number": phone[1:], "status": "1", "CRQID": reference}
    return {"json": {"date": "2026-12-01 09:58:16", **report}}


def clevertap(phone: str, reference: str) -> dict[str, Any]:
    return {"json": [{"event": "delivered", "data": [{"ts": int(time.time()), "meta": reference, "description": "x"}]}]}


VENDORS = {
    "vonage": Vendor({"api_key": "abcd1234", "from": "Acme"}, {"api_secret": "s3cret"}, vonage),
    "exotel": Vendor({"account_sid": "acme1", "sender_id": "ACMESH"}, {"api_key": "k", "api_token": "t"}, exotel),
    "msg91": Vendor({"webhook_version": "v3"}, {"auth_key": "A1b2C3"}, msg91, {"body": "", "template_id": "64a1b2"}),
    "generic": Vendor(
        {"url": "/send", "form": {"to": "$$To", "text": "$$Body", "ref": "$$MessageID"}, "receipts": "clevertap"},
        {}, clevertap,
    ),
    "netcore": Vendor({"feed_id": "390000"}, {"username": "u", "password": "p"}, None),
}  # fmt: skip
DOUBT = {"timeout_seconds": 1, "in_doubt_wait_seconds": 1}


@pytest.fixture
async def stage(kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str) -> AsyncIterator[Stage]:
    async with new_stage(kafka, await fresh_database(), topic_prefix) as made:
        yield made


async def settled(stage: Stage, states: dict[str, int]) -> None:
    async def reached() -> bool:
        assert await stage.states() == states
        return True

    await eventually(reached, 30)


def given_up() -> float:
    return REGISTRY.get_sample_value("postrider_dispatcher_resolved_total", {"how": "unknown"}) or 0.0


def test_every_kind_without_a_look_up_is_tried() -> None:
    class Network:
        connection_limit = 1

        async def close(self) -> None:
            """Nothing is open."""

    parts = AdapterParts(Network, None, no_receipts)  # type: ignore[arg-type]
    for kind in FACTORIES:
        if kind in ("twilio", "sandbox"):
            continue
        vendor = VENDORS[kind]
        settings = vendor.settings | ({"base_url": "https://sms.example"} if kind == "generic" else {})
        capabilities = build_adapter(kind, "prv_1", settings, vendor.credentials, parts).capabilities
        assert not capabilities.look_up and not capabilities.idempotent
        assert capabilities.receipts == (vendor.receipt is not None)


async def test_a_doubt_that_cannot_be_asked_about_ends_unknown_and_by_late_evidence(stage: Stage) -> None:
    async with serving(close_after_body) as vendors, dispatching(stage):
        jobs: dict[str, SendJob] = {}
        for kind, vendor in VENDORS.items():
            base = {"base_url": f"http://127.0.0.1:{vendors.port}"}
            await stage.provider(
                f"prv_{kind}", kind, credentials=vendor.credentials, **vendor.settings, **base, **DOUBT
            )
            await stage.campaign(f"cmp_{kind}", provider_id=f"prv_{kind}", **vendor.what)
            jobs[kind] = stage.job(f"cmp_{kind}", country="IN")
        before = given_up()
        await stage.order(list(jobs.values()))
        await settled(stage, {"UNKNOWN": len(jobs)})
        assert given_up() - before == len(jobs)
        assert await stage.rows("SELECT 1 FROM attempts WHERE attempt > 1 OR outcome <> 'in_doubt'") == []
        assert await stage.funnel(len(jobs)) == {"unknown": len(jobs)}
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{stage.port}", trust_env=False) as callbacks:
            for kind, vendor in VENDORS.items():
                if vendor.receipt is not None:
                    reference = f"{jobs[kind].message_id}.1"
                    told = vendor.receipt(jobs[kind].phone, reference)
                    path = f"/receipts/prv_{kind}/token-of-prv_{kind}"
                    assert (await callbacks.request(**{"method": "POST", "url": path} | told)).is_success
        await settled(stage, {"UNKNOWN": 1, "DELIVERED": len(jobs) - 1})
        assert await stage.funnel(len(jobs)) == {"unknown": 1, "delivered": len(jobs) - 1}
        changed = (await stage.events())[1]
        assert changed[jobs["netcore"].message_id].status == "unknown"


async def test_a_campaign_that_may_double_sends_again_inside_its_deadline(stage: Stage) -> None:
    vendor = VENDORS["vonage"]
    async with serving(close_after_body) as vendors, dispatching(stage):
        base = {"base_url": f"http://127.0.0.1:{vendors.port}"}
        await stage.provider("prv_v", "vonage", credentials=vendor.credentials, **vendor.settings, **base, **DOUBT)
        await stage.provider("prv_s", receipt="none")
        await stage.group(["prv_v"])
        await stage.campaign(on_doubt="may_double")
        await stage.order(stage.jobs(1))

        async def again() -> bool:
            rows = await stage.rows("SELECT 1 FROM attempts WHERE attempt = 2 AND outcome = 'in_doubt'")
            return len(rows) == 1

        await eventually(again, 30)
        await stage.group(["prv_s"])
        await settled(stage, {"ACCEPTED": 1})
