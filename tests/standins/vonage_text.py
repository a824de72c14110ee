"""A text at the Vonage stand-in: its line in the log, its parts, its receipts, what makes a send malformed. Pure."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from postrider.sms.encoding import GSM7_BASIC, GSM7_EXTENSION, analyse

_GSM7 = frozenset(GSM7_BASIC + GSM7_EXTENSION)


@dataclass(slots=True)
class Text:
    """An accepted text. `ids` has one for each part that was taken, of `parts` in all."""

    ids: list[str]
    parts: int
    to: str
    sender: str
    body: str
    type: str
    client_ref: str | None
    callback: str | None
    ttl: str | None
    created: float

    def line(self) -> dict[str, Any]:
        """In the words of the Twilio stand-in's lines, so that one checker reads both."""
        return {
            "sid": self.ids[0],
            "ids": self.ids,
            "parts": self.parts,
            "to": self.to,
            "from": self.sender,
            "body": self.body,
            "type": self.type,
            "reference": self.client_ref,
            "status_callback": self.callback,
            "validity": self.ttl,
            "at": self.created,
        }


def as_it_arrives(form: dict[str, str]) -> str:
    """What the phone shows: sent as `text`, a character outside of GSM-7 is a question mark."""
    body = form["text"]
    if form.get("type", "text") == "unicode":
        return body
    return "".join(letter if letter in _GSM7 else "?" for letter in body)


def parts_of(body: str) -> int:
    return analyse(body).parts


def taken(text: Text, count: int) -> dict[str, Any]:
    """The reply, with an element for each part: those beyond `ids` are throttled. Numbers are text, as the vendor's."""
    parts = [
        {
            "to": text.to,
            "message-id": id,
            "status": "0",
            "remaining-balance": "3.14159265",
            "message-price": "0.03330000",
            "network": "12345",
            **({"client-ref": text.client_ref} if text.client_ref else {}),
        }
        for id in text.ids
    ]
    left = [{"status": "1", "error-text": "Throughput Rate Exceeded - please wait"}] * (count - len(parts))
    return {"message-count": str(count), "messages": [*parts, *left]}


def refusal(status: int, why: str) -> dict[str, Any]:
    return {"message-count": "1", "messages": [{"status": str(status), "error-text": why}]}


def receipt(text: Text, id: str, status: str, err_code: str, api_key: str) -> dict[str, str]:
    """A receipt of one part, without a signature."""
    now = time.gmtime()
    return {
        "msisdn": text.to,
        "to": text.sender,
        "network-code": "12345",
        "messageId": id,
        "price": "0.03330000",
        "status": status,
        "scts": time.strftime("%y%m%d%H%M", now),
        "err-code": err_code,
        "api-key": api_key,
        "message-timestamp": time.strftime("%Y-%m-%d %H:%M:%S", now),
        **({"client-ref": text.client_ref} if text.client_ref else {}),
    }


def wrong_with(form: dict[str, str]) -> tuple[int, str] | None:
    """The documented refusals of a malformed send."""
    for name in ("from", "to", "text"):
        if not form.get(name):
            return 2, f"Missing {name} param"
    if not form["to"].isdigit() or not 7 <= len(form["to"]) <= 15:
        return 3, "Invalid value for param to"
    if form.get("type", "text") not in ("text", "unicode"):
        return 3, "Invalid value for param type"
    ttl = form.get("ttl")
    if ttl is not None and not (ttl.isdigit() and 20_000 <= int(ttl) <= 604_800_000):
        return 3, "Invalid value for param ttl"
    if len(form.get("client-ref", "")) > 40:
        return 3, "Invalid value for param client-ref"
    if len(form.get("callback", "")) > 100:
        return 23, "Invalid Callback URL"
    return None
