"""MSG91: what goes out, what the three versions of the webhook mean. Outcomes of one text: the conformance table."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from msgspec.structs import replace

from dispatcher.domain.outcomes import Outcome
from dispatcher.http_port import HttpResponse, InDoubt, NotSent
from dispatcher.providers.base import (
    OPTED_IN,
    BadWebhook,
    Filled,
    LookUp,
    OutgoingText,
    Receipt,
    Unavailable,
    WebhookRequest,
)
from dispatcher.providers.msg91 import Msg91Adapter
from postrider.contracts.provider_fields import check_provider, with_defaults
from tests.standins.scripted_http import ScriptedHttp, Step
from tests.support.batches import all_begun

ID, URL = "3763646c3058373530393938", "https://sms.example/receipts/prv_1/tok"
CREDENTIALS = {"auth_key": "key"}
REFERENCE = "0" * 32 + ".1"
LATER, PROVIDER, DOUBT = Outcome.REJECTED_LATER, Outcome.REJECTED_PROVIDER, Outcome.IN_DOUBT


def adapter(*steps: Step, **settings: Any) -> tuple[Msg91Adapter, ScriptedHttp]:
    http = ScriptedHttp(steps)
    assert check_provider("msg91", settings, CREDENTIALS) == []
    return Msg91Adapter("prv_1", with_defaults("msg91", settings), CREDENTIALS, http), http


def text(number: int = 0, template: str | None = "64a1b2", **filled: Any) -> OutgoingText:
    given = Filled(template_id=template, **{"variables": ("Ada", "20%"), **filled})
    return OutgoingText(
        f"m{number}", 1, f"m{number}.1", f"+91987654321{number}", "", "GSM-7", 1, callback_url=URL, filled=given
    )


def reply(status: int, said: object) -> HttpResponse:
    return HttpResponse(status, {}, json.dumps(said).encode())


OK = reply(200, {"type": "success", "message": ID})


async def order_of(given: OutgoingText, **settings: Any) -> dict[str, Any]:
    msg91, http = adapter(OK, **settings)
    await msg91.submit(given)
    order: dict[str, Any] = json.loads(http.requests[0].body)
    return order


async def test_the_request() -> None:
    msg91, http = adapter(OK, sender="ACMESH", timeout_seconds=7)
    result = await msg91.submit(text())
    (request,) = http.requests
    assert (request.method, request.url) == ("POST", "https://control.msg91.com/api/v5/flow")
    assert (request.headers["authkey"], request.headers["Content-Type"]) == ("key", "application/json")
    assert request.timeout_seconds == 7
    assert json.loads(request.body) == {
        "template_id": "64a1b2",
        "sender": "ACMESH",
        "short_url": "0",
        "recipients": [{"mobiles": "919876543210", "VAR1": "Ada", "VAR2": "20%", "CRQID": "m0.1"}],
    }
    assert result.provider_message_id == f"{ID}:919876543210"


async def test_the_settings_of_a_call() -> None:
    order = await order_of(text(), route="promotional", short_url="on", real_time_response="on")
    assert (order["route"], order["short_url"], order["realTimeResponse"]) == ("1", "1", "1")
    assert "sender" not in order


async def test_variables_by_name() -> None:
    """A pair's own name counts; the number and the reference are ours whatever the pairs are called."""
    order = await order_of(text(message_pairs=(("otp", "1234"), ("VAR2", "30%"))))
    assert order["recipients"] == [
        {"VAR1": "Ada", "VAR2": "30%", "otp": "1234", "mobiles": "919876543210", "CRQID": "m0.1"}
    ]


@pytest.mark.parametrize("name", ["mobiles", "MOBILES", "mobile", "crqid"])
async def test_a_pair_cannot_change_who_is_texted(name: str) -> None:
    msg91, http = adapter()
    result = await msg91.submit(text(message_pairs=((name, "15005550001"),)))
    assert (result.outcome, result.not_begun, http.requests) == (Outcome.REJECTED_CONTENT, True, [])


async def test_no_look_up() -> None:
    msg91, _ = adapter()
    assert not msg91.capabilities.look_up
    assert isinstance(await msg91.look_up(LookUp("m", "m.1", "+1", "", None)), Unavailable)  # type: ignore[arg-type]


# --- many recipients in a call


