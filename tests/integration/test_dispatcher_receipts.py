"""Receipts of every kind of provider, in the vendor's own shape, through the door: forged, twice, in any order, before
anything is known of their text; what they say of a text in doubt, and of the person.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from dispatcher import metrics
from dispatcher.providers.twilio_signature import sign
from postrider.contracts.send_jobs import SendJob
from tests.support.dispatching import ACCOUNT_SID, AUTH_TOKEN, Stage, dispatching
from tests.support.dispatching import stage as new_stage
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration


@dataclass(frozen=True)
class Text:
    """What a vendor's callback may name a text by."""

    reference: str
    phone: str
    id: str

    @property
    def digits(self) -> str:
        return self.phone.removeprefix("+")


@dataclass(frozen=True)
class Callback:
    """`by_reference`: our reference stands in the query."""

    form: Mapping[str, str] | None = None
    document: Any = None
    by_reference: bool = False


Says = Callable[[Text, str, str], Callback]
"""(text, the vendor's status, its code)"""


def twilio(text: Text, status: str, code: str) -> Callback:
    form = {"MessageSid": text.id, "MessageStatus": status, "To": text.phone, "From": "+15005550006"}
    return Callback({**form, **({"ErrorCode": code} if code else {})}, by_reference=True)


def vonage(text: Text, status: str, code: str) -> Callback:
    return Callback(
        {
            "msisdn": text.digits, "to": "Acme", "network-code": "12345", "messageId": text.id, "price": "0.03",
            "status": status, "scts": "2612010905", "err-code": code or "0", "api-key": "abcd1234",
            "client-ref": text.reference, "message-timestamp": "2026-12-01 09:05:00",
        }
    )  # fmt: skip


def msg91_v2(text: Text, status: str, code: str) -> Callback:
    report = {"date": "2026-12-01", "number": text.digits, "status": status, "desc": "", "CRQID": text.reference}
    return Callback({"data": json.dumps([{"requestId": text.id, "report": [report | {"ctCode": code}]}])})


def msg91_v3(text: Text, status: str, code: str) -> Callback:
    said = {"requestId": text.id, "number": text.digits, "status": status, "CRQID": text.reference}
    return Callback(document=said)


def clevertap(text: Text, status: str, code: str) -> Callback:
    data = {"ts": 1764579900, "meta": text.reference, "description": "", **({"code": code} if code else {})}
    return Callback(document=[{"event": status, "data": [data]}])


def exotel(text: Text, status: str, code: str) -> Callback:
    return Callback(
        {
            "SmsSid": text.id, "To": text.phone, "Status": status, "SmsUnits": "1", "DetailedStatus": code,
            "DetailedStatusCode": "20005", "DateSent": "2026-12-01 09:05:00", "CustomField": text.reference,
        }
    )  # fmt: skip


@dataclass(frozen=True)
class Vendor:
    """`delivered`, `opted_out`: (status, code) of a text that arrived, and of one to somebody who wants none; `before`:
    of one on its way, where the vendor tells. `reason`: of the suppression. `malformed`: a form that is no receipt."""

    kind: str
    says: Says
    delivered: tuple[str, str]
    opted_out: tuple[str, str]
    reason: str = "provider_opt_out"
    before: tuple[str, str] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    credentials: Mapping[str, Any] = field(default_factory=dict)
    is_signed: bool = False


