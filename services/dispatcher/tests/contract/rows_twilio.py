"""Twilio's rows of the conformance table."""

from __future__ import annotations

import json
from collections.abc import Mapping

from dispatcher.domain.outcomes import Outcome
from dispatcher.http_port import HttpResponse, InDoubt, NotSent
from dispatcher.providers.base import OutgoingText
from dispatcher.providers.twilio import CODES, HTTP_STATUSES
from services.dispatcher.tests.contract.conformance import (
    ACCEPTED,
    BODY,
    CONTENT,
    DOUBT,
    LATER,
    PROVIDER,
    RECIPIENT,
    TO,
    TOKEN,
    Row,
    reply,
)  # fmt: skip
from tests.standins.scripted_http import Step

SID = "SM" + "0123456789abcdef" * 2
TWILIO = {"account_sid": "AC1", "from": "+15005550001"}
TABLE = {str(code) for code in CODES} | {f"http_{status}" for status in HTTP_STATUSES}


def error(status: int, code: object, headers: Mapping[str, str] | None = None) -> HttpResponse:
    return reply(status, {"code": code, "message": f"no {TO}", "status": status}, headers)


def codes_of(body: bytes) -> set[str]:
    """The codes of the table in a reply."""
    try:
        return {str(json.loads(body)["code"])}
    except (ValueError, KeyError, TypeError):
        return set()


def twilio(name: str, outcome: Outcome, step: Step | None, **also: object) -> Row:
    return Row(name, "twilio", outcome, TWILIO, {"auth_token": TOKEN}, step, also)


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
]  # fmt: skip
