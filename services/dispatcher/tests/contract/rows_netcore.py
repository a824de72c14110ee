"""Netcore's rows of the conformance table. The XML is [K]: see the adapter."""

from __future__ import annotations

import re
from typing import Any

from dispatcher.domain.outcomes import Outcome
from dispatcher.http_port import InDoubt, NotSent
from services.dispatcher.tests.contract.conformance import (
    ACCEPTED,
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

CODES = {"3": "rejected_provider", "7": "rejected_recipient", "8": "opted_out", "9": "rejected_content",
         "10": "rejected_later"}  # fmt: skip
MAPPED: dict[str, Any] = {"feed_id": "390000", "reply": {"codes": CODES}}
TABLE = set(CODES)


def codes_of(body: bytes) -> set[str]:
    return {code.decode() for code in re.findall(rb"<CODE>(.*?)</CODE>", body)}


def netcore(name: str, outcome: Outcome, step: Step | None, settings: dict[str, Any] = MAPPED, **also: object) -> Row:
    return Row(name, "netcore", outcome, settings, {"username": "user", "password": TOKEN}, step, also)


def error(code: str, status: int = 200) -> Step:
    return reply(status, f"<RESULT><ERROR><CODE>{code}</CODE><DESC>no {TO}</DESC></ERROR></RESULT>".encode())


ROWS = [
    netcore("a result", ACCEPTED, reply(200, b'<?xml version="1.0"?><RESULT REQID="88"><MID TID="9"/></RESULT>'),
            provider_message_id="88"),
    netcore("a result with elements", ACCEPTED, reply(200, b"<RESULT><REQID>89</REQID><MID>9</MID></RESULT>"),
            provider_message_id="89"),
    netcore("a result without an id", DOUBT, reply(200, b"<RESULT></RESULT>"), unknown_code=True),
    netcore("HTML", DOUBT, reply(200, b"<html>"), unknown_code=True),
    netcore("code 3", PROVIDER, error("3"), code="3"),
    netcore("code 7", RECIPIENT, error("7"), suppress=None),
    netcore("code 8", RECIPIENT, error("8"), suppress="provider_opt_out"),
    netcore("code 9", CONTENT, error("9")),
    netcore("code 10", LATER, error("10")),
    netcore("a code, none being mapped", DOUBT, error("7"), {"feed_id": "390000"}, code="7", unknown_code=True),
    netcore("HTTP 500 whatever it says", DOUBT, error("7", 500)),
    netcore("HTTP 401", PROVIDER, reply(401, b"")),
    netcore("not sent", PROVIDER, NotSent("refused"), not_begun=True),
    netcore("no reply", DOUBT, InDoubt("timeout"), code="timeout"),
]  # fmt: skip