async def test_one_call_many_recipients() -> None:
    msg91, http = adapter(OK)
    results = all_begun(await msg91.submit_batch([text(0), text(1, variables=("Bob", "10%"))]))
    (request,) = http.requests
    first, second = json.loads(request.body)["recipients"]
    assert (first["mobiles"], second["mobiles"], second["VAR1"]) == ("919876543210", "919876543211", "Bob")
    names = [result.provider_message_id for result in results]
    assert names == [f"{ID}:919876543210", f"{ID}:919876543211"], "one request id, a name for each"


async def test_version_4_names_texts_by_our_reference() -> None:
    msg91, _ = adapter(OK, webhook_version="v4")
    results = all_begun(await msg91.submit_batch([text(0), text(1)]))
    assert [result.provider_message_id for result in results] == ["m0.1", "m1.1"]


async def test_two_texts_to_one_number_are_two_calls() -> None:
    msg91, http = adapter(OK, reply(200, {"type": "success", "message": "f" * 24}))
    twin = replace(text(0), message_id="mb", reference="mb.1")
    results = all_begun(await msg91.submit_batch([text(0), twin, text(1)]))
    assert sorted(len(json.loads(request.body)["recipients"]) for request in http.requests) == [1, 2]
    assert len({result.provider_message_id for result in results}) == 3


async def test_a_text_that_cannot_go_keeps_nobody_back() -> None:
    msg91, http = adapter(OK)
    results = all_begun(await msg91.submit_batch([text(0, message_pairs=(("mobiles", "1"),)), text(1)]))
    assert [result.outcome for result in results] == [Outcome.REJECTED_CONTENT, Outcome.ACCEPTED]
    assert [each["mobiles"] for each in json.loads(http.requests[0].body)["recipients"]] == ["919876543211"]


def test_what_may_share_a_call() -> None:
    msg91, _ = adapter(recipients_per_call=250)
    assert msg91.capabilities.batch_size == 250
    assert msg91.batch_key(text(0)) == msg91.batch_key(text(1, variables=()))
    assert msg91.batch_key(text(0)) != msg91.batch_key(text(1, template="64a1b3"))


@pytest.mark.parametrize(
    ("step", "outcome"),
    [
        (InDoubt("timeout"), DOUBT),
        (NotSent("refused"), PROVIDER),
        (HttpResponse(500, {}, b""), DOUBT),
        (HttpResponse(429, {}, b""), LATER),
        (reply(200, {"type": "error", "message": "418"}), PROVIDER),
        (reply(200, {"type": "error", "message": "template id missing"}), Outcome.REJECTED_CONTENT),
        (reply(200, {"type": "error", "message": "what is this"}), DOUBT),
    ],
)
async def test_the_fate_of_the_call_is_that_of_each_text(step: Step, outcome: Outcome) -> None:
    msg91, http = adapter(step)
    results = all_begun(await msg91.submit_batch([text(0), text(1)]))
    assert [result.outcome for result in results] == [outcome, outcome]
    assert len(http.requests) == 1
    assert msg91.batch_key(text(0)) == msg91.batch_key(text(1))


@pytest.mark.parametrize("code", ["202", "310"])
async def test_a_call_refused_for_one_text_is_tried_text_by_text(code: str) -> None:
    bad = reply(200, {"type": "error", "message": code})
    msg91, _ = adapter(bad, OK, bad)
    results = all_begun(await msg91.submit_batch([text(0), text(1)]))
    assert [(result.outcome, result.code, result.retry_after_seconds) for result in results] == [(LATER, code, 1.0)] * 2
    assert len({msg91.batch_key(text(0)), msg91.batch_key(text(1)), msg91.batch_key(text(2))}) == 3
    assert (await msg91.submit(text(0))).is_accepted
    assert (await msg91.submit(text(1))).outcome in (Outcome.REJECTED_RECIPIENT, Outcome.REJECTED_CONTENT)


# --- receipts


def v2(*reports: dict[str, Any], **call: Any) -> WebhookRequest:
    data = json.dumps([{"senderId": "ACMESH", "requestId": ID, "report": reports, "userId": "27", **call}])
    form = urlencode({"data": data}).encode()
    return WebhookRequest("POST", URL, {"content-type": "application/x-www-form-urlencoded"}, form)


def v3(**report: Any) -> WebhookRequest:
    given = {"date": "2024-05-22 09:58:16", "number": "919876543210", "requestId": ID, "CRQID": "0", **report}
    return WebhookRequest("POST", URL, {"content-type": "application/json"}, json.dumps(given).encode())


