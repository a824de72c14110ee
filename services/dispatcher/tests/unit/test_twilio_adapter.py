"""Twilio: what goes out, what a look-up concludes, what callbacks mean. Outcomes of submit: the conformance table."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qs, urlencode

import pytest

from dispatcher.http_port import HttpResponse, InDoubt, NotSent
from dispatcher.providers.base import (
    Ambiguous,
    BadSignature,
    BadWebhook,
    Found,
    LookUp,
    NotFound,
    OutgoingText,
    Unavailable,
    WebhookRequest,
)
from dispatcher.providers.twilio import TwilioAdapter, messaging_url
from dispatcher.providers.twilio_signature import sign
from postrider.contracts.provider_fields import with_defaults
from tests.standins.scripted_http import ScriptedHttp, Step

TO, FROM, BODY, TOKEN = "+15005550006", "+15005550001", "Hi Ada", "secret"
ATTEMPTED_AT = datetime(2026, 12, 1, 9, 0, tzinfo=UTC)
LIST = "/2010-04-01/Accounts/AC1/Messages.json"
CALLBACK = "https://sms.example/receipts/prv_1/tok"


def adapter(*steps: Step, **settings: Any) -> tuple[TwilioAdapter, ScriptedHttp]:
    http = ScriptedHttp(steps)
    given = {"account_sid": "AC1", "from": FROM, "base_url": "http://twilio.example/proxy/", **settings}
    return TwilioAdapter("prv_1", with_defaults("twilio", given), {"auth_token": TOKEN}, http), http


def text(**more: Any) -> OutgoingText:
    given: dict[str, Any] = {"validity_seconds": 3600, "callback_url": CALLBACK, **more}
    return OutgoingText("m1", 1, "m1-1&x", TO, BODY, "GSM-7", 1, **given)


async def form_of(given: OutgoingText, **settings: Any) -> dict[str, list[str]]:
    twilio, http = adapter(HttpResponse(201, {}, b'{"sid":"SM1"}'), **settings)
    await twilio.submit(given)
    return parse_qs(http.requests[0].body.decode(), keep_blank_values=True)


async def test_the_request() -> None:
    twilio, http = adapter(HttpResponse(201, {}, b'{"sid":"SM1"}'), timeout_seconds=7)
    await twilio.submit(text())
    (request,) = http.requests
    assert (request.method, request.url) == ("POST", "http://twilio.example/proxy" + LIST)
    assert request.headers["Authorization"] == "Basic " + base64.b64encode(b"AC1:secret").decode()
    assert request.timeout_seconds == 7
    assert parse_qs(request.body.decode()) == {
        "To": [TO],
        "From": [FROM],
        "Body": [BODY],
        "SmartEncoded": ["false"],
        "ValidityPeriod": ["3600"],
        "StatusCallback": [CALLBACK + "?reference=m1-1%26x"],
    }


async def test_the_messaging_service_takes_the_place_of_the_number() -> None:
    form = await form_of(text(), messaging_service_sid="MG1", **{"from": None})
    assert form["MessagingServiceSid"] == ["MG1"]
    assert "From" not in form


async def test_what_was_not_given_is_not_sent() -> None:
    form = await form_of(text(validity_seconds=None, callback_url=None))
    assert not form.keys() & {"ValidityPeriod", "StatusCallback"}


@pytest.mark.parametrize(("asked", "sent"), [(1, "1"), (36_000, "36000"), (36_001, "36000")])
async def test_validity_stays_in_the_vendors_bounds(asked: int, sent: str) -> None:
    assert (await form_of(text(validity_seconds=asked)))["ValidityPeriod"] == [sent]


# --- look-up


def entry(sid: str, age: timedelta = timedelta(), from_: str | None = FROM, **more: Any) -> dict[str, Any]:
    created = format_datetime(ATTEMPTED_AT - age)
    plain = {"sid": sid, "to": TO, "from": from_, "body": BODY, "status": "queued", "direction": "outbound-api"}
    return {**plain, "date_created": created, "date_sent": None, **more}


def page(*entries: dict[str, Any], following: str | None = None) -> HttpResponse:
    return HttpResponse(200, {}, json.dumps({"messages": entries, "next_page_uri": following}).encode())


QUERY = LookUp("m1", "m1-1", TO, BODY, ATTEMPTED_AT, frozenset({"SMheld"}))
OLD = timedelta(minutes=6)
NEXT = LIST + "?To=x&Page=1&PageToken=y"


@pytest.mark.parametrize(
    ("pages", "expected"),
    [
        ([page()], NotFound()),
        ([page(entry("SM1"))], Found("SM1", "accepted")),
        ([page(entry("SM1", status="delivered"))], Found("SM1", "delivered")),
        ([page(entry("SM1", status="strange"))], Found("SM1", "unknown")),
        ([page(entry("SM1", timedelta(minutes=4)))], Found("SM1", "accepted")),
        ([page(entry("SM1", OLD))], NotFound()),
        ([page(entry("SMheld"))], NotFound()),
        ([page(entry("SMheld"), entry("SM1"))], Found("SM1", "accepted")),
        ([page(entry("SM1"), entry("SM2"))], Ambiguous(("SM1", "SM2"))),
        ([page(entry("SM1", body="Hi Bob"))], NotFound()),
        ([page(entry("SM1", body="Sent from your Twilio trial account - Hi Ada"))], Found("SM1", "accepted")),
        ([page(entry("SM2"), entry("SM1", timedelta(minutes=1)))], Ambiguous(("SM1", "SM2"))),
        ([page(entry("SM1", body=""))], Ambiguous(("SM1",), is_alike=False)),
        ([page(entry("SM1", body=" Hi  Ada\r\n"))], Found("SM1", "accepted")),
        ([page(entry("SM1"), entry("SM2", body=None))], Found("SM1", "accepted")),
        ([page(entry("SM1", OLD), entry("SM2", OLD), following=NEXT)], NotFound()),
        (
            [page(entry("SM1", OLD * 2), entry("SM2", OLD), following=NEXT), page(entry("SM3"))],
            Found("SM3", "accepted"),
        ),
        ([page(following="http://twilio.example/proxy" + NEXT), page(entry("SM1"))], Found("SM1", "accepted")),
        ([page(following="http://elsewhere.example" + NEXT)], Unavailable("unexpected_next_page")),
        ([page(entry("SM1", date_created="Mon, 01 Jan 2026 00:00:00 +99999999999999"))], Found("SM1", "accepted")),
        ([page(entry("SM1", from_="+15005550099"))], NotFound()),
        ([page(entry("SM1", from_=None))], Found("SM1", "accepted")),
        ([page(entry("SM1", to="+15005550099"))], NotFound()),
        ([page(entry("SM1", direction="inbound"))], NotFound()),
        ([page(entry("SM1", date_created=None))], Found("SM1", "accepted")),
        ([page(entry("SM1", date_created="yesterday"))], Found("SM1", "accepted")),
        # the whole page counts, whatever its order
        ([page(entry("SM0", OLD), entry("SM1"))], Found("SM1", "accepted")),
        # paging: on to the next page while something on this one is recent
        ([page(entry("SM9", body="else"), following=NEXT), page(entry("SM1"))], Found("SM1", "accepted")),
        ([page(entry("SM1"), following=NEXT), page(entry("SM1"))], Found("SM1", "accepted")),
        ([page(entry("SM1"), following=NEXT), page(entry("SM2"))], Ambiguous(("SM1", "SM2"))),
        ([page(entry("SM9", OLD), following=NEXT)], NotFound()),
        ([page(following=NEXT), page(entry("SM1"))], Found("SM1", "accepted")),
        # a page that cannot be read says nothing
        ([page(entry("SM1"), following=NEXT), HttpResponse(500, {}, b"")], Unavailable("http_500")),
        ([page(entry("SM9", body="else"), following=NEXT), InDoubt("timeout")], Unavailable("timeout")),
        ([NotSent("refused")], Unavailable("refused")),
        ([HttpResponse(401, {}, b"{}")], Unavailable("http_401")),
        ([HttpResponse(404, {}, b"{}")], Unavailable("http_404")),
        ([HttpResponse(200, {}, b"{}")], Unavailable("unexpected_page")),
        ([HttpResponse(200, {}, b"<html>")], Unavailable("unexpected_page")),
        ([HttpResponse(200, {}, b'{"messages":[1]}')], Unavailable("unexpected_page")),
        ([page(entry("bad sid"))], Unavailable("unexpected_page")),
        # the next page is the vendor's word: our credentials go nowhere else
        ([page(entry("SM9", body="else"), following="https://evil.example/")], Unavailable("unexpected_next_page")),
        ([page(entry("SM9", body="else"), following="@evil.example/")], Unavailable("unexpected_next_page")),
        ([page(entry("SM9", body="else"), following=NEXT)] * 50, Unavailable("too_many_pages")),
    ],
)
async def test_look_up(pages: list[Step], expected: object) -> None:
    twilio, http = adapter(*pages)
    assert await twilio.look_up(QUERY) == expected
    assert len(http.requests) == len(pages)


async def test_the_list_is_asked_for_by_recipient_only() -> None:
    """A filter by DateSent would hide a queued text, and a hidden text is sent twice."""
    twilio, http = adapter(page(entry("SM9", body="else"), following=NEXT), page())
    await twilio.look_up(QUERY)
    assert http.requests[0].url == f"http://twilio.example/proxy{LIST}?To=%2B15005550006&PageSize=200"
    assert http.requests[1].url == f"http://twilio.example/proxy{NEXT}"
    assert [request.method for request in http.requests] == ["GET", "GET"]


async def test_a_messaging_service_is_known_by_its_own_id() -> None:
    ours = entry("SM1", messaging_service_sid="MG1", from_="+15005550077")
    theirs = entry("SM2", messaging_service_sid="MG2")
    twilio, _ = adapter(page(ours, theirs), messaging_service_sid="MG1", **{"from": None})
    assert await twilio.look_up(QUERY) == Found("SM1", "accepted")


async def test_a_sender_that_was_changed_rules_nothing_out() -> None:
    twilio, _ = adapter(page(entry("SM1", from_="+15005550099")))
    assert await twilio.look_up(replace(QUERY, any_sender=True)) == Found("SM1", "accepted")


def test_the_origin_tells_an_account_and_a_sender_from_others() -> None:
    origin = adapter()[0].origin
    assert adapter(timeout_seconds=3)[0].origin == origin
    for change in ({"account_sid": "AC2"}, {"base_url": "http://other.example"}):
        assert adapter(**change)[0].origin.account != origin.account
    other = adapter(**{"from": "+15005550099"})[0].origin
    assert other.account == origin.account and other.sender != origin.sender
    assert FROM not in origin.name and "AC1" not in origin.name


# --- callbacks


def callback(form: dict[str, str], *, url: str = CALLBACK + "?reference=m1-1", **more: Any) -> WebhookRequest:
    signature = sign(more.get("token", TOKEN), url, form.items())
    headers = {"X-TWILIO-Signature": signature, "content-type": "application/x-www-form-urlencoded"}
    return WebhookRequest("POST", more.get("received", url), headers, urlencode(form).encode())


@pytest.mark.parametrize(
    ("raw", "code", "status", "never_left", "suppress"),
    [
        ("accepted", None, "accepted", False, None),
        ("scheduled", None, "accepted", False, None),
        ("queued", None, "accepted", False, None),
        ("sending", None, "accepted", False, None),
        ("sent", None, "sent", False, None),
        ("delivered", None, "delivered", False, None),
        ("read", None, "delivered", False, None),
        ("undelivered", "30003", "undelivered", False, None),
        ("undelivered", "30007", "undelivered", False, None),
        ("undelivered", "30008", "undelivered", False, None),
        ("failed", "30001", "undelivered", True, None),
        ("failed", "30036", "undelivered", True, None),
        ("failed", "21610", "undelivered", False, "provider_opt_out"),
        ("sent", "30001", "sent", False, None),
        ("failed", None, "undelivered", False, None),
        ("canceled", None, "undelivered", False, None),
        ("brand-new", None, "unknown", False, None),
    ],
)
def test_receipts(raw: str, code: str | None, status: str, never_left: bool, suppress: str | None) -> None:
    twilio, _ = adapter()
    form = {"MessageSid": "SM1", "MessageStatus": raw, "To": TO, **({"ErrorCode": code} if code else {})}
    (receipt,) = twilio.parse_receipt(callback(form))
    assert (receipt.status, receipt.raw_status, receipt.code) == (status, raw, code)
    assert (receipt.definitely_not_sent, receipt.suppress) == (never_left, suppress)
    assert (receipt.provider_message_id, receipt.reference) == ("SM1", "m1-1")


RECEIPT = {"MessageSid": "SM1", "MessageStatus": "sent", "To": TO, "Empty": ""}


def test_a_receipt_is_taken_with_the_port_in_the_url() -> None:
    twilio, _ = adapter()
    with_port = "https://sms.example:443/receipts/prv_1/tok?reference=m1-1"
    assert twilio.parse_receipt(callback(RECEIPT, received=with_port))[0].reference == "m1-1"


@pytest.mark.parametrize(
    "forged",
    [
        callback(RECEIPT, token="guess"),
        callback(RECEIPT, received=CALLBACK + "?reference=other"),
        WebhookRequest("POST", CALLBACK, {}, urlencode(RECEIPT).encode()),
        WebhookRequest("POST", CALLBACK, {"x-twilio-signature": ""}, urlencode(RECEIPT).encode()),
        WebhookRequest("POST", CALLBACK, {"x-twilio-signature": "x"}, b"\xff\xfe"),
        WebhookRequest("POST", "nonsense", {"x-twilio-signature": "x"}, b""),
        WebhookRequest("POST", CALLBACK, {"x-twilio-signature": "x"}, b"&".join([b"a=1"] * 500)),
        # a JSON body is not covered by the signature of the bare URL
        WebhookRequest(
            "POST",
            CALLBACK,
            {"x-twilio-signature": sign(TOKEN, CALLBACK), "content-type": "application/json"},
            b'{"MessageSid":"SM1","MessageStatus":"delivered"}',
        ),
    ],
)
def test_a_forged_callback_is_refused(forged: WebhookRequest) -> None:
    twilio, _ = adapter()
    with pytest.raises(BadSignature):
        twilio.parse_receipt(forged)
    with pytest.raises(BadSignature):
        twilio.parse_inbound(forged)


def test_a_signed_json_body_is_authentic_but_no_receipt() -> None:
    twilio, _ = adapter()
    body = b'{"a":1}'
    url = f"{CALLBACK}?bodySHA256={hashlib.sha256(body).hexdigest()}"
    headers = {"x-twilio-signature": sign(TOKEN, url), "content-type": "application/json"}
    with pytest.raises(BadWebhook):
        twilio.parse_receipt(WebhookRequest("POST", url, headers, body))


@pytest.mark.parametrize("form", [{}, {"MessageSid": "SM1"}, {"MessageStatus": "sent"}, {**RECEIPT, "MessageSid": "<"}])
def test_an_authentic_callback_that_says_nothing(form: dict[str, str]) -> None:
    twilio, _ = adapter()
    with pytest.raises(BadWebhook):
        twilio.parse_receipt(callback(form))


@pytest.mark.parametrize(
    ("body", "opt_out_type", "keyword"),
    [
        ("STOP", None, "stop"),
        (" stop\n", None, "stop"),
        ("Unsubscribe", None, "stop"),
        ("REVOKE", None, "stop"),
        ("optout", None, "stop"),
        ("start", None, "start"),
        ("UNSTOP", None, "start"),
        ("Help", None, "help"),
        ("please stop", None, None),
        ("stop.", None, "stop"),
        ("", None, None),
        ("Désabonner", "STOP", "stop"),
        ("oui", "START", "start"),
        ("stop", "STRANGE", "stop"),
    ],
)
def test_inbound(body: str, opt_out_type: str | None, keyword: str | None) -> None:
    twilio, _ = adapter()
    form = {"MessageSid": "SM2", "From": TO, "To": FROM, "Body": body}
    if opt_out_type:
        form["OptOutType"] = opt_out_type
    (inbound,) = twilio.parse_inbound(callback(form, url="https://sms.example/inbound/prv_1/tok"))
    assert (inbound.from_, inbound.to, inbound.body, inbound.provider_message_id) == (TO, FROM, body, "SM2")
    assert inbound.keyword == keyword


@pytest.mark.parametrize(
    ("step", "ok", "reason"),
    [
        (HttpResponse(200, {}, b'{"status":"suspended"}'), False, "account_not_active"),
        (HttpResponse(401, {}, b'{"code":20003}'), False, "20003"),
        (HttpResponse(502, {}, b""), False, "http_502"),
        (NotSent("dns"), False, "dns"),
    ],
)
async def test_verify(step: Step, ok: bool, reason: str | None) -> None:
    twilio, http = adapter(step)
    verification = await twilio.verify()
    assert (verification.ok, verification.reason) == (ok, reason)
    assert http.requests[0].url == "http://twilio.example/proxy/2010-04-01/Accounts/AC1.json"
    await twilio.close()
    assert http.closed


def reply(status: int, body: object) -> HttpResponse:
    return HttpResponse(status, {}, json.dumps(body).encode())


OWN = {"phone_number": FROM, "capabilities": {"sms": True}}
MUTE = {"phone_number": FROM, "capabilities": {"sms": False}}
SHORT = {"short_code": "12345"}


@pytest.mark.parametrize(
    ("sender", "path", "step", "ok", "reason"),
    [
        ({}, "IncomingPhoneNumbers.json?PhoneNumber=%2B", reply(200, {"incoming_phone_numbers": [OWN]}), True, None),
        ({}, "IncomingPhoneNumbers.json?PhoneNumber=%2B", reply(200, {"incoming_phone_numbers": []}), False,
         "sender_not_found"),
        ({}, "IncomingPhoneNumbers.json", reply(200, {"incoming_phone_numbers": [OWN | {"phone_number": TO}]}), False,
         "sender_not_found"),
        ({}, "IncomingPhoneNumbers.json", reply(200, {"incoming_phone_numbers": [MUTE]}), False, "sender_cannot_text"),
        ({}, "IncomingPhoneNumbers.json", reply(200, {}), False, "unexpected_reply"),
        ({}, "IncomingPhoneNumbers.json", reply(401, {"code": 20003}), False, "20003"),
        ({"from": "12345"}, "SMS/ShortCodes.json?ShortCode=12345", reply(200, {"short_codes": [SHORT]}), True, None),
        ({"from": "12345"}, "SMS/ShortCodes.json", reply(200, {"short_codes": []}), False, "sender_not_found"),
        ({"from": None, "messaging_service_sid": "MG1"}, "/v1/Services/MG1", reply(200, {"sid": "MG1"}), True, None),
        ({"from": None, "messaging_service_sid": "MG1"}, "/v1/Services/MG1", reply(404, {"code": 20404}), False,
         "service_not_found"),
        ({"from": None, "messaging_service_sid": "MG1"}, "/v1/Services/MG1", InDoubt("timeout"), False, "timeout"),
    ],
)  # fmt: skip
async def test_verify_looks_the_sender_up(
    sender: dict[str, Any], path: str, step: Step, ok: bool, reason: str | None
) -> None:
    twilio, http = adapter(reply(200, {"status": "active"}), step, **sender)
    verification = await twilio.verify()
    assert (verification.ok, verification.reason, verification.is_checked) == (ok, reason, True)
    assert path in http.requests[1].url and http.requests[1].method == "GET"
    assert bool(verification.proven) == ok


async def test_a_name_as_sender_cannot_be_looked_up_and_verify_says_so() -> None:
    twilio, http = adapter(reply(200, {"status": "active"}), **{"from": "ACME Shop"})
    assert "cannot be looked up" in (await twilio.verify()).proven and len(http.requests) == 1


@pytest.mark.parametrize(
    ("base_url", "services"),
    [
        ("https://api.twilio.com", "https://messaging.twilio.com"),
        ("https://api.dublin.ie1.twilio.com", "https://messaging.dublin.ie1.twilio.com"),
        ("http://127.0.0.1:4010", "http://127.0.0.1:4010"),
        ("https://api.twilio.com.evil.example", "https://api.twilio.com.evil.example"),
        ("https://api.example/twilio.com", "https://api.example/twilio.com"),
    ],
)
def test_services_are_asked_for_at_the_vendor_or_at_what_stands_for_it(base_url: str, services: str) -> None:
    assert messaging_url(base_url) == services