GENERIC = {"url": "http://127.0.0.1:9/?to=$$To&text=$$Body&ref=$$MessageID", "method": "GET", "receipts": "clevertap"}
MSG91: Mapping[str, Any] = {"auth_key": "key"}
VENDORS: Mapping[str, Vendor] = {
    "twilio": Vendor(
        "twilio", twilio, ("delivered", ""), ("undelivered", "21610"), before=("sent", ""),
        settings={"account_sid": ACCOUNT_SID, "from": "+15005550006"}, credentials={"auth_token": AUTH_TOKEN},
        is_signed=True,
    ),
    "vonage": Vendor(
        "vonage", vonage, ("delivered", "0"), ("failed", "9"), before=("buffered", "0"),
        settings={"api_key": "abcd1234", "from": "Acme"}, credentials={"api_secret": "s" * 16},
    ),
    "msg91-v2-ndnc": Vendor("msg91", msg91_v2, ("1", ""), ("9", ""), credentials=MSG91),
    "msg91-v2-code": Vendor("msg91", msg91_v2, ("1", ""), ("2", "903"), credentials=MSG91),
    "msg91-v3-blocked": Vendor(
        "msg91", msg91_v3, ("1", ""), ("17", ""), "blocked", settings={"webhook_version": "v3"}, credentials=MSG91
    ),
    "msg91-v4": Vendor(
        "msg91", clevertap, ("delivered", ""), ("failed", "913"), settings={"webhook_version": "v4"}, credentials=MSG91
    ),
    "exotel": Vendor(
        "exotel", exotel, ("sent", "DELIVERED_TO_HANDSET"), ("failed", "FAILED_REJECTED_DND"),
        before=("submitted", "DELIVERED_TO_OPERATOR"),
        settings={"account_sid": "acme1", "sender_id": "ACMESH"}, credentials={"api_key": "k", "api_token": "t"},
    ),
    "generic-901": Vendor("generic", clevertap, ("delivered", ""), ("failed", "901"), settings=GENERIC),
    "generic-903": Vendor("generic", clevertap, ("delivered", ""), ("failed", "903"), settings=GENERIC),
    "generic-913": Vendor("generic", clevertap, ("delivered", ""), ("failed", "913"), settings=GENERIC),
}  # fmt: skip


@pytest.fixture
async def stage(kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str) -> AsyncIterator[Stage]:
    async with new_stage(kafka, await fresh_database(), topic_prefix) as made:
        yield made


@pytest.fixture
async def door(stage: Stage) -> AsyncIterator[httpx.AsyncClient]:
    """All vendors at one dispatcher; texts of the campaign go nowhere by themselves."""
    for name, vendor in VENDORS.items():
        settings = dict(vendor.settings)
        await stage.provider(f"prv_{name}", vendor.kind, credentials=dict(vendor.credentials), **settings)
    await stage.campaign(provider_id="prv_of_nobody")
    async with (
        dispatching(stage) as dispatcher,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{stage.port}", trust_env=False) as http,
    ):
        await eventually(lambda: all(dispatcher.fleet.adapter(f"prv_{name}") is not None for name in VENDORS))
        yield http


async def posted(door: httpx.AsyncClient, name: str, callback: Callback, text: Text, *, forged: bool = False) -> int:
    provider, vendor = f"prv_{name}", VENDORS[name]
    path = f"/receipts/{provider}/token-of-{provider}" + ("x" if forged and not vendor.is_signed else "")
    if callback.by_reference:
        path += f"?reference={text.reference}"
    headers = {}
    if vendor.is_signed:
        token = "another" if forged else AUTH_TOKEN
        url = str(door.base_url).rstrip("/") + path
        headers["X-Twilio-Signature"] = sign(token, url, (callback.form or {}).items())
    if callback.form is not None:
        return (await door.post(path, data=dict(callback.form), headers=headers)).status_code
    return (await door.post(path, json=callback.document, headers=headers)).status_code


async def in_doubt(stage: Stage, job: SendJob, provider_id: str) -> Text:
    """As a lost reply leaves it: nothing of the vendor's is known."""
    await stage.order([job])

    async def is_there() -> bool:
        return bool(await stage.rows("SELECT 1 FROM ledger WHERE message_id = CAST(:id AS uuid)", id=job.message_id))

    await eventually(is_there)
    await stage.execute(
        "UPDATE ledger SET state = 'IN_DOUBT', attempt = 1, provider_id = :provider, marked_at = db_now(), parts = 1,"
        " owner = NULL, not_before = db_now() + interval '1 hour', next_at = db_now() + interval '1 hour'"
        " WHERE message_id = CAST(:id AS uuid)",
        provider=provider_id, id=job.message_id,
    )  # fmt: skip
    return Text(f"{job.message_id}.1", job.phone, f"SM{job.message_id}")


async def state_is(stage: Stage, text: Text, state: str) -> None:
    async def reached() -> bool:
        message_id = text.reference.partition(".")[0]
        rows = await stage.rows("SELECT state FROM ledger WHERE message_id = CAST(:id AS uuid)", id=message_id)
        assert [row.state for row in rows] == [state]
        return True

    await eventually(reached)


