"""Exotel: what goes out, alone and together, what callbacks mean. Outcomes of one text: the conformance table."""

from __future__ import annotations

import base64
import json
import re
from typing import Any
from urllib.parse import parse_qs, unquote_plus, urlencode

import pytest
from msgspec.structs import replace

from dispatcher.domain.outcomes import Outcome
from dispatcher.http_port import HttpResponse, InDoubt, NotSent
from dispatcher.providers.base import (
    BadSignature,
    BadWebhook,
    Filled,
    LookUp,
    OutgoingText,
    Unavailable,
    WebhookRequest,
)
from dispatcher.providers.exotel import FAILED, UNDER_WAY, ExotelAdapter
from postrider.contracts.provider_fields import check_provider, with_defaults
from tests.standins.scripted_http import ScriptedHttp, Step
from tests.support.batches import all_begun

CALLBACK = "https://sms.example/receipts/prv_1/tok"
SETTINGS: dict[str, Any] = {"account_sid": "acme1", "sender_id": "ACMESH"}
CREDENTIALS = {"api_key": "key", "api_token": "secret"}
ACCEPTED, DOUBT = Outcome.ACCEPTED, Outcome.IN_DOUBT
LATER, PROVIDER, RECIPIENT = Outcome.REJECTED_LATER, Outcome.REJECTED_PROVIDER, Outcome.REJECTED_RECIPIENT


def adapter(*steps: Step, **settings: Any) -> tuple[ExotelAdapter, ScriptedHttp]:
    http = ScriptedHttp(steps)
    given = {**SETTINGS, **settings}
    assert check_provider("exotel", given, CREDENTIALS) == []
    return ExotelAdapter("prv_1", with_defaults("exotel", given), CREDENTIALS, http), http


def text(number: int = 0, **more: Any) -> OutgoingText:
    given: dict[str, Any] = {"callback_url": CALLBACK, **more}
    return OutgoingText(f"m{number}", 1, f"m{number}.1", f"+91987654321{number}", f"Hi {number}", "GSM-7", 1, **given)


def reply(status: int, said: object) -> HttpResponse:
    return HttpResponse(status, {}, json.dumps(said).encode())


def named(number: int, **more: Any) -> dict[str, Any]:
    """One message of a reply, as Exotel spells the number."""
    return {"Sid": f"sid{number}", "Status": "queued", "To": f"0987654321{number}", **more}


OK = reply(200, {"SMSMessage": named(0)})


async def form_of(given: OutgoingText, **settings: Any) -> dict[str, list[str]]:
    exotel, http = adapter(OK, **settings)
    await exotel.submit(given)
    return parse_qs(http.requests[0].body.decode(), keep_blank_values=True)


async def test_the_request() -> None:
    exotel, http = adapter(OK, timeout_seconds=7)
    await exotel.submit(text())
    (request,) = http.requests
    assert (request.method, request.url) == ("POST", "https://api.exotel.com/v1/Accounts/acme1/Sms/send.json")
    assert request.headers["Authorization"] == "Basic " + base64.b64encode(b"key:secret").decode()
    assert request.timeout_seconds == 7
    assert parse_qs(request.body.decode()) == {
        "From": ["ACMESH"],
        "To": ["+919876543210"],
        "Body": ["Hi 0"],
        "EncodingType": ["plain"],
        "StatusCallback": [CALLBACK + "?reference=m0.1"],
        "CustomField": ["m0.1"],
    }


@pytest.mark.parametrize(
    ("settings", "host"),
    [
        ({"subdomain": "api.in.exotel.com"}, "https://api.in.exotel.com"),
        ({"subdomain": "@api.in.exotel.com"}, "https://api.in.exotel.com"),
        ({"subdomain": "api.in.exotel.com", "base_url": "http://127.0.0.1:4010/x/"}, "http://127.0.0.1:4010/x"),
    ],
)
async def test_the_region(settings: dict[str, Any], host: str) -> None:
    exotel, http = adapter(OK, **settings)
    await exotel.submit(text())
    assert http.requests[0].url.startswith(host + "/v1/Accounts/acme1/")


