"""Twilio's public description of its API, against our adapter: requests are valid by it, its examples are understood.

tests/data/twilio_api_v2010.json says where it is from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import jsonschema_rs
import pytest
from msgspec.structs import replace

from dispatcher.http_port import HttpRequest, HttpResponse
from dispatcher.providers.base import Found, LookUp, NotFound, OutgoingText, ProviderAdapter, Receipt, Unavailable
from dispatcher.providers.registry import AdapterParts, build_adapter
from dispatcher.providers.sandbox_inbox import MemoryInbox
from dispatcher.providers.twilio import STATUSES
from services.dispatcher.tests.contract.conformance import TEXT, TOKEN
from tests.standins.scripted_http import ScriptedHttp

SPEC: dict[str, Any] = json.loads(
    (Path(__file__).parents[4] / "tests" / "data" / "twilio_api_v2010.json").read_text("utf-8")
)
ACCOUNT = "AC0123456789abcdef0123456789abcdef"
NUMBER: dict[str, Any] = {"account_sid": ACCOUNT, "from": "+15005550006"}
SERVICE: dict[str, Any] = {"account_sid": ACCOUNT, "messaging_service_sid": "MG0123456789abcdef0123456789abcdef"}
MESSAGES = SPEC["paths"]["/2010-04-01/Accounts/{AccountSid}/Messages.json"]


def adapter(settings: Mapping[str, Any], *replies: HttpResponse) -> tuple[ProviderAdapter, ScriptedHttp]:
    async def no_receipts(provider_id: str, receipts: list[Receipt]) -> None:
        raise AssertionError("only the sandbox has these")

    http = ScriptedHttp(replies)
    parts = AdapterParts(lambda: http, MemoryInbox(), no_receipts)
    return build_adapter("twilio", "prv_1", settings, {"auth_token": TOKEN}, parts), http


def operation(request: HttpRequest) -> tuple[dict[str, Any], dict[str, str]]:
    """What the description has under the request's path and method, and the path's parameters."""
    path = urlsplit(request.url).path
    for template, methods in SPEC["paths"].items():
        pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(template))
        if found := re.fullmatch(pattern, path):
            return methods[request.method.lower()], {name: unquote(value) for name, value in found.groupdict().items()}
    raise AssertionError(f"{path} is not in the description")


def plain(schema: Mapping[str, Any], value: str) -> object:
    """A form's text as the type that the description says."""
    kind = schema.get("type", "string")
    if kind == "boolean":
        return {"true": True, "false": False}[value]
    return int(value) if kind == "integer" else value


def problems(request: HttpRequest) -> list[str]:
    """Everything in which the request is not what the description says."""
    assert request.headers["Authorization"].startswith("Basic ")
    assert SPEC["components"]["securitySchemes"]["accountSid_authToken"] == {"scheme": "basic", "type": "http"}
    described, path = operation(request)
    found = []
    query = parse_qsl(urlsplit(request.url).query, keep_blank_values=True)
    for where, given in (("path", list(path.items())), ("query", query)):
        parameters = {each["name"]: each for each in described.get("parameters", ()) if each["in"] == where}
        found += [f"unknown {where} parameter {name}" for name, _ in given if name not in parameters]
        found += [f"no {name}" for name, each in parameters.items() if each.get("required") and name not in dict(given)]
        for name, value in given:
            schema = parameters.get(name, {}).get("schema", {})
            found += [error.message for error in validator(schema).iter_errors(plain(schema, value))]
    if "requestBody" in described:
        ((content_type, content),) = described["requestBody"]["content"].items()
        assert request.headers["Content-Type"] == content_type
        schema = content["schema"]
        form = parse_qsl(request.body.decode(), keep_blank_values=True, strict_parsing=True)
        assert len(dict(form)) == len(form), "each field once"
        fields = schema["properties"]
        found += [f"unknown field {name}" for name, _ in form if name not in fields]
        values = {name: plain(fields[name], value) for name, value in form if name in fields}
        found += [error.message for error in validator(schema).iter_errors(values)]
    return found


