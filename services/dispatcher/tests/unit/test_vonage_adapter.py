"""Vonage: what goes out, and what callbacks mean. Outcomes of submit: the conformance table."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlencode

import pytest

from dispatcher.domain.message import parse_reference, reference
from dispatcher.http_port import HttpResponse, InDoubt, NotSent
from dispatcher.providers.base import (
    BadSignature,
    BadWebhook,
    LookUp,
    OutgoingText,
    Unavailable,
    WebhookRequest,
)
from dispatcher.providers.vonage import VonageAdapter
from dispatcher.providers.vonage_signature import is_signed, sign
from postrider.clock import FakeClock
from postrider.contracts.provider_fields import with_defaults
from postrider.contracts.provider_kinds.vonage import SIGNATURE_METHODS
from tests.standins.scripted_http import ScriptedHttp, Step

TO, FROM, SECRET, SIGNING = "+447700900000", "Acme", "api-secret", "signature-secret"
NOW = datetime(2026, 12, 1, 9, 5, tzinfo=UTC)
REFERENCE = "0f" * 16 + ".1"
CALLBACK = "https://sms.example/receipts/prv_1/tok"
INBOUND_URL = "https://sms.example/inbound/prv_1/tok"
TAKEN = HttpResponse(200, {}, b'{"message-count":"1","messages":[{"status":"0","message-id":"0A01"}]}')


def adapter(*steps: Step, method: str | None = None, **settings: Any) -> tuple[VonageAdapter, ScriptedHttp]:
    http = ScriptedHttp(steps)
    given = {"api_key": "abcd1234", "from": FROM, "base_url": "http://vonage.example/proxy/", **settings}
    given["signature_method"] = method
    credentials = {"api_secret": SECRET} | ({"signature_secret": SIGNING} if method else {})
    return VonageAdapter("prv_1", with_defaults("vonage", given), credentials, http, FakeClock(NOW)), http


def text(**more: Any) -> OutgoingText:
    given: dict[str, Any] = {"validity_seconds": 3600, "callback_url": CALLBACK, "encoding": "GSM-7", **more}
    return OutgoingText("m1", 1, given.pop("reference", REFERENCE), TO, given.pop("body", "Hi Ada"), parts=1, **given)


async def form_of(given: OutgoingText, **more: Any) -> dict[str, str]:
    vonage, http = adapter(TAKEN, **more)
    await vonage.submit(given)
    form = parse_qs(http.requests[0].body.decode(), keep_blank_values=True, strict_parsing=True)
    return {name: value for name, (value,) in form.items()}


async def test_the_request() -> None:
    vonage, http = adapter(TAKEN, timeout_seconds=7)
    await vonage.submit(text())
    (request,) = http.requests
    assert (request.method, request.url) == ("POST", "http://vonage.example/proxy/sms/json")
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert request.timeout_seconds == 7
    assert await form_of(text()) == {
        "api_key": "abcd1234",
        "api_secret": SECRET,
        "from": FROM,
        "to": "447700900000",
        "text": "Hi Ada",
        "type": "text",
        "ttl": "3600000",
        "status-report-req": "true",
        "callback": f"{CALLBACK}?reference={REFERENCE}",
        "client-ref": REFERENCE,
    }


async def test_numbers_have_no_plus() -> None:
    assert (await form_of(text(), **{"from": "+447700900001"}))["from"] == "447700900001"


async def test_what_gsm_7_does_not_have_is_sent_as_unicode() -> None:
    form = await form_of(text(encoding="UCS-2", body="Привет & 😀 = +"))
    assert (form["type"], form["text"]) == ("unicode", "Привет & 😀 = +")


async def test_what_was_not_given_is_not_sent() -> None:
    form = await form_of(text(validity_seconds=None, callback_url=None))
    assert not form.keys() & {"ttl", "callback"}
    assert form["status-report-req"] == "false"


@pytest.mark.parametrize(("asked", "sent"), [(20, "20000"), (604_800, "604800000"), (604_801, "604800000")])
async def test_validity_stays_in_the_vendors_bounds(asked: int, sent: str) -> None:
    assert (await form_of(text(validity_seconds=asked)))["ttl"] == sent


def test_our_reference_fits_into_client_ref() -> None:
    """40 characters, however often it was tried."""
    longest = reference("f" * 32, 999_999)
    assert parse_reference(longest) == ("f" * 32, 999_999)
    assert len(longest) <= 40


@pytest.mark.parametrize(
    ("length", "callback"), [(55, "with"), (56, "bare"), (100, "bare"), (101, None)]
)  # "?reference=" and 34 more
async def test_a_callback_too_long_for_the_vendor_is_not_sent(length: int, callback: str | None) -> None:
    url = CALLBACK + "x" * (length - len(CALLBACK))
    form = await form_of(text(callback_url=url))
    expected = {"with": f"{url}?reference={REFERENCE}", "bare": url, None: None}[callback]
    assert form.get("callback") == expected
    assert len(form.get("callback", "")) <= 100
    assert (form["client-ref"], form["status-report-req"]) == (REFERENCE, "true")


@pytest.mark.parametrize("method", SIGNATURE_METHODS)
async def test_a_signed_request_carries_no_secret(method: str) -> None:
    form = await form_of(text(body="a&b=c é"), method=method)
    assert "api_secret" not in form
    assert form["timestamp"] == str(int(NOW.timestamp()))
    assert is_signed(method, SIGNING, form)
    assert SECRET not in str(form) and SIGNING not in str(form)


async def test_there_is_no_look_up() -> None:
    vonage, http = adapter()
    assert not vonage.capabilities.look_up
    assert await vonage.look_up(LookUp("m1", REFERENCE, TO, "Hi", NOW)) == Unavailable("no_look_up")
    assert http.requests == []


def test_the_origin_tells_an_account_and_a_sender_from_others() -> None:
    origin = adapter()[0].origin
    assert adapter(timeout_seconds=3, method="md5")[0].origin == origin
    for change in ({"api_key": "other"}, {"base_url": "http://other.example"}):
        assert adapter(**change)[0].origin.account != origin.account
    other = adapter(**{"from": "Other"})[0].origin
    assert other.account == origin.account and other.sender != origin.sender


# --- callbacks

FORM = {"content-type": "application/x-www-form-urlencoded"}
JSON = {"content-type": "application/json; charset=utf-8"}


def by_get(said: dict[str, Any], url: str = CALLBACK) -> WebhookRequest:
    joint = "&" if "?" in url else "?"
    return WebhookRequest("GET", f"{url}{joint}{urlencode(said)}", {}, b"")


def by_form(said: dict[str, Any], url: str = CALLBACK) -> WebhookRequest:
    return WebhookRequest("POST", url, FORM, urlencode(said).encode())


def by_json(said: dict[str, Any], url: str = CALLBACK) -> WebhookRequest:
    return WebhookRequest("POST", url, JSON, json.dumps(said).encode())


WAYS = [by_get, by_form, by_json]
RECEIPT = {
    "msisdn": "447700900000", "to": "Acme & Co", "network-code": "12345", "messageId": "0A01", "price": "0.0333",
    "status": "delivered", "scts": "2612010905", "err-code": "0", "api-key": "abcd1234", "client-ref": REFERENCE,
    "message-timestamp": "2026-12-01 09:05:00",
}  # fmt: skip
INBOUND = {
    "msisdn": "447700900000", "to": "447700900001", "messageId": "0B01", "text": "Stop", "type": "text",
    "keyword": "STOP", "api-key": "abcd1234", "message-timestamp": "2026-12-01 09:05:00",
}  # fmt: skip


def signed(said: dict[str, str], method: str = "sha256", secret: str = SIGNING, at: datetime = NOW) -> dict[str, str]:
    """As the vendor does it: HMACs in capitals."""
    stamped = {**said, "timestamp": str(int(at.timestamp())), "nonce": "a-nonce"}
    signature = sign(method, secret, stamped)
    return {**stamped, "sig": signature if method == "md5hash" else signature.upper()}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("raw", "code", "status", "never_left", "suppress"),
    [
        ("accepted", "0", "sent", False, None),
        ("buffered", "0", "sent", False, None),
        ("unknown", "1", "sent", False, None),
        ("delivered", "0", "delivered", False, None),
        ("DELIVERED", "", "delivered", False, None),
        ("expired", "2", "undelivered", False, None),
        ("failed", "4", "undelivered", False, None),
        ("failed", "5", "undelivered", False, None),
        ("failed", "6", "undelivered", False, None),
        ("failed", "9", "undelivered", False, "provider_opt_out"),
        ("rejected", "11", "undelivered", True, None),
        ("rejected", "14", "undelivered", False, None),
        ("accepted", "11", "sent", False, None),
        ("failed", "99", "undelivered", False, None),
        ("deleted", "0", "undelivered", False, None),
        ("brand-new", "0", "unknown", False, None),
    ],
)
def test_receipts(way: Any, raw: str, code: str, status: str, never_left: bool, suppress: str | None) -> None:
    vonage, _ = adapter()
    (receipt,) = vonage.parse_receipt(way({**RECEIPT, "status": raw, "err-code": code}))
    assert (receipt.status, receipt.raw_status) == (status, raw)
    assert receipt.code == (code if code not in ("", "0") else None)
    assert (receipt.definitely_not_sent, receipt.suppress) == (never_left, suppress)
    assert (receipt.provider_message_id, receipt.reference, receipt.is_part) == ("0A01", REFERENCE, True)


def test_the_reference_in_the_callbacks_query_stands_in_for_client_ref() -> None:
    vonage, _ = adapter()
    without = {name: value for name, value in RECEIPT.items() if name != "client-ref"}
    for way in WAYS:
        assert vonage.parse_receipt(way(without, f"{CALLBACK}?reference=abc"))[0].reference == "abc"
        assert vonage.parse_receipt(way(RECEIPT, f"{CALLBACK}?reference=abc"))[0].reference == REFERENCE
        assert vonage.parse_receipt(way(without))[0].reference is None


@pytest.mark.parametrize("method", SIGNATURE_METHODS)
@pytest.mark.parametrize("way", WAYS)
def test_signed_callbacks(way: Any, method: str) -> None:
    vonage, _ = adapter(method=method)
    assert vonage.parse_receipt(way(signed(RECEIPT, method)))[0].reference == REFERENCE
    assert vonage.parse_inbound(way(signed(INBOUND, method), INBOUND_URL))[0].keyword == "stop"


def test_our_own_part_of_the_query_may_be_signed_or_not() -> None:
    vonage, _ = adapter(method="sha256")
    url = f"{CALLBACK}?reference={REFERENCE}"
    assert vonage.parse_receipt(by_get(signed(RECEIPT), url))
    with_reference = signed({**RECEIPT, "reference": REFERENCE})
    assert vonage.parse_receipt(by_get(with_reference))
    assert vonage.parse_receipt(by_form(signed(RECEIPT), url))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "forged",
    [
        RECEIPT | INBOUND,
        {**signed(RECEIPT | INBOUND), "sig": ""},
        {**signed(RECEIPT | INBOUND), "status": "failed"},
        {**signed(RECEIPT | INBOUND), "text": "start"},
        {**signed(RECEIPT | INBOUND), "extra": "1"},
        signed(RECEIPT | INBOUND, secret="guess"),
        signed(RECEIPT | INBOUND, method="sha512"),
        signed(RECEIPT | INBOUND, method="md5hash"),
        {**RECEIPT, **INBOUND, "sig": sign("sha256", SIGNING, RECEIPT | INBOUND)},
        {**RECEIPT, "timestamp": "soon", "sig": sign("sha256", SIGNING, {**RECEIPT, "timestamp": "soon"})},
    ],
)
def test_a_forged_callback_is_refused(way: Any, forged: dict[str, str]) -> None:
    vonage, _ = adapter(method="sha256")
    with pytest.raises(BadSignature):
        vonage.parse_receipt(way(forged))
    with pytest.raises(BadSignature):
        vonage.parse_inbound(way(forged, INBOUND_URL))


@pytest.mark.parametrize(
    ("age", "is_taken"),
    [
        (timedelta(0), True),
        (timedelta(hours=24), True),  # the vendor pushes again for so long
        (timedelta(hours=25, seconds=1), False),
        (timedelta(days=365), False),
        (-timedelta(minutes=10), True),
        (-timedelta(minutes=10, seconds=1), False),
    ],
)
def test_an_old_callback_is_a_replay(age: timedelta, is_taken: bool) -> None:
    vonage, _ = adapter(method="sha256")
    request = by_form(signed(RECEIPT | INBOUND, at=NOW - age))
    if is_taken:
        assert vonage.parse_receipt(request) and vonage.parse_inbound(request)
        return
    for parse in (vonage.parse_receipt, vonage.parse_inbound):
        with pytest.raises(BadSignature, match="timestamp"):
            parse(request)


UNREADABLE = [
    WebhookRequest("POST", CALLBACK, FORM, b"\xff\xfe"),
    WebhookRequest("POST", CALLBACK, FORM, b"&".join([b"a=1"] * 500)),
    WebhookRequest("POST", CALLBACK, JSON, b'["messageId"]'),
    WebhookRequest("POST", CALLBACK, JSON, b'{"messageId": {"a": 1}}'),
    WebhookRequest("POST", CALLBACK, JSON, b"{"),
    WebhookRequest("POST", CALLBACK, JSON, b"[" * 100_000),
    WebhookRequest("POST", CALLBACK, JSON, b'{"sig": "\\ud800", "messageId": "\\ud800"}'),
    WebhookRequest("POST", CALLBACK, FORM, b""),
    WebhookRequest("GET", CALLBACK, {}, b""),
]


@pytest.mark.parametrize("request_", UNREADABLE)
def test_what_cannot_be_read_is_refused(request_: WebhookRequest) -> None:
    plain, signing = adapter()[0], adapter(method="md5hash")[0]
    for parse in (plain.parse_receipt, plain.parse_inbound):
        with pytest.raises(BadWebhook):
            parse(request_)
    for parse in (signing.parse_receipt, signing.parse_inbound):
        with pytest.raises(BadSignature):
            parse(request_)


@pytest.mark.parametrize("missing", ["messageId", "status"])
def test_a_receipt_that_says_nothing(missing: str) -> None:
    vonage, _ = adapter(method="sha1")
    for said in ({**RECEIPT, missing: ""}, {**RECEIPT, "messageId": "<script>"}):
        with pytest.raises(BadWebhook):
            vonage.parse_receipt(by_form(signed(said, "sha1")))


@pytest.mark.parametrize("missing", ["messageId", "msisdn", "to"])
def test_an_inbound_text_without_what_it_needs(missing: str) -> None:
    vonage, _ = adapter()
    with pytest.raises(BadWebhook):
        vonage.parse_inbound(by_form({**INBOUND, missing: ""}))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("more", "keyword"),
    [
        ({"text": "STOP"}, "stop"),
        ({"text": " unsubscribe\n", "keyword": "UNSUBSCRIBE"}, "stop"),
        ({"text": "start"}, "start"),
        ({"text": "Help"}, "help"),
        # the vendor's keyword is the first word of anything
        ({"text": "stop by tomorrow", "keyword": "STOP"}, None),
        ({"text": "STOP", "concat": "true", "concat-ref": "1", "concat-total": "2", "concat-part": "2"}, None),
        ({"text": "STOP", "concat": "true", "concat-ref": "1", "concat-total": "1", "concat-part": "1"}, "stop"),
        ({"text": "Привет", "type": "unicode", "keyword": "ПРИВЕТ"}, None),
        ({"text": "", "type": "binary", "data": "0011"}, None),
    ],
)
def test_inbound(way: Any, more: dict[str, str], keyword: str | None) -> None:
    vonage, _ = adapter()
    (inbound,) = vonage.parse_inbound(way({**INBOUND, **more}, INBOUND_URL))
    assert (inbound.from_, inbound.to, inbound.provider_message_id) == (TO, "+447700900001", "0B01")
    assert (inbound.body, inbound.keyword) == (more["text"], keyword)


def test_json_may_hold_plain_values_of_other_types() -> None:
    vonage, _ = adapter()
    said = {**INBOUND, "msisdn": 447700900000, "concat": True, "concat-total": 3, "price": None, "text": "stop"}
    (inbound,) = vonage.parse_inbound(by_json(said))
    assert (inbound.from_, inbound.keyword) == (TO, None)


def test_short_codes_and_words_stay_as_they_are() -> None:
    vonage, _ = adapter()
    (inbound,) = vonage.parse_inbound(by_form({**INBOUND, "msisdn": "Bank", "to": "12345"}))
    assert (inbound.from_, inbound.to) == ("Bank", "12345")


@pytest.mark.parametrize(
    ("step", "ok", "reason"),
    [
        (HttpResponse(200, {}, b'{"value":10.28,"autoReload":false}'), True, None),
        (HttpResponse(200, {}, b'{"value":0}'), True, None),
        (HttpResponse(200, {}, b'{"value":"many"}'), False, "unexpected_reply"),
        (HttpResponse(200, {}, b"<html>"), False, "unexpected_reply"),
        (HttpResponse(401, {}, b'{"error-code":"401"}'), False, "http_401"),
        (HttpResponse(502, {}, b""), False, "http_502"),
        (NotSent("dns"), False, "dns"),
        (InDoubt("timeout"), False, "timeout"),
    ],
)
async def test_verify(step: Step, ok: bool, reason: str | None) -> None:
    vonage, http = adapter(step)
    verification = await vonage.verify()
    assert (verification.ok, verification.reason) == (ok, reason)
    (request,) = http.requests
    assert (request.method, request.url) == ("GET", "http://vonage.example/proxy/account/get-balance")
    assert request.headers["Authorization"] == "Basic " + base64.b64encode(b"abcd1234:api-secret").decode()
    await vonage.close()
    assert http.closed