async def test_what_india_demands() -> None:
    settings = {"dlt_entity_id": "12345", "dlt_template_id": "67890", "sms_type": "promotional", "priority": "high"}
    form = await form_of(text(), **settings)
    names = ("DltEntityId", "DltTemplateId", "SmsType", "Priority")
    assert [form[name] for name in names] == [["12345"], ["67890"], ["promotional"], ["high"]]
    form = await form_of(text(filled=Filled(template_id="11111")), **settings)
    assert form["DltTemplateId"] == ["11111"], "the campaign's word counts before the provider's"


@pytest.mark.parametrize("bulk", ["off", "json", "form"])
async def test_the_type_follows_the_class_of_the_campaign_if_so_set(bulk: str) -> None:
    texts = [replace(text(number), message_class=each) for number, each in enumerate(("transactional", "promotional"))]
    for setting, sent in (
        ("by_class", {"transactional", "promotional"}),
        ("promotional", {"promotional"}),
        (None, set()),
    ):
        exotel, http = adapter(OK, OK, sms_type=setting, bulk=bulk)
        if bulk == "off":
            for each in texts:
                await exotel.submit(each)
        else:
            await exotel.submit_batch(texts)
        said = " ".join(unquote_plus(request.body.decode()) for request in http.requests)
        assert set(re.findall(r"SmsType\]?[\"=: ]+(\w+)", said)) == sent


async def test_the_encoding_and_what_was_not_given() -> None:
    form = await form_of(replace(text(callback_url=None), body="ठीक है", encoding="UCS-2"))
    assert form["EncodingType"] == ["unicode"]
    assert "StatusCallback" not in form


async def test_no_look_up() -> None:
    exotel, _ = adapter()
    assert not exotel.capabilities.look_up
    assert isinstance(await exotel.look_up(LookUp("m", "m.1", "+1", "Hi", None)), Unavailable)  # type: ignore[arg-type]


# --- several texts in a call


def test_batches_are_asked_for() -> None:
    assert adapter()[0].capabilities.batch_size == 1
    assert adapter(bulk="json")[0].capabilities.batch_size == 100


async def test_the_json_batch() -> None:
    exotel, http = adapter(reply(200, {"SMSMessages": [named(0), named(1)]}), bulk="json", dlt_entity_id="12345")
    results = all_begun(await exotel.submit_batch([text(0), text(1, filled=Filled(template_id="77777"))]))
    (request,) = http.requests
    assert request.url.endswith("/v1/Accounts/acme1/Sms/bulksend")
    assert request.headers["Content-Type"] == "application/json"
    first, second = json.loads(request.body)["sms"]
    assert first == {
        "From": "ACMESH",
        "To": "+919876543210",
        "Body": "Hi 0",
        "DltEntityId": "12345",
        "CustomField": "m0.1",
        "EncodingType": "plain",
        "StatusCallback": CALLBACK + "?reference=m0.1",
    }
    assert (second["To"], second["DltTemplateId"]) == ("+919876543211", "77777")
    assert [result.provider_message_id for result in results] == ["sid0", "sid1"]


async def test_the_form_batch() -> None:
    said = [{"SMSMessage": named(0)}, {"SMSMessage": named(1)}]
    exotel, http = adapter(reply(207, said), bulk="form")
    results = all_begun(await exotel.submit_batch([text(0), text(1)]))
    form = parse_qs(http.requests[0].body.decode())
    assert http.requests[0].url.endswith("/Sms/bulksend.json")
    assert (form["From"], form["EncodingType"], form["StatusCallback"]) == (["ACMESH"], ["plain"], [CALLBACK])
    assert (form["Messages[0][To]"], form["Messages[0][Body]"]) == (["+919876543210"], ["Hi 0"])
    assert (form["Messages[1][To]"], form["Messages[1][CustomField]"]) == (["+919876543211"], ["m1.1"])
    assert [result.provider_message_id for result in results] == ["sid0", "sid1"]