def validator(schema: Mapping[str, Any]) -> Any:
    return jsonschema_rs.Draft202012Validator({**schema, "components": SPEC["components"]}, validate_formats=True)


def answers(method: str, status: str) -> dict[str, HttpResponse]:
    """The description's own examples of replies."""
    examples = MESSAGES[method]["responses"][status]["content"]["application/json"]["examples"]
    return {
        name: HttpResponse(int(status), {}, json.dumps(example["value"]).encode()) for name, example in examples.items()
    }


TEXTS: dict[str, OutgoingText] = {
    "plain": TEXT,
    "no receipts asked for": replace(TEXT, callback_url=None),
    "no end": replace(TEXT, validity_seconds=None),
    "the longest validity": replace(TEXT, validity_seconds=1_000_000),
    "emoji and signs": replace(TEXT, body="Désolé & a=b 100% → 😀\n+1", encoding="UCS-2", parts=2),
    "an answer from the number written to": replace(TEXT, callback_url=None, sender="+15005550009"),
}


@pytest.mark.parametrize("settings", [NUMBER, SERVICE, NUMBER | {"from": "Acme"}, NUMBER | {"from": "12345"}], ids=str)
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
async def test_sending_is_valid_and_every_example_of_a_reply_is_understood(
    settings: dict[str, Any], text: OutgoingText
) -> None:
    for name, reply in answers("post", "201").items():
        twilio, http = adapter(settings, reply)
        result = await twilio.submit(text)
        assert result.is_accepted, name
        (request,) = http.requests
        assert problems(request) == []
        form = dict(parse_qsl(request.body.decode()))
        assert form["Body"] == text.body and form["To"] == text.to


async def test_what_the_description_forbids_is_seen() -> None:
    """The check itself: a request of another shape is not valid."""
    reply = next(iter(answers("post", "201").values()))
    twilio, http = adapter(NUMBER | {"account_sid": "AC1"}, reply, reply)
    await twilio.submit(TEXT)
    assert problems(http.requests[0]) != []
    await adapter(NUMBER, reply)[0].submit(TEXT)
    bad = replace(http.requests[0], body=b"To=%2B15005550006&Unknown=1&ValidityPeriod=1&SmartEncoded=true")
    assert "unknown field Unknown" in problems(bad)
    assert problems(replace(http.requests[0], body=b"Body=Hi")) != [], "To is required"


async def test_listing_is_valid() -> None:
    query = LookUp("m", "r", TEXT.to, TEXT.body, datetime(2023, 8, 24, 5, 1, tzinfo=UTC))
    pages = answers("get", "200")
    assert pages
    for name, page in pages.items():
        twilio, http = adapter(NUMBER, page)
        found = await twilio.look_up(query)
        assert isinstance(found, (Found, NotFound)) or found == Unavailable("unexpected_next_page"), name
        assert problems(http.requests[0]) == []


SHORT_CODE = {"account_sid": ACCOUNT, "from": "12345"}
OWN: tuple[tuple[dict[str, Any], bytes], ...] = (
    (NUMBER, b'{"incoming_phone_numbers": [{"phone_number": "+15005550006", "capabilities": {"sms": true}}]}'),
    (SHORT_CODE, b'{"short_codes": [{"short_code": "12345"}]}'),
    (SERVICE, b'{"sid": "MG0123456789abcdef0123456789abcdef"}'),
)


@pytest.mark.parametrize(("settings", "sender"), OWN, ids=["number", "short code", "service"])
async def test_reading_the_account_and_the_sender_is_valid(settings: dict[str, Any], sender: bytes) -> None:
    twilio, http = adapter(settings, HttpResponse(200, {}, b'{"status": "active"}'), HttpResponse(200, {}, sender))
    verified = await twilio.verify()
    assert verified.ok, verified
    assert len(http.requests) == 2
    for request in http.requests:
        assert problems(request) == []


def test_every_status_of_the_description_is_in_the_table() -> None:
    """Of texts to us the adapter hears by another way."""
    described = set(SPEC["components"]["schemas"]["message_enum_status"]["enum"])
    assert described - STATUSES.keys() == {"receiving", "received"}