def v4(event: str, **data: Any) -> WebhookRequest:
    given = [{"event": event, "data": [{"ts": 1726729500, "meta": REFERENCE, "description": "x", **data}]}]
    return WebhookRequest("POST", URL, {"content-type": "application/json"}, json.dumps(given).encode())


def entry(number: int = 0, **more: Any) -> dict[str, Any]:
    given = {"date": "2024-05-22 10:06:20", "number": f"91987654321{number}", "status": "1", "desc": "DELIVERED"}
    return {**given, "CRQID": f"m{number}.1", "ctCode": "900", "failedReason": "", **more}


def said(request: WebhookRequest, **settings: Any) -> Receipt:
    (receipt,) = adapter(**settings)[0].parse_receipt(request)
    return receipt


def test_version_2_speaks_of_many_texts() -> None:
    first, second = adapter()[0].parse_receipt(v2(entry(0), entry(1, status="2", ctCode="905")))
    assert (first.provider_message_id, first.status, first.reference) == (f"{ID}:919876543210", "delivered", "m0.1")
    assert (second.provider_message_id, second.status, second.code) == (f"{ID}:919876543211", "undelivered", "2:905")
    assert (first.code, first.suppress, second.suppress) == (None, None, None)


@pytest.mark.parametrize(
    ("status", "meaning", "never_left", "suppress"),
    [
        ("1", "delivered", False, None),
        ("2", "undelivered", False, None),
        ("9", "undelivered", False, "provider_opt_out"),
        ("16", "undelivered", True, None),
        ("17", "undelivered", False, "blocked"),
        ("25", "undelivered", True, None),
        (25, "undelivered", True, None),
        ("8", "unknown", False, None),
    ],
)
def test_the_statuses(status: Any, meaning: str, never_left: bool, suppress: str | None) -> None:
    for request in (v2(entry(status=status)), v3(status=status)):
        receipt = said(request)
        assert receipt.provider_message_id == f"{ID}:919876543210"
        assert (receipt.status, receipt.definitely_not_sent, receipt.suppress) == (meaning, never_left, suppress)
        assert receipt.raw_status == str(status)
        assert receipt.code == (None if meaning == "delivered" else str(status))


def test_a_number_with_a_plus_names_the_same_text() -> None:
    assert said(v3(status="1", number="+91 98765 43210")).provider_message_id == f"{ID}:919876543210"


@pytest.mark.parametrize("crqid", ["0", "", None, 0])
def test_no_reference_came_back(crqid: object) -> None:
    receipt = said(v3(status="1", CRQID=crqid))
    assert (receipt.reference, receipt.provider_message_id) == (None, f"{ID}:919876543210")


@pytest.mark.parametrize("code", ["901", "903", "913"])
def test_codes_of_version_2_that_say_opted_out(code: str) -> None:
    receipt = said(v2(entry(status="2", ctCode=code)))
    assert (receipt.suppress, receipt.code) == ("provider_opt_out", f"2:{code}")
    assert said(v2(entry(status="1", ctCode=code))).suppress is None


def test_version_4() -> None:
    receipt = said(v4("delivered"), webhook_version="v4")
    assert (receipt.provider_message_id, receipt.reference, receipt.status) == (REFERENCE, REFERENCE, "delivered")
    receipt = said(v4("failed", code="913"), webhook_version="v4")
    assert (receipt.status, receipt.code, receipt.suppress) == ("undelivered", "913", "provider_opt_out")
    receipt = said(v4("failed", code="905"), webhook_version="v4")
    assert (receipt.status, receipt.code, receipt.suppress) == ("undelivered", "905", None)
    assert said(v4("new"), webhook_version="v4").status == "unknown"
    assert adapter(webhook_version="v4")[0].parse_receipt(v4("clicked", url="https://x.example")) == []


def test_the_versions_agree_on_a_texts_name() -> None:
    """Set to v4, a text is named by its reference; whoever switches the panel back is still understood."""
    assert said(v3(status="1", CRQID=REFERENCE), webhook_version="v4").provider_message_id == REFERENCE
    assert said(v2(entry(CRQID="0")), webhook_version="v4").provider_message_id == f"{ID}:919876543210"


def test_version_4_is_refused_where_texts_have_other_names() -> None:
    """It would look like a second text of the same message."""
    with pytest.raises(BadWebhook, match="webhook_version"):
        adapter(webhook_version="v2")[0].parse_receipt(v4("delivered"))


