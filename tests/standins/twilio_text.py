"""A text at the Twilio stand-in: its line in the log, its Message resource, and what makes a send malformed. Pure."""

from __future__ import annotations

import time
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qs, urlsplit

SENT_AFTER_SECONDS = 1.0


@dataclass(slots=True)
class Text:
    """An accepted text. `status` moves on with the receipts, or by itself after a second when there are none."""

    sid: str
    to: str
    sender: str | None
    service: str | None
    body: str
    status_callback: str | None
    validity: str | None
    created: float
    status: str = "queued"
    error_code: int | None = None
    began: float = 0.0

    def line(self) -> dict[str, Any]:
        query = parse_qs(urlsplit(self.status_callback or "").query)
        return {
            "sid": self.sid,
            "to": self.to,
            "from": self.sender,
            "messaging_service_sid": self.service,
            "body": self.body,
            "status_callback": self.status_callback,
            "reference": query.get("reference", [None])[0],
            "validity": self.validity,
            "at": self.created,
            "began": self.began,
        }

    @classmethod
    def from_line(cls, line: dict[str, Any]) -> Text:
        return cls(
            line["sid"],
            line["to"],
            line["from"],
            line["messaging_service_sid"],
            line["body"],
            line["status_callback"],
            line["validity"],
            line["at"],
            began=line["began"],
        )


def resource(text: Text, account_sid: str) -> dict[str, Any]:
    """A Message resource. While queued there is no date_sent, which is why nobody may filter by it."""
    age = time.time() - text.created
    status = "sent" if text.status == "queued" and age > SENT_AFTER_SECONDS else text.status
    date_created = _date(text.created)
    return {
        "sid": text.sid,
        "account_sid": account_sid,
        "to": text.to,
        "from": text.sender,
        "messaging_service_sid": text.service,
        "body": text.body,
        "status": status,
        "direction": "outbound-api",
        "num_segments": "0" if text.service else "1",
        "error_code": text.error_code,
        "error_message": None,
        "date_created": date_created,
        "date_updated": date_created,
        "date_sent": None if status == "queued" else _date(text.created + SENT_AFTER_SECONDS),
        "uri": f"/2010-04-01/Accounts/{account_sid}/Messages/{text.sid}.json",
    }


def wrong_with(form: dict[str, str]) -> tuple[int, str] | None:
    """The documented refusals of a malformed send."""
    to, body, validity = form.get("To", ""), form.get("Body", ""), form.get("ValidityPeriod")
    if not to.startswith("+") or not to[1:].isdigit() or not 7 <= len(to) <= 16:
        return 21211, "Invalid 'To' Phone Number"
    if not form.get("From") and not form.get("MessagingServiceSid"):
        return 21603, "A 'From' phone number is required"
    if not body:
        return 21602, "Message body is required"
    if len(body) > 1600:
        return 21617, "The concatenated message body exceeds the 1600 character limit"
    if validity is not None and not (validity.isdigit() and 1 <= int(validity) <= 36_000):
        return 21635, "ValidityPeriod is out of range"
    return None


def _date(moment: float) -> str:
    return formatdate(moment).replace("-0000", "+0000")
