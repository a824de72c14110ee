"""The parts of the conformance table that rows of every vendor are made of (rows_<kind>.py)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dispatcher.domain.outcomes import Outcome
from dispatcher.http_port import HttpResponse
from dispatcher.providers.base import OutgoingText
from tests.standins.scripted_http import Step

TO, BODY, TOKEN = "+15005550006", "Hi Ada, 20% off today.", "secret-token"
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
ACCEPTED, DOUBT = Outcome.ACCEPTED, Outcome.IN_DOUBT
PROVIDER, LATER = Outcome.REJECTED_PROVIDER, Outcome.REJECTED_LATER
RECIPIENT, CONTENT = Outcome.REJECTED_RECIPIENT, Outcome.REJECTED_CONTENT


def reply(status: int, body: object, headers: Mapping[str, str] | None = None) -> HttpResponse:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HttpResponse(status, headers or {}, raw)


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
