"""The generic provider's rows of the conformance table: replies by status, by code, and by what they leave out."""

from __future__ import annotations

import json
from typing import Any

from msgspec.structs import replace

from dispatcher.domain.outcomes import Outcome
from dispatcher.http_port import InDoubt, NotSent
from dispatcher.providers.base import Filled
from dispatcher.providers.generic_reply import STATUSES
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

CODES = {
    "0": "accepted",
    "11": "rejected: recipient",
    "12": "opted_out",
    "21": "rejected_content",
    "31": "rejected_provider",
    "41": "rejected_later",
    "51": "in_doubt",
}
SETTINGS: dict[str, Any] = {
    "url": "https://gw.example/send",
    "json": {"to": "$$To", "text": "$$Body", "ref": "$$MessageID"},
    "headers": {"X-Key": "$$key"},
    "secrets": ["key"],
    "reply": {
        "message_id": ["/data/id", "<id>*</id>"],
        "error_code": ["/error/code", "ERR *;"],
        "codes": CODES,
        "statuses": {"400": "rejected_content", "409": "rejected_recipient"},
    },
}
BARE = {"url": "https://gw.example/send?to=$$To&text=$$Body&key=$$key", "method": "GET", "secrets": ["key"]}
TABLE = {*CODES, *(f"http_{status}" for status in STATUSES)}


def codes_of(body: bytes) -> set[str]:
    try:
        return {str(json.loads(body)["error"]["code"])}
    except (ValueError, KeyError, TypeError):
        return set()


def generic(name: str, outcome: Outcome, step: Step | None, settings: dict[str, Any] = SETTINGS, **also: object) -> Row:
    return Row(name, "generic", outcome, settings, {"secrets": {"key": TOKEN}}, step, also)


def error(status: int, code: object, headers: dict[str, str] | None = None) -> Step:
    return reply(status, {"error": {"code": code, "message": f"no {TO}"}}, headers)


def unfit(name: str, settings: dict[str, Any], code: str, **fields: Any) -> Row:
    text = replace(TEXT, **fields)
    also = {"not_begun": True, "code": code}
    return Row(name, "generic", CONTENT, SETTINGS | settings, {"secrets": {"key": TOKEN}}, None, also, text)


ROWS = [
    generic("200 with an id", ACCEPTED, reply(200, {"data": {"id": "m-1"}}), provider_message_id="m-1"),
    generic("202 with a number as id", ACCEPTED, reply(202, {"data": {"id": 17}}), provider_message_id="17"),
    generic("an id in XML", ACCEPTED, reply(200, b"<r><id> m-2 </id></r>"), provider_message_id="m-2"),
    generic("a code that means accepted", ACCEPTED, reply(200, {"error": {"code": 0}, "data": {"id": "m-3"}}),
            provider_message_id="m-3"),
    generic("without rules of replies, our reference is the id", ACCEPTED, reply(200, b"OK"), BARE,
            provider_message_id=TEXT.reference),
    generic("200 without an id", DOUBT, reply(200, {"data": {}}), unknown_code=True),
    generic("200 with an id that is none", DOUBT, reply(200, {"data": {"id": "a b\n"}}), unknown_code=True),
    generic("200 with a list as id", DOUBT, reply(200, {"data": {"id": ["m-1"]}}), unknown_code=True),
    generic("200 that is HTML", DOUBT, reply(200, b"<html>"), unknown_code=True),
    generic("200 that is cut", DOUBT, reply(200, b'{"data": {"id": "m'), unknown_code=True),
    generic("accepted by code, but HTTP says no", DOUBT, error(400, "0"), unknown_code=True),
    *(generic(f"code {code}", outcome, error(200, code), code=code, unknown_code=False)
      for code, outcome in (("11", RECIPIENT), ("21", CONTENT), ("31", PROVIDER), ("41", LATER), ("51", DOUBT))),
    generic("code 12 opts out", RECIPIENT, error(400, 12), suppress="provider_opt_out"),
    generic("a code in plain text", RECIPIENT, reply(200, b"ERR 11; no"), code="11"),
    generic("a code with HTTP 503", LATER, error(503, "41", {"retry-after": "3"}), retry_after_seconds=3.0),
    generic("a code in no table", DOUBT, error(400, "99"), code="99", unknown_code=True),
    generic("a code that is a sentence", DOUBT, error(400, f"no {TO}"), code="unreadable_code", unknown_code=True),
    generic("429 with a code in no table", LATER, error(429, "99")),
    generic("429", LATER, reply(429, b"", {"retry-after": "7"}), retry_after_seconds=7.0),
    generic("503 with Retry-After", LATER, reply(503, b"", {"retry-after": "2"}), retry_after_seconds=2.0),
    generic("503 alone", DOUBT, reply(503, b""), unknown_code=False),
    *(generic(f"HTTP {status}", PROVIDER, reply(status, b""), counts_for_breaker=True)
      for status in (401, 402, 403, 404, 405)),
    *(generic(f"HTTP {status}", CONTENT, reply(status, b"")) for status in (413, 414, 431)),
    *(generic(f"HTTP {status} whatever its code", DOUBT, error(status, "11")) for status in (500, 502, 504)),
    generic("a status of the configuration", CONTENT, reply(400, b"")),
    generic("another one", RECIPIENT, reply(409, b"")),
    generic("a status nobody knows", DOUBT, reply(418, b""), unknown_code=True),
    generic("307", DOUBT, reply(307, b"", {"location": "https://elsewhere.example/"}), unknown_code=True),
    *(generic(f"not sent: {reason}", PROVIDER, NotSent(reason), not_begun=True, code=reason)
      for reason in ("dns", "refused", "address_not_allowed")),
    *(generic(f"in doubt: {reason}", DOUBT, InDoubt(reason), code=reason) for reason in ("timeout", "cut_reply")),
    unfit("no body", {}, "missing_Body", body=""),
    unfit("no template id", {"headers": {"X-T": "$$TemplateID"}}, "missing_TemplateID"),
    unfit("a predefined pair without value", {"headers": {"X-U": "$$uid"}}, "missing_uid"),
    unfit("a header with a line break", {"headers": {"X-U": "$$uid"}}, "header_value",
          filled=Filled(header_pairs=(("uid", "a\r\nX-Evil: b"),))),
    unfit("a pair over a name of the configuration", {"campaign_pairs": {"message": True}}, "pair_taken",
          filled=Filled(message_pairs=(("to", "+1"),))),
    unfit("a variable with the joiner in it", {"headers": {"X-V": "$$TemplateVariables"}}, "joiner_in_variable",
          filled=Filled(variables=("a|b",))),
    unfit("a step of a path that would climb", {"url": "https://gw.example/a/$$uid/b"}, "path_step",
          filled=Filled(message_pairs=(("uid", ".."),))),
]  # fmt: skip
