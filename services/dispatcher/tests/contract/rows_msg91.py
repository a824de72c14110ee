"""MSG91's rows of the conformance table. Errors mostly come with HTTP 200, and name themselves in any field."""

from __future__ import annotations

import json
from collections.abc import Mapping

from msgspec.structs import replace

from dispatcher.domain.outcomes import Outcome
from dispatcher.http_port import HttpResponse, InDoubt, NotSent
from dispatcher.providers.base import Filled, OutgoingText
from dispatcher.providers.msg91 import CODES, HTTP_STATUSES
from services.dispatcher.tests.contract.conformance import (
    ACCEPTED,
    CONTENT,
    DOUBT,
    LATER,
    PROVIDER,
    TEXT,
    TO,
    TOKEN,
    Row,
    reply,
)  # fmt: skip
from tests.standins.scripted_http import Step

ID = "3763646c3058373530393938"
NAME = f"{ID}:{TO.removeprefix('+')}"
TEMPLATE = replace(TEXT, body="", filled=Filled(template_id="64a1b2", variables=("Ada", "20%")))
TABLE = set(CODES) | {f"http_{status}" for status in HTTP_STATUSES}
UNAUTHORIZED = {"status": "fail", "hasError": True, "errors": "Unauthorized", "code": "401", "apiError": "418"}


def error(said: object, status: int = 200, headers: Mapping[str, str] | None = None, **more: object) -> HttpResponse:
    return reply(status, {"type": "error", "message": said, **more}, headers)


def codes_of(body: bytes) -> set[str]:
    """The codes of the table in a reply."""
    try:
        said = json.loads(body)
        return {str(said.get(name)) for name in ("apiError", "code", "message")}
    except (ValueError, AttributeError):
        return set()


def msg91(name: str, outcome: Outcome, step: Step | None, text: OutgoingText = TEMPLATE, **also: object) -> Row:
    return Row(name, "msg91", outcome, {"sender": "ACMESH"}, {"auth_key": TOKEN}, step, also, text)


ROWS = [
    msg91("success", ACCEPTED, reply(200, {"type": "success", "message": ID}), provider_message_id=NAME),
    msg91("success with 201", ACCEPTED, reply(201, {"type": "success", "message": ID}), provider_message_id=NAME),
    msg91("success without a request id", DOUBT, reply(200, {"type": "success"}), unknown_code=True),
    msg91("success with a message that is none", DOUBT, reply(200, {"type": "success", "message": "sent to you"})),
    msg91("success that says a code", DOUBT, reply(200, {"type": "success", "message": "418"}), unknown_code=True),
    msg91("an id without success", DOUBT, reply(200, {"message": ID}), unknown_code=True),
    msg91("success with 400", DOUBT, reply(400, {"type": "success", "message": ID}), unknown_code=True),
    msg91("200 that is a list", DOUBT, reply(200, [ID])),
    msg91("200 that is HTML", DOUBT, reply(200, b"<html>")),
    msg91("200 that is cut", DOUBT, reply(200, b'{"type": "success", "mess')),
    msg91("204 without a body", DOUBT, reply(204, b"")),
    *(msg91(f"error {code}", outcome, error(code), code=code.replace(" ", "_"), unknown_code=False, suppress=None)
      for code, outcome in CODES.items()),
    msg91("a code as a number", PROVIDER, error("refused", code=418), code="418"),
    msg91("words in capitals", CONTENT, error("Template ID missing."), code="template_id_missing"),
    msg91("words in no table", DOUBT, error(f"no {TO}"), unknown_code=True, code="http_200"),
    msg91("a code in no table", DOUBT, error("999"), unknown_code=True),
    msg91("401 with an address that is not allowed", PROVIDER, reply(401, UNAUTHORIZED), code="418",
          counts_for_breaker=True),
    msg91("the same with HTTP 200", PROVIDER, reply(200, UNAUTHORIZED), code="418"),
    *(msg91(f"HTTP {status} without a body", PROVIDER, reply(status, b""), code=f"http_{status}")
      for status in (401, 403, 404, 418)),
    msg91("400 with a known code", CONTENT, error("310", 400), code="310"),
    msg91("400 in unknown words", DOUBT, error("no", 400), unknown_code=True, code="http_400"),
    msg91("429", LATER, reply(429, b""), retry_after_seconds=None, counts_for_breaker=False),
    msg91("429 with Retry-After", LATER, reply(429, b"", {"retry-after": "7"}), retry_after_seconds=7.0),
    msg91("the same call again", LATER, error("311"), retry_after_seconds=10.0),
    msg91("503 with Retry-After", LATER, reply(503, b"", {"retry-after": "2"}), retry_after_seconds=2.0),
    msg91("503 alone", DOUBT, reply(503, b""), unknown_code=False),
    *(msg91(f"HTTP {status}", DOUBT, reply(status, b"")) for status in (500, 502, 504)),
    *(msg91(f"HTTP {status} whatever its code", DOUBT, error("202", status)) for status in (500, 502, 504)),
    msg91("307", DOUBT, reply(307, b"", {"location": "https://elsewhere.example/"}), unknown_code=True),
    *(msg91(f"not sent: {reason}", PROVIDER, NotSent(reason), not_begun=True, code=reason, counts_for_breaker=True)
      for reason in ("dns", "refused", "unreachable", "connect_timeout", "tls", "address_not_allowed")),
    *(msg91(f"in doubt: {reason}", DOUBT, InDoubt(reason), not_begun=False, code=reason, counts_for_breaker=True)
      for reason in ("timeout", "disconnected", "garbage", "cut_reply", "reply_too_large")),
    msg91("without a template nothing is sent", CONTENT, None, TEXT, not_begun=True, code="template_id_missing"),
    msg91("a pair that would change the number", CONTENT, None,
          replace(TEMPLATE, filled=Filled("64a1b2", message_pairs=(("Mobiles", "15005550001"),))), not_begun=True),
]  # fmt: skip
