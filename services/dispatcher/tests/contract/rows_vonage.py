"""Vonage's rows of the conformance table. The vendor answers 200 whatever became of the text, part by part."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dispatcher.domain.outcomes import Outcome
from dispatcher.http_port import InDoubt, NotSent
from dispatcher.providers.base import OutgoingText
from dispatcher.providers.vonage import CODES, HTTP_STATUSES
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

ID = "0A0000000123ABCD1"
VONAGE = {"api_key": "abcd1234", "from": "Acme"}
TABLE = {str(code) for code in CODES} | {f"http_{status}" for status in HTTP_STATUSES}


def part(status: object, id: object = None) -> dict[str, Any]:
    """One element of the reply, as the vendor writes it."""
    if id is None:
        return {"to": TO.removeprefix("+"), "status": status, "error-text": f"no {TO}"}
    balance = {"remaining-balance": "3.14", "message-price": "0.03330000", "network": "12345"}
    return {"to": TO.removeprefix("+"), "message-id": id, "status": status, **balance}


def said(*parts: object, count: object = None, status: int = 200, headers: Mapping[str, str] | None = None) -> Step:
    return reply(status, {"message-count": str(len(parts)) if count is None else count, "messages": parts}, headers)


def codes_of(body: bytes) -> set[str]:
    """The codes of the table in a reply."""
    try:
        return {str(each["status"]) for each in json.loads(body)["messages"]}
    except (ValueError, KeyError, TypeError):
        return set()


def vonage(name: str, outcome: Outcome, step: Step | None, **also: object) -> Row:
    return Row(name, "vonage", outcome, VONAGE, {"api_secret": TOKEN}, step, also)


def code(number: int, outcome: Outcome, **also: object) -> Row:
    return vonage(f"status {number}", outcome, said(part(str(number))), code=str(number), suppress=None, **also)


TAKEN = part("0", ID)
TAKEN_TOO = part("0", ID + "2")

ROWS = [
    vonage("taken", ACCEPTED, said(TAKEN), provider_message_id=ID, code=None, detail=None),
    vonage("taken, numbers as numbers", ACCEPTED, said(part(0, ID), count=1), provider_message_id=ID),
    vonage("taken, without a count", ACCEPTED, reply(200, {"messages": [TAKEN]}), provider_message_id=ID),
    vonage("all parts taken", ACCEPTED, said(TAKEN, TAKEN_TOO), provider_message_id=ID, code=None),
    vonage("some parts taken", ACCEPTED, said(TAKEN, part("1")), provider_message_id=ID, code="1",
           detail="1 of 2 parts accepted"),
    vonage("a later part taken", ACCEPTED, said(part("9"), TAKEN_TOO, part("9")), provider_message_id=ID + "2"),
    vonage("one part taken, another in no table", ACCEPTED, said(part("77"), TAKEN), provider_message_id=ID),
    vonage("taken, the other part without a word", ACCEPTED, said(TAKEN, count="2"), provider_message_id=ID),
    vonage("taken without an id", DOUBT, said(part("0")), unknown_code=True),
    vonage("taken with an empty id", DOUBT, said(part("0", "")), unknown_code=True),
    vonage("taken with an id that is none", DOUBT, said(part("0", "a b\n")), unknown_code=True),
    vonage("taken, the id of the second part only", ACCEPTED, said(part("0"), TAKEN_TOO),
           provider_message_id=ID + "2"),
    *(code(number, LATER, counts_for_breaker=False, retry_after_seconds=None) for number in (1, 10, 13)),
    *(code(number, PROVIDER, route_only=False, counts_for_breaker=True) for number in (4, 8, 9, 11, 14, 32)),
    code(29, PROVIDER, route_only=True, counts_for_breaker=False),
    *(code(number, RECIPIENT, counts_for_breaker=False) for number in (6, 7, 33)),
    *(code(number, CONTENT, counts_for_breaker=False) for number in (2, 3, 12, 15, 22, 23)),
    code(5, DOUBT, unknown_code=False, counts_for_breaker=True),
    vonage("a status in no table", DOUBT, said(part("77")), unknown_code=True, code="77"),
    vonage("a status that is none", DOUBT, said(part("fine")), unknown_code=True, code="no_status"),
    vonage("a status that is true", DOUBT, said(part(True)), unknown_code=True),
    vonage("a part without a status", DOUBT, said({"to": "1"}), unknown_code=True),
    vonage("a part that is no object", DOUBT, said("0"), unknown_code=True),
    vonage("every part throttled", LATER, said(part("1"), part("1")), code="1"),
    vonage("parts refused for different reasons", PROVIDER, said(part("1"), part("9")), code="9"),
    vonage("a number that will never work", RECIPIENT, said(part("1"), part("9"), part("7")), code="7"),
    vonage("one part may have been processed", DOUBT, said(part("1"), part("5")), code="5"),
    vonage("one part in no table", DOUBT, said(part("1"), part("77")), unknown_code=True, code="77"),
    vonage("a part of which nothing is said", DOUBT, said(part("1"), count="2"), unknown_code=True),
    vonage("no parts", DOUBT, said(), unknown_code=True, code="http_200"),
    vonage("200 that is a list", DOUBT, reply(200, [TAKEN]), unknown_code=True),
    vonage("200 that is HTML", DOUBT, reply(200, b"<html>"), unknown_code=True),
    vonage("200 that is cut", DOUBT, reply(200, b'{"message-count": "1", "mess'), unknown_code=True),
    vonage("200 that is not UTF-8", DOUBT, reply(200, b'{"messages": "\xff"}')),
    vonage("messages that are no list", DOUBT, reply(200, {"messages": {"status": "0"}}), unknown_code=True),
    vonage("204 without a body", DOUBT, reply(204, b""), unknown_code=True),
    *(vonage(f"HTTP {status}", PROVIDER, reply(status, b"no"), code=f"http_{status}") for status in (401, 403, 404)),
    vonage("429", LATER, reply(429, b"slow down"), retry_after_seconds=None),
    vonage("429 with Retry-After", LATER, reply(429, b"", {"retry-after": "7"}), retry_after_seconds=7.0),
    vonage("429 with an endless Retry-After", LATER, reply(429, b"", {"retry-after": "9" * 30}),
           retry_after_seconds=3600.0),
    vonage("429 with a Retry-After that is none", LATER, reply(429, b"", {"retry-after": "soon"}),
           retry_after_seconds=None),
    vonage("429 with a status", LATER, said(part("1"), status=429, headers={"retry-after": "2"}), code="1",
           retry_after_seconds=2.0),
    vonage("503 with Retry-After", LATER, reply(503, b"", {"retry-after": "2"}), retry_after_seconds=2.0),
    vonage("503 with a status that says not processed", LATER, said(part("1"), status=503)),
    vonage("503 alone", DOUBT, reply(503, b""), unknown_code=False),
    *(vonage(f"HTTP {status}", DOUBT, reply(status, b""), unknown_code=False) for status in (500, 502, 504)),
    *(vonage(f"HTTP {status} whatever it says", DOUBT, said(part("7"), status=status)) for status in (500, 502, 504)),
    vonage("400", DOUBT, reply(400, b"bad request"), unknown_code=True),
    vonage("307", DOUBT, reply(307, b"", {"location": "https://elsewhere.example/"}), unknown_code=True),
    *(vonage(f"not sent: {reason}", PROVIDER, NotSent(reason), not_begun=True, code=reason, counts_for_breaker=True)
      for reason in ("dns", "refused", "unreachable", "connect_timeout", "tls", "address_not_allowed")),
    *(vonage(f"in doubt: {reason}", DOUBT, InDoubt(reason), not_begun=False, code=reason, counts_for_breaker=True)
      for reason in ("timeout", "disconnected", "garbage", "cut_reply", "reply_too_large")),
    Row("a validity below the minimum is not sent", "vonage", LATER, VONAGE, {"api_secret": TOKEN}, None,
        {"not_begun": True}, OutgoingText("m", 1, "r", TO, BODY, "GSM-7", 1, validity_seconds=19)),
]  # fmt: skip