REFUSED = {"RestException": {"Status": 400, "Code": 40203, "Message": "no"}}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        # in any order, by the number
        ({"SMSMessages": [named(2), named(0), named(1)]}, ["sid0", "sid1", "sid2"]),
        # in our order, the one refused names no number
        ([{"SMSMessage": named(0)}, REFUSED, {"SMSMessage": named(2)}], ["sid0", RECIPIENT, "sid2"]),
        # in another order, nobody can say whose the refusal is
        ([{"SMSMessage": named(1)}, REFUSED, {"SMSMessage": named(0)}], ["sid0", "sid1", DOUBT]),
        # by our reference
        ({"SMSMessages": [named(1, To=None, CustomField="m1.1")]}, [DOUBT, "sid1", DOUBT]),
        # what is missing is in doubt
        ({"SMSMessages": [named(0), named(2)]}, ["sid0", DOUBT, "sid2"]),
        # named twice, one id twice, named by no number that is ours
        ({"SMSMessages": [named(0), named(0, Sid="sidx"), named(1)]}, [DOUBT, "sid1", DOUBT]),
        ({"SMSMessages": [named(0), named(1, Sid="sid0"), named(2)]}, [DOUBT, DOUBT, "sid2"]),
        ({"SMSMessages": [named(0), named(1), named(7)]}, ["sid0", "sid1", DOUBT]),
        ({"SMSMessages": [named(0, To="3210"), named(1, To="3211")]}, [DOUBT, DOUBT, DOUBT]),
        # ids without any name prove nothing
        ({"SMSMessages": [named(n, To=None) for n in range(3)]}, [DOUBT, DOUBT, DOUBT]),
        # each with an outcome of its own
        (
            {"response": {"sms": [named(0, StatusCode=202), named(1, StatusCode=429, Sid=None), named(2)]}},
            ["sid0", LATER, "sid2"],
        ),
        (
            {"SMSMessages": [named(0), named(1, Status="failed-dnd", DetailedStatus="FAILED_REJECTED_DND"), named(2)]},
            ["sid0", RECIPIENT, "sid2"],
        ),
        ({"SMSMessages": []}, [DOUBT, DOUBT, DOUBT]),
        ("accepted", [DOUBT, DOUBT, DOUBT]),
    ],
)
async def test_whose_outcome_is_whose(said: object, expected: list[object]) -> None:
    exotel, _ = adapter(reply(200, said), bulk="json")
    results = all_begun(await exotel.submit_batch([text(0), text(1), text(2)]))
    assert [result.provider_message_id or result.outcome for result in results] == expected


async def test_the_order_of_xml_counts() -> None:
    sent = "<SMSMessage><Sid>sid{0}</Sid><To>0987654321{0}</To></SMSMessage>"
    refused = "<RestException><Status>400</Status><Code>40203</Code></RestException>"
    body = f"<TwilioResponse>{sent.format(0)}{refused}{sent.format(2)}</TwilioResponse>".encode()
    exotel, _ = adapter(HttpResponse(207, {}, body), bulk="form")
    results = all_begun(await exotel.submit_batch([text(0), text(1), text(2)]))
    assert [result.provider_message_id or result.outcome for result in results] == ["sid0", RECIPIENT, "sid2"]


@pytest.mark.parametrize(
    ("step", "outcome"),
    [
        (InDoubt("timeout"), DOUBT),
        (NotSent("refused"), PROVIDER),
        (HttpResponse(500, {}, b""), DOUBT),
        (HttpResponse(429, {"retry-after": "3"}, b""), LATER),
        (reply(401, {"RestException": {"Status": 401, "Code": 34010}}), PROVIDER),
        (reply(400, {"RestException": {"Status": 400, "Code": 40201}}), PROVIDER),
    ],
)
async def test_the_fate_of_the_call_is_that_of_each_text(step: Step, outcome: Outcome) -> None:
    exotel, http = adapter(step, bulk="json")
    results = all_begun(await exotel.submit_batch([text(0), text(1)]))
    assert [result.outcome for result in results] == [outcome, outcome]
    assert len(http.requests) == 1


async def test_a_call_refused_for_one_text_is_tried_text_by_text() -> None:
    """Nobody says whose fault it is, and nobody was texted: neither may the others fail with it."""
    bad = reply(400, {"RestException": {"Status": 400, "Code": 40202}})
    exotel, http = adapter(bad, OK, bad, bulk="json")
    assert exotel.batch_key(text(0)) == exotel.batch_key(text(1))
    results = all_begun(await exotel.submit_batch([text(0), text(1)]))
    assert [(result.outcome, result.code) for result in results] == [(LATER, "40202")] * 2
    assert exotel.batch_key(text(0)) != exotel.batch_key(text(1))
    assert exotel.batch_key(text(0)) != exotel.batch_key(text(2))
    (first,) = all_begun(await exotel.submit_batch([text(0)]))
    (second,) = all_begun(await exotel.submit_batch([text(1)]))
    assert (first.provider_message_id, second.outcome) == ("sid0", Outcome.REJECTED_CONTENT)
    assert [request.url.rpartition("/")[2] for request in http.requests] == ["bulksend", "send.json", "send.json"]


