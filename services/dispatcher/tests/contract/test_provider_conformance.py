"""What every provider adapter must do, as one table: a row per outcome and per code. A new adapter adds its rows.

The vendor's side is a scripted HTTP port: what a reply means is decided by the adapter alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from dispatcher.domain.outcomes import DEFINITE_REJECTIONS, Outcome
from dispatcher.http_port import CalledOff, HttpResponse, InDoubt, NotSent
from dispatcher.providers.base import OutgoingText, ProviderAdapter, Receipt
from dispatcher.providers.registry import AdapterParts, build_adapter
from dispatcher.providers.sandbox_inbox import MemoryInbox
from dispatcher.providers.twilio import CODES, HTTP_STATUSES
from tests.standins.scripted_http import ScriptedHttp, Step

TO, BODY, TOKEN = "+15005550006", "Hi Ada, 20% off today.", "secret-token"
SID = "SM" + "0123456789abcdef" * 2
TEXT = OutgoingText(
    message_id="0" * 32,
    attempt=1,
    reference="0" * 32 + "-1",
    to=TO,
    body=BODY,
    encoding="GSM-7",
    parts=1,
    validity_seconds=3600,
    callback_url="https://sms.example/receipts/prv_1/tok",
)
TWILIO = {"account_sid": "AC1", "from": "+15005550001"}


def reply(status: int, body: object, headers: Mapping[str, str] | None = None) -> HttpResponse:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HttpResponse(status, headers or {}, raw)


def error(status: int, code: object, headers: Mapping[str, str] | None = None) -> HttpResponse:
    return reply(status, {"code": code, "message": f"no {TO}", "status": status}, headers)


@dataclass(frozen=True)
class Row:
    """One situation of one adapter and what submit must make of it."""

    name: str
    kind: str
    outcome: Outcome
    settings: dict[str, Any] = field(default_factory=dict)
    credentials: dict[str, Any] = field(default_factory=dict)
    step: Step | None = None
    also: Mapping[str, object] = field(default_factory=dict)
    text: OutgoingText = TEXT

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}"


def twilio(name: str, outcome: Outcome, step: Step | None, **also: object) -> Row:
    return Row(name, "twilio", outcome, TWILIO, {"auth_token": TOKEN}, step, also)


def sandbox(setting: str, outcome: Outcome) -> Row:
    return Row(setting, "sandbox", outcome, {"outcome": setting})


ACCEPTED, DOUBT = Outcome.ACCEPTED, Outcome.IN_DOUBT
PROVIDER, LATER = Outcome.REJECTED_PROVIDER, Outcome.REJECTED_LATER
RECIPIENT, CONTENT = Outcome.REJECTED_RECIPIENT, Outcome.REJECTED_CONTENT

ROWS = [
    twilio("201 with a sid", ACCEPTED, reply(201, {"sid": SID, "status": "queued"}), provider_message_id=SID),
    twilio("200 with a sid", ACCEPTED, reply(200, {"sid": SID}), provider_message_id=SID),
    twilio("201 without a sid", DOUBT, reply(201, {"status": "queued"}), unknown_code=True),
    twilio("201 with a null sid", DOUBT, reply(201, {"sid": None})),
    twilio("201 with an empty sid", DOUBT, reply(201, {"sid": ""})),
    twilio("201 with a sid that is none", DOUBT, reply(201, {"sid": "a b\n"})),
    twilio("201 that is a list", DOUBT, reply(201, [SID])),
    twilio("201 that is HTML", DOUBT, reply(201, b"<html>")),
    twilio("201 that is cut", DOUBT, reply(201, b'{"sid": "SM')),
    twilio("201 that is not UTF-8", DOUBT, reply(201, b'{"sid": "\xff"}')),
    twilio("204 without a body", DOUBT, reply(204, b"")),
    *(twilio(f"code {code}", PROVIDER, error(400, code), route_only=False, counts_for_breaker=True)
      for code in (10001, 21212, 21603, 21606, 21659, 21660, 21703, 21705, 30002, 30034, 63017)),
    *(twilio(f"code {code}", PROVIDER, error(400, code), route_only=True, counts_for_breaker=False)
      for code in (21408, 21608, 21612)),
    twilio("401 with 20003", PROVIDER, error(401, 20003), code="20003"),
    twilio("401 without a code", PROVIDER, reply(401, b""), code="http_401"),
    twilio("404 with 20404", PROVIDER, error(404, 20404), code="20404"),
    *(twilio(f"code {code}", LATER, error(400, code), counts_for_breaker=False) for code in (20429, 21611, 30001)),
    twilio("429", LATER, reply(429, b"slow down"), retry_after_seconds=None),
    twilio("429 with Retry-After", LATER, error(429, 20429, {"retry-after": "7"}), retry_after_seconds=7.0),
    twilio("429 with an endless Retry-After", LATER, error(429, 20429, {"retry-after": "9" * 30}),
           retry_after_seconds=3600.0),
    twilio("429 with a Retry-After that is none", LATER, error(429, 20429, {"retry-after": "soon"}),
           retry_after_seconds=None),
    twilio("429 with a date", LATER, error(429, 20429, {"retry-after": "Tue, 01 Dec 2026 09:00:30 GMT",
           "date": "Tue, 01 Dec 2026 09:00:00 GMT"}), retry_after_seconds=30.0),
    twilio("429 with a code in no table", LATER, error(429, 99999)),
    twilio("503 with Retry-After", LATER, reply(503, b"", {"retry-after": "2"}), retry_after_seconds=2.0),
    twilio("503 with a code that says not processed", LATER, error(503, 20429)),
    twilio("503 alone", DOUBT, reply(503, b"")),
    twilio("503 with a code in no table", DOUBT, error(503, 20503)),
    twilio("503 with 20500", DOUBT, error(503, 20500, {"retry-after": "1"})),
    *(twilio(f"HTTP {status}", DOUBT, reply(status, b"")) for status in (500, 502, 504)),
    *(twilio(f"HTTP {status} whatever its code", DOUBT, error(status, 21211)) for status in (500, 502, 504)),
    twilio("500 with 20500", DOUBT, error(500, 20500), unknown_code=False),
    *(twilio(f"code {code}", RECIPIENT, error(400, code), suppress=None, counts_for_breaker=False)
      for code in (21211, 21614, 30005, 30006)),
    twilio("opted out", RECIPIENT, error(400, 21610), suppress="provider_opt_out"),
    *(twilio(f"code {code}", CONTENT, error(400, code), counts_for_breaker=False)
      for code in (21602, 21617, 30004, 30007)),
    twilio("a code as text", RECIPIENT, error(400, "21211")),
    twilio("a code in no table", DOUBT, error(400, 99999), unknown_code=True, code="99999"),
    twilio("a code that is none", DOUBT, error(400, True), unknown_code=True),
    twilio("400 without a code", DOUBT, reply(400, b"bad request"), unknown_code=True),
    twilio("401 with a code in no table", DOUBT, error(401, 99999), unknown_code=True),
    twilio("307", DOUBT, reply(307, b"", {"location": "https://elsewhere.example/"}), unknown_code=True),
    *(twilio(f"not sent: {reason}", PROVIDER, NotSent(reason), not_begun=True, code=reason, counts_for_breaker=True)
      for reason in ("dns", "refused", "unreachable", "connect_timeout", "tls", "address_not_allowed")),
    *(twilio(f"in doubt: {reason}", DOUBT, InDoubt(reason), not_begun=False, code=reason, counts_for_breaker=True)
      for reason in ("timeout", "disconnected", "garbage", "cut_reply", "reply_too_large")),
    Row("a body too long is not sent", "twilio", CONTENT, TWILIO, {"auth_token": TOKEN}, None, {"not_begun": True},
        OutgoingText("m", 1, "r", TO, "x" * 1601, "GSM-7", 11)),
    Row("a validity below the minimum is not sent", "twilio", LATER, TWILIO, {"auth_token": TOKEN}, None,
        {"not_begun": True}, OutgoingText("m", 1, "r", TO, BODY, "GSM-7", 1, validity_seconds=0)),
    sandbox("accept", ACCEPTED),
    sandbox("rejected_recipient", RECIPIENT),
    sandbox("rejected: content", CONTENT),
    sandbox("rejected_provider", PROVIDER),
    sandbox("rejected_later", LATER),
    sandbox("in_doubt", DOUBT),
]  # fmt: skip


def build(row: Row) -> tuple[ProviderAdapter, ScriptedHttp, MemoryInbox]:
    http, inbox = ScriptedHttp([row.step] if row.step else []), MemoryInbox()

    async def no_receipts(provider_id: str, receipts: list[Receipt]) -> None:
        raise AssertionError("only adapters with a callback URL send receipts")

    parts = AdapterParts(new_http=lambda: http, inbox=inbox, receipt_sink=no_receipts)
    settings = row.settings | ({"receipt": "none"} if row.kind == "sandbox" else {})
    return build_adapter(row.kind, "prv_1", settings, row.credentials, parts), http, inbox


@pytest.mark.parametrize("row", ROWS, ids=str)
async def test_submit(row: Row) -> None:
    adapter, http, inbox = build(row)
    result = await adapter.submit(row.text)
    assert result.outcome is row.outcome
    for name, value in row.also.items():
        assert getattr(result, name) == value, name
    assert len(http.requests) == (row.step is not None), "exactly one request, whatever the reply"
    assert (result.provider_message_id is not None) == (row.outcome is ACCEPTED)
    assert result.is_definite_rejection == (row.outcome in DEFINITE_REJECTIONS)
    said = f"{result.code} {result.detail}"
    assert TO not in said and BODY not in said and TOKEN not in said, "code and detail are for logs"
    if row.kind == "sandbox":
        assert len(inbox.texts) == (row.outcome is ACCEPTED)
    await adapter.close()


@pytest.mark.parametrize("row", [row for row in ROWS if row.outcome is ACCEPTED and row.step], ids=str)
async def test_a_call_that_is_called_off_when_connected_is_no_outcome(row: Row) -> None:
    adapter, http, _ = build(row)
    with pytest.raises(CalledOff):
        await adapter.submit(replace(row.text, may_begin=lambda: False))
    assert len(http.requests) == 1
    await adapter.close()


@pytest.mark.parametrize("kind", sorted({row.kind for row in ROWS}))
def test_every_outcome_has_a_row(kind: str) -> None:
    assert {row.outcome for row in ROWS if row.kind == kind} == set(Outcome)


def test_every_code_of_the_table_has_a_row() -> None:

    assert {str(code) for code in CODES} | {f"http_{status}" for status in HTTP_STATUSES} <= _codes_of_rows()


def _codes_of_rows() -> set[str]:
    codes: set[str] = set()
    for row in ROWS:
        if isinstance(row.step, HttpResponse):
            codes.add(f"http_{row.step.status}")
            try:
                codes.add(str(json.loads(row.step.body)["code"]))
            except (ValueError, KeyError, TypeError):
                continue
    return codes


@pytest.mark.parametrize("row", [row for row in ROWS if row.outcome is ACCEPTED], ids=str)
async def test_the_capabilities_hold(row: Row) -> None:
    """Who claims idempotency keeps one text of two submits; who claims look-up answers look-ups."""
    adapter, _, inbox = build(row)
    if adapter.capabilities.idempotent:
        first, second = await adapter.submit(row.text), await adapter.submit(row.text)
        assert first == second
        assert len(inbox.texts) == 1
    low, high = adapter.capabilities.min_validity_seconds, adapter.capabilities.max_validity_seconds
    assert (low is None) == (high is None)
    await adapter.close()