def doubles() -> float:
    return sum(sample.value for metric in metrics.DOUBLES.collect() for sample in metric.samples)


async def test_what_each_vendor_says_of_a_doubt_and_of_the_person(stage: Stage, door: httpx.AsyncClient) -> None:
    before = doubles()
    for name, vendor in VENDORS.items():
        arrived, unwanted = [await in_doubt(stage, stage.job(), f"prv_{name}") for _ in range(2)]
        delivered = vendor.says(arrived, *vendor.delivered)
        assert await posted(door, name, delivered, arrived, forged=True) == 403, name
        assert await stage.rows("SELECT 1 FROM receipts WHERE provider_id = :p", p=f"prv_{name}") == [], name
        said = [delivered, delivered, *([vendor.says(arrived, *vendor.before)] if vendor.before else [])]
        for callback in said:  # the end first, and twice
            assert await posted(door, name, callback, arrived) in (200, 204), name
        for _ in range(2):
            assert await posted(door, name, vendor.says(unwanted, *vendor.opted_out), unwanted) in (200, 204), name
        await state_is(stage, arrived, "DELIVERED")
        await state_is(stage, unwanted, "UNDELIVERED")

        async def suppressed(phone: str = unwanted.phone, reason: str = vendor.reason) -> bool:
            rows = await stage.rows("SELECT reason, version FROM suppressions WHERE phone = :phone", phone=phone)
            assert [tuple(row) for row in rows] == [(reason, 1)]
            return True

        await eventually(suppressed)
        kept = await stage.rows("SELECT status FROM receipts WHERE provider_id = :p", p=f"prv_{name}")
        assert len(kept) == 2 + (vendor.before is not None), name
    assert len(await stage.rows("SELECT 1 FROM suppressions")) == len(VENDORS), "of the others nobody"
    assert doubles() == before


async def test_a_receipt_of_an_unknown_id_waits_until_its_text_is_known(stage: Stage, door: httpx.AsyncClient) -> None:
    """By the vendor's id alone, before our own reply is written. The text is one of some days ago."""
    job = stage.job()
    text = await in_doubt(stage, job, "prv_twilio")
    await stage.execute("UPDATE ledger SET created_at = created_at - interval '5 days'")
    nameless = Callback(twilio(text, "delivered", "").form)
    assert await posted(door, "twilio", nameless, text) == 204

    async def waits() -> bool:
        rows = await stage.rows("SELECT result, next_at IS NOT NULL FROM receipts")
        assert [tuple(row) for row in rows] == [("no_such_message", True)]
        return True

    await eventually(waits)
    await state_is(stage, text, "IN_DOUBT")
    await stage.execute(
        "WITH a AS (INSERT INTO attempts"
        " (day, message_id, attempt, provider_id, started_at, outcome, provider_message_id)"
        " VALUES ((SELECT CAST(created_at AT TIME ZONE 'UTC' AS date) FROM ledger), CAST(:id AS uuid), 1,"
        " 'prv_twilio', db_now(), 'accepted', :sid))"
        " UPDATE ledger SET state = 'ACCEPTED', provider_message_id = :sid WHERE message_id = CAST(:id AS uuid)",
        id=job.message_id, sid=text.id,
    )  # fmt: skip
    await state_is(stage, text, "DELIVERED")


async def test_what_is_no_receipt_is_refused_and_never_kept(stage: Stage, door: httpx.AsyncClient) -> None:
    text = Text("0f" * 16 + ".1", "+15551230001", "SM1")
    for name in VENDORS:
        for nonsense in (Callback({"a": "b"}), Callback({"": "\x00"}), Callback({"data": "[{]"})):
            assert await posted(door, name, nonsense, text) == 400, name
        path = f"/receipts/prv_{name}/token-of-prv_{name}"
        for body in (b"", b"\xff\xfe", b"[" * 5_000, b"{}", b"null", b'[{"event": "delivered"}]'):
            assert (await door.post(path, content=body)).status_code in (400, 403), name
    assert await stage.rows("SELECT 1 FROM receipts") == []