async def test_two_texts_to_one_number_are_two_calls() -> None:
    exotel, http = adapter(OK, reply(200, {"SMSMessage": named(0, Sid="sidb")}), bulk="json")
    results = all_begun(await exotel.submit_batch([text(0), replace(text(0), message_id="mb", reference="mb.1")]))
    assert sorted(str(result.provider_message_id) for result in results) == ["sid0", "sidb"]
    assert len(http.requests) == 2


def test_what_may_share_a_call() -> None:
    exotel, _ = adapter(bulk="form")
    key = exotel.batch_key(text(0))
    assert key == exotel.batch_key(text(1, filled=Filled(template_id="1")))
    assert key != exotel.batch_key(replace(text(1), encoding="UCS-2"))
    assert key != exotel.batch_key(text(1, callback_url=None))


# --- receipts


def callback(method: str = "POST", url: str = CALLBACK + "?reference=m0.1", **fields: str) -> WebhookRequest:
    form = {"SmsSid": "sid0", "To": "09876543210", "Status": "sent", "SmsUnits": "1", **fields}
    if method == "GET":
        return WebhookRequest("GET", f"{url}&{urlencode(form)}", {}, b"")
    return WebhookRequest("POST", url, {"Content-Type": "application/x-www-form-urlencoded"}, urlencode(form).encode())


RECEIPTS = [
    *((name, status, False) for name, status in UNDER_WAY.items()),
    *((name, "undelivered", outcome in (PROVIDER, LATER)) for name, outcome in FAILED.items()),
]


@pytest.mark.parametrize(("detailed", "status", "never_left"), RECEIPTS)
def test_the_detailed_status_decides(detailed: str, status: str, never_left: bool) -> None:
    """Whatever the number beside it: the pages number the same names differently."""
    exotel, _ = adapter()
    (receipt,) = exotel.parse_receipt(callback(DetailedStatus=detailed, DetailedStatusCode="20005", CustomField="m9.2"))
    assert (receipt.provider_message_id, receipt.status, receipt.reference) == ("sid0", status, "m9.2")
    assert receipt.definitely_not_sent == never_left
    assert (receipt.suppress is not None) == (detailed.endswith(("_DND", "_BLACKLIST", "_BLACKLISTED")) and
                                              not detailed.startswith("DLT"))  # fmt: skip
    assert receipt.code == (detailed if status == "undelivered" else None)


@pytest.mark.parametrize(
    ("fields", "status", "suppress"),
    [
        ({"Status": "queued"}, "accepted", None),
        ({"Status": "submitted"}, "sent", None),
        ({"Status": "sent"}, "sent", None),
        ({"Status": "delivered"}, "delivered", None),
        ({"Status": "failed"}, "undelivered", None),
        ({"Status": "failed-dnd"}, "undelivered", "provider_opt_out"),
        ({"Status": "failed_dnd"}, "undelivered", "provider_opt_out"),
        ({"Status": "Delivered", "DetailedStatus": "SOMETHING_NEW"}, "delivered", None),
        ({"Status": "new"}, "unknown", None),
        ({"Status": "", "DetailedStatus": "failed rejected dnd"}, "undelivered", "provider_opt_out"),
        ({"Status": "delivered", "DetailedStatus": "FAILED_DND"}, "undelivered", "provider_opt_out"),
    ],
)
def test_the_plain_status_where_there_is_no_other(fields: dict[str, str], status: str, suppress: str | None) -> None:
    (receipt,) = adapter()[0].parse_receipt(callback(**fields))
    assert (receipt.status, receipt.suppress, receipt.reference) == (status, suppress, "m0.1")


def test_a_panel_set_to_get() -> None:
    (receipt,) = adapter()[0].parse_receipt(callback("GET", DetailedStatus="DELIVERED_TO_HANDSET"))
    assert (receipt.provider_message_id, receipt.status, receipt.reference) == ("sid0", "delivered", "m0.1")


def test_another_accounts_callback() -> None:
    exotel, _ = adapter()
    assert exotel.parse_receipt(callback(AccountSid="acme1"))
    with pytest.raises(BadSignature):
        exotel.parse_receipt(callback(AccountSid="acme2"))