@pytest.mark.parametrize(
    "request_",
    [
        v3(status=""),
        v3(status="1", number=""),
        v3(status="1", requestId=""),
        v2(entry(), requestId=None),
        v2({**entry(), "number": ""}),
        v2(entry(), report="none"),
        v4("delivered", meta="0"),
        v4("delivered", meta=None),
        v4("delivered", ts=None),
        v4(""),
        WebhookRequest("POST", URL, {}, b""),
        WebhookRequest("POST", URL, {}, b"7"),
        WebhookRequest("POST", URL, {}, b"\xff\xfe"),
        WebhookRequest("POST", URL, {}, b"data=%5B1%5D"),
        WebhookRequest("POST", URL, {}, b"data=none"),
        WebhookRequest("POST", URL, {}, b'["a"]'),
        WebhookRequest("POST", URL, {}, b'[{"event": "delivered"}]'),
        WebhookRequest("POST", URL, {}, b"&".join(b"a=1" for _ in range(300))),
    ],
)
def test_callbacks_that_are_none(request_: WebhookRequest) -> None:
    with pytest.raises(BadWebhook):
        adapter(webhook_version="v4")[0].parse_receipt(request_)


def test_version_2_in_other_wrappings() -> None:
    """As JSON, as the help page prints it, and in the query of a GET."""
    data = json.dumps([{"requestId": ID, "report": [entry()]}])
    for request in (
        WebhookRequest("POST", URL, {}, json.dumps({"data": data}).encode()),
        WebhookRequest("POST", URL, {}, json.dumps({"data": json.loads(data)}).encode()),
        WebhookRequest("GET", f"{URL}?{urlencode({'data': data})}", {}, b""),
    ):
        assert said(request).provider_message_id == f"{ID}:919876543210"


@pytest.mark.parametrize("version", ["v2", "v3", "v4"])
@pytest.mark.parametrize(
    ("said_", "suppress", "code"),
    [("STOP", "opted_out", "stop:"), ("शुरू", OPTED_IN, "start:"), ("Help!", None, "help:"), ("thanks", None, None)],
)
def test_a_reply_by_version_4_is_obeyed(version: str, said_: str, suppress: str | None, code: str | None) -> None:
    (receipt,) = adapter(webhook_version=version)[0].parse_receipt(v4("replied", incomingText=said_))
    assert (receipt.status, receipt.suppress, receipt.reference) == ("delivered", suppress, receipt.provider_message_id)
    assert (
        receipt.reference and (receipt.code or "").startswith(code or "") and (receipt.code is None) == (code is None)
    )


def test_no_inbound_texts() -> None:
    with pytest.raises(BadWebhook):
        adapter()[0].parse_inbound(v4("replied", incomingText="STOP"))


# --- verify, settings


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (HttpResponse(200, {}, b"1234"), None),
        (HttpResponse(200, {}, b'"0"\n'), None),
        (HttpResponse(200, {}, b"12.5"), None),
        (reply(200, {"type": "error", "message": "207"}), "207"),
        (reply(401, {"errors": "Unauthorized", "apiError": "418"}), "418"),
        (HttpResponse(200, {}, b"<html>"), "unexpected_reply"),
        (HttpResponse(502, {}, b""), "http_502"),
        (NotSent("dns"), "dns"),
        (InDoubt("timeout"), "timeout"),
    ],
)
async def test_verify(step: Step, reason: str | None) -> None:
    msg91, http = adapter(step, route="1")
    verification = await msg91.verify()
    assert (verification.ok, verification.reason) == (reason is None, reason)
    (request,) = http.requests
    assert (request.method, urlsplit(request.url).path) == ("GET", "/api/balance.php")
    assert parse_qs(urlsplit(request.url).query) == {"authkey": ["key"], "type": ["1"]}


@pytest.mark.parametrize(
    ("settings", "credentials", "wrong"),
    [
        ({"sender": "a b"}, CREDENTIALS, "/settings/sender"),
        ({"route": "2"}, CREDENTIALS, "/settings/route"),
        ({"short_url": "yes"}, CREDENTIALS, "/settings/short_url"),
        ({"webhook_version": "v1"}, CREDENTIALS, "/settings/webhook_version"),
        ({"recipients_per_call": 0}, CREDENTIALS, "/settings/recipients_per_call"),
        ({}, {}, "/credentials/auth_key"),
        ({}, {"auth_key": "a\nb"}, "/credentials/auth_key"),
    ],
)
def test_bad_settings(settings: dict[str, Any], credentials: dict[str, str], wrong: str) -> None:
    assert [problem.pointer for problem in check_provider("msg91", settings, credentials)] == [wrong]
