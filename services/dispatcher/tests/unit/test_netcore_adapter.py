"""Netcore: the preset's requests, and that everything thinly documented can be set."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl

import pytest
from msgspec.structs import replace

from dispatcher.http_port import HttpResponse
from dispatcher.providers.base import BadWebhook, Filled, OutgoingText, WebhookRequest
from dispatcher.providers.registry import AdapterParts, build_adapter
from dispatcher.providers.sandbox_inbox import MemoryInbox
from postrider.contracts.provider_fields import check_provider
from tests.standins.scripted_http import ScriptedHttp

CREDENTIALS = {"username": "u&ser", "password": "p w"}
TEXT = OutgoingText("m1", 1, "m1.1", "+919812345678", "Hi & bye", "GSM-7", 1, campaign_id="cmp_1")


async def sent(settings: dict[str, Any], text: OutgoingText = TEXT) -> tuple[ScriptedHttp, Any]:
    http = ScriptedHttp([HttpResponse(200, {}, b'<RESULT REQID="7"/>')])

    async def no_receipts(provider_id: str, receipts: list[Any]) -> None:
        raise AssertionError("the sandbox's alone")

    parts = AdapterParts(new_http=lambda: http, inbox=MemoryInbox(), receipt_sink=no_receipts)
    adapter = build_adapter("netcore", "prv_1", {"feed_id": "390000", **settings}, CREDENTIALS, parts)
    assert adapter.kind == "netcore"
    return http, await adapter.submit(text)


async def test_the_form() -> None:
    http, result = await sent({"sender_id": "ACMESH"})
    (request,) = http.requests
    assert result.provider_message_id == "7"
    assert (request.method, request.url) == ("POST", "https://bulkpush.mytoday.com/BulkSms/SingleMsgApi")
    assert dict(parse_qsl(request.body.decode())) == {
        "feedid": "390000",
        "username": "u&ser",
        "password": "p w",
        "To": "919812345678",
        "Text": "Hi & bye",
        "senderid": "ACMESH",
    }


async def test_the_json_form() -> None:
    http, _ = await sent({"format": "json"})
    (request,) = http.requests
    assert request.url.endswith("/BulkSms/JsonSingleApi")
    assert json.loads(request.body) == {
        "feedid": "390000",
        "username": "u&ser",
        "password": "p w",
        "mobile": "919812345678",
        "messages": "Hi & bye",
    }


async def test_india_s_registry() -> None:
    text = replace(TEXT, filled=Filled(template_id="1107171265773350159"))
    http, _ = await sent({"entity_id": "1201"}, text)
    form = dict(parse_qsl(http.requests[0].body.decode()))
    assert (form["entityid"], form["templateid"]) == ("1201", "1107171265773350159")


async def test_what_the_vendor_calls_otherwise() -> None:
    http, result = await sent(
        {"base_url": "http://127.0.0.1:4010", "path": "/other/api", "fields": {"to": "mobile", "text": "msg"},
         "more": {"async": "0"}, "reply": {"message_id": "REQID=\"*\""}}
    )  # fmt: skip
    (request,) = http.requests
    assert request.url == "http://127.0.0.1:4010/other/api"
    form = dict(parse_qsl(request.body.decode()))
    assert (form["mobile"], form["msg"], form["async"]) == ("919812345678", "Hi & bye", "0")
    assert result.provider_message_id == "7"


@pytest.mark.parametrize(
    ("settings", "pointer"),
    [
        ({"feed_id": None}, "/settings/feed_id"),
        ({"format": "xml"}, "/settings/format"),
        ({"fields": {"phone": "x"}}, "/settings/fields/phone"),
        ({"fields": {"to": "$$To"}}, "/settings/fields/to"),
        ({"more": {"To": "1"}}, "/settings/more/To"),
        ({"more": {"x": "$$Body"}}, "/settings/more/x"),
        ({"path": "//evil.example"}, None),
        ({"path": "x"}, "/settings/path"),
        ({"base_url": "ftp://x"}, "/settings/base_url"),
        ({"reply": {"codes": {"1": "no"}}}, "/settings/reply/codes/1"),
        ({"surprise": 1}, "/settings/surprise"),
    ],
)
def test_settings(settings: dict[str, Any], pointer: str | None) -> None:
    found = [problem.pointer for problem in check_provider("netcore", {"feed_id": "1", **settings}, CREDENTIALS)]
    assert found == ([pointer] if pointer else [])


async def test_a_path_never_leaves_the_host() -> None:
    http, _ = await sent({"path": "//evil.example"})
    assert http.requests[0].url == "https://bulkpush.mytoday.com//evil.example"


@pytest.mark.parametrize("credentials", [{}, {"username": "u"}, {"username": "u", "password": "a\nb"}])
def test_credentials(credentials: dict[str, Any]) -> None:
    assert check_provider("netcore", {"feed_id": "1"}, credentials)


async def test_receipts_would_have_to_be_fetched() -> None:
    parts = AdapterParts(ScriptedHttp, MemoryInbox(), lambda *_: None)  # type: ignore[arg-type]
    adapter = build_adapter("netcore", "prv_1", {"feed_id": "1"}, CREDENTIALS, parts)
    assert not adapter.capabilities.receipts
    with pytest.raises(BadWebhook):
        adapter.parse_receipt(WebhookRequest("POST", "https://us.example/", {}, b"[]"))