@pytest.mark.parametrize(
    "request_",
    [
        callback(SmsSid=""),
        callback(Status=""),
        WebhookRequest("POST", CALLBACK, {}, b"\xff\xfe"),
        WebhookRequest("POST", CALLBACK, {}, b"&".join(b"a=1" for _ in range(300))),
        WebhookRequest("POST", CALLBACK, {}, b'{"SmsSid": "sid0", "Status": "sent"}'),
    ],
)
def test_callbacks_that_are_none(request_: WebhookRequest) -> None:
    with pytest.raises(BadWebhook):
        adapter()[0].parse_receipt(request_)


# --- inbound


@pytest.mark.parametrize(
    ("settings", "sender", "from_"),
    [
        ({}, "+919876543210", "+919876543210"),
        ({}, "09876543210", "+919876543210"),
        ({}, "919876543210", "+919876543210"),
        ({"number_country": "ID"}, "081212345678", "+6281212345678"),
        ({}, "VM-ACME", "VM-ACME"),
    ],
)
def test_a_person_answers(settings: dict[str, Any], sender: str, from_: str) -> None:
    """A STOP of a number without country code must not be lost."""
    request = callback(From=sender, To="+911140000000", Body=" Stop ", DateCreated="2025-01-15T10:30:00+05:30")
    (inbound,) = adapter(**settings)[0].parse_inbound(request)
    assert (inbound.from_, inbound.to, inbound.provider_message_id) == (from_, "+911140000000", "sid0")
    assert inbound.keyword == "stop"


def test_an_inbound_text_without_a_sender() -> None:
    with pytest.raises(BadWebhook):
        adapter()[0].parse_inbound(callback(Body="Hi"))


# --- verify, settings


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (reply(200, {"Message": "No matching results"}), None),
        (reply(404, {"RestException": {"Status": 404, "Message": "no"}}), None),
        (reply(200, {"RestException": {"Status": 404, "Message": "no"}}), None),
        (reply(401, {"RestException": {"Status": 401, "Code": 34010}}), "34010"),
        (reply(200, {"RestException": {"Status": 401, "Message": "no"}}), "http_401"),
        (HttpResponse(401, {}, b""), "http_401"),
        (HttpResponse(404, {}, b"<html>"), "unexpected_reply"),
        (HttpResponse(200, {}, b"<html></html>"), "unexpected_reply"),
        (HttpResponse(502, {}, b""), "http_502"),
        (NotSent("dns"), "dns"),
        (InDoubt("timeout"), "timeout"),
    ],
)
async def test_verify(step: Step, reason: str | None) -> None:
    exotel, http = adapter(step)
    verification = await exotel.verify()
    assert (verification.ok, verification.reason) == (reason is None, reason)
    assert http.requests[0].method == "GET"
    assert http.requests[0].url.startswith("https://api.exotel.com/v1/Accounts/acme1/SMS/Messages/")


@pytest.mark.parametrize(
    ("settings", "credentials", "wrong"),
    [
        ({"account_sid": None}, CREDENTIALS, "/settings/account_sid"),
        ({"account_sid": "../x"}, CREDENTIALS, "/settings/account_sid"),
        ({"sender_id": None}, CREDENTIALS, "/settings/sender_id"),
        ({"sender_id": "a\r\nb"}, CREDENTIALS, "/settings/sender_id"),
        ({"subdomain": "api.exotel.com/x"}, CREDENTIALS, "/settings/subdomain"),
        ({"subdomain": "evil.example@api.exotel.com"}, CREDENTIALS, "/settings/subdomain"),
        ({"dlt_entity_id": "abc"}, CREDENTIALS, "/settings/dlt_entity_id"),
        ({"sms_type": "other"}, CREDENTIALS, "/settings/sms_type"),
        ({"bulk": "xml"}, CREDENTIALS, "/settings/bulk"),
        ({}, {"api_token": "t"}, "/credentials/api_key"),
        ({}, {"api_key": "a:b", "api_token": "t"}, "/credentials/api_key"),
        ({}, {"api_key": "a"}, "/credentials/api_token"),
    ],
)
def test_bad_settings(settings: dict[str, Any], credentials: dict[str, str], wrong: str) -> None:
    problems = check_provider("exotel", {**SETTINGS, **settings}, credentials)
    assert [problem.pointer for problem in problems] == [wrong]
