"""Exotel's rows of the conformance table: JSON and XML, codes and bare statuses, texts that fail at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from dispatcher.domain.outcomes import Outcome
from dispatcher.http_port import HttpResponse, InDoubt, NotSent
from dispatcher.providers.exotel import CODES, FAILED, HTTP_STATUSES, OPTED_OUT, ROUTE_ONLY
from dispatcher.providers.exotel_replies import entries_of
from services.dispatcher.tests.contract.conformance import (
    ACCEPTED,
    CONTENT,
    DOUBT,
    LATER,
    PROVIDER,
    RECIPIENT,
    TEXT,
    TO,
    TOKEN,
    Row,
    reply,
)  # fmt: skip
from tests.standins.scripted_http import Step

SID = "0f477d60517e6e6a0f6d9a7e9af8630e"
EXOTEL = {"account_sid": "acme1", "sender_id": "ACMESH", "dlt_entity_id": "1201159141940678598"}
CREDENTIALS = {"api_key": "key", "api_token": TOKEN}
TABLE = set(CODES) | {name for name, outcome in FAILED.items() if outcome} | {f"http_{each}" for each in HTTP_STATUSES}


def message(**more: Any) -> dict[str, Any]:
    """As Exotel writes one, with the number in its national spelling."""
    said = {"Sid": SID, "AccountSid": "acme1", "From": "0XXXXXX4890/ACMESH", "To": "05550006", "DateSent": None}
    return {**said, "Status": "queued", "DetailedStatusCode": 21010, "DetailedStatus": "PENDING_TO_OPERATOR", **more}


def sent(status: int = 200, **more: Any) -> HttpResponse:
    return reply(status, {"SMSMessage": message(**more)})


def error(status: int, code: object = None, headers: Mapping[str, str] | None = None, http: int = 0) -> HttpResponse:
    said = {"Status": status, "Message": f"no {TO}", "Code": code}
    return reply(http or status, {"RestException": said}, headers)


def xml(inner: str) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<TwilioResponse>{inner}</TwilioResponse>'.encode()


def codes_of(body: bytes) -> set[str]:
    """The codes of the table in a reply."""
    return {said for entry in entries_of(body) for said in (entry.code, entry.detailed) if said}


def exotel(name: str, outcome: Outcome, step: Step | None, **also: object) -> Row:
    return Row(name, "exotel", outcome, EXOTEL, CREDENTIALS, step, also)


XML_SENT = xml(
    f"<SMSMessage><Sid>{SID}</Sid><To>05550006</To><DateSent>1970-01-01 05:30:00</DateSent><Price></Price>"
    "<Body>Hi&#xA;&amp; bye</Body><Status>queued</Status><DetailedStatus>PENDING_TO_OPERATOR</DetailedStatus>"
    "</SMSMessage>"
)
XML_ERROR = xml("<RestException><Status>400</Status><Message>no</Message><Code>40203</Code></RestException>")
V2_SENT = {"request_id": "req_1", "http_code": 202, "response": {"sms": [{"Sid": SID, "Status": "queued"}]}}

ROWS = [
    exotel("200 with a Sid", ACCEPTED, sent(), provider_message_id=SID),
    exotel("202 with a Sid", ACCEPTED, sent(202), provider_message_id=SID),
    exotel("XML", ACCEPTED, reply(200, XML_SENT), provider_message_id=SID),
    exotel("the shape of version 2", ACCEPTED, reply(202, V2_SENT), provider_message_id=SID),
    exotel("a status in no table is still accepted", ACCEPTED, sent(DetailedStatus="NEW"), provider_message_id=SID),
    exotel("a failure that may have left is accepted", ACCEPTED, sent(DetailedStatus="FAILED_OPERATOR_ERROR"),
           provider_message_id=SID),
    exotel("200 without a Sid", DOUBT, sent(Sid=None), unknown_code=True),
    exotel("200 with a Sid that is none", DOUBT, sent(Sid="a b\n")),
    exotel("200 with two messages", DOUBT, reply(200, {"SMSMessages": [message(), message()]}), unknown_code=True),
    exotel("200 that is HTML", DOUBT, reply(200, b"<html><body>maintenance</body></html>"), unknown_code=True),
    exotel("200 that is cut", DOUBT, reply(200, b'{"SMSMessage": {"Sid": "0f4')),
    exotel("XML that is cut", DOUBT, reply(200, XML_SENT[:-20])),
    exotel("XML with entities of its own", DOUBT,
           reply(200, b'<!DOCTYPE a [<!ENTITY b "c">]>' + XML_SENT.partition(b"\n")[2])),
    exotel("200 that is not UTF-8", DOUBT, reply(200, b"<\xff>")),
    exotel("204 without a body", DOUBT, reply(204, b"")),
    *(exotel(f"failed at once: {name}", outcome, sent(Status="failed", DetailedStatus=name), code=name,
             suppress="provider_opt_out" if name in OPTED_OUT else None)
      for name, outcome in FAILED.items() if outcome is not None),
    exotel("failed-dnd alone", RECIPIENT, sent(Status="failed-dnd", DetailedStatus=None), suppress="provider_opt_out"),
    *(exotel(f"code {code}", outcome, error(400, code), code=code, route_only=code in ROUTE_ONLY,
             suppress=None, unknown_code=False)
      for code, outcome in CODES.items()),
    exotel("a code as a number", RECIPIENT, error(400, 40203)),
    exotel("XML with a code", RECIPIENT, reply(400, XML_ERROR), code="40203"),
    exotel("an error with HTTP 200", CONTENT, error(400, 40202, http=200), code="40202"),
    exotel("a server's error with HTTP 200", DOUBT, error(500, 35000, http=200)),
    *(exotel(f"HTTP {status} with a code in no table", CONTENT, error(status, "NEW"), code="NEW")
      for status in (400, 404, 405, 409)),
    *(exotel(f"HTTP {status} without a body", CONTENT, reply(status, b""), code=f"http_{status}")
      for status in (400, 404, 405, 409)),
    *(exotel(f"HTTP {status}", PROVIDER, error(status, "NEW"), counts_for_breaker=True, route_only=False)
      for status in (401, 402, 403)),
    exotel("401 without a body", PROVIDER, reply(401, b""), code="http_401"),
    exotel("a country that is not enabled", PROVIDER, error(403, 40003), counts_for_breaker=False),
    exotel("429", LATER, reply(429, b"slow down"), retry_after_seconds=None),
    exotel("429 with Retry-After", LATER, error(429, 40402, {"retry-after": "7"}), retry_after_seconds=7.0),
    exotel("429 of a trial account", PROVIDER, error(429, 40404), retry_after_seconds=None),
    exotel("503 in Exotel's words", LATER, error(503), code="http_503"),
    exotel("503 with the throttle's code", LATER, error(503, 40405), code="40405"),
    exotel("503 with Retry-After", LATER, reply(503, b"", {"retry-after": "2"}), retry_after_seconds=2.0),
    exotel("503 alone", DOUBT, reply(503, b""), unknown_code=False),
    *(exotel(f"HTTP {status}", DOUBT, reply(status, b"")) for status in (500, 502, 504)),
    *(exotel(f"HTTP {status} whatever its code", DOUBT, error(status, 40203)) for status in (500, 502, 504)),
    exotel("307", DOUBT, reply(307, b"", {"location": "https://elsewhere.example/"}), unknown_code=True),
    exotel("418", DOUBT, reply(418, b""), unknown_code=True),
    *(exotel(f"not sent: {reason}", PROVIDER, NotSent(reason), not_begun=True, code=reason, counts_for_breaker=True)
      for reason in ("dns", "refused", "unreachable", "connect_timeout", "tls", "address_not_allowed")),
    *(exotel(f"in doubt: {reason}", DOUBT, InDoubt(reason), not_begun=False, code=reason, counts_for_breaker=True)
      for reason in ("timeout", "disconnected", "garbage", "cut_reply", "reply_too_large")),
    Row("a body too long is not sent", "exotel", CONTENT, EXOTEL, CREDENTIALS, None, {"not_begun": True},
        replace(TEXT, body="x" * 2001)),
    Row("an empty body is not sent", "exotel", CONTENT, EXOTEL, CREDENTIALS, None, {"not_begun": True},
        replace(TEXT, body="")),
]  # fmt: skip
