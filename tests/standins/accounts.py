"""An account at each stand-in: how the stand-in is started, and what a provider of ours has to be given for it. One
table for fault runs, tests and `make standins`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.standins import generic, netcore

BASE = "{base}"
"""Stands for the stand-in's address."""
TWILIO_SID, TWILIO_TOKEN = "AC" + "0" * 32, "token-of-the-stand-in"
VONAGE_SECRET, VONAGE_SIGNATURE = "secret-of-the-stand-in", "signature-of-the-stand-in"
EXOTEL_KEY, EXOTEL_TOKEN = "key-of-the-stand-in", "exotel-token-of-the-stand-in"
MSG91_KEY = "msg91-key-of-the-stand-in"


@dataclass(frozen=True)
class Account:
    """`module`: of `tests.standins`. `options`: what it needs on its command line to know the account.
    `plays_inbound`: whether a person's text can be played (`POST /_inbound`). `reports`: whether it has receipts.
    """

    module: str
    kind: str
    options: tuple[str, ...]
    settings: Mapping[str, Any]
    credentials: Mapping[str, Any]
    plays_inbound: bool = True
    reports: bool = True
    takes_bodies: bool = True

    def definition(self, name: str, port: int, **settings: Any) -> dict[str, Any]:
        """What `POST /v1/providers` takes for the stand-in on this port."""
        base = f"http://127.0.0.1:{port}"
        given = {"base_url": base, **_at(base, self.settings), **settings}
        return {"name": name, "kind": self.kind, "settings": given, "credentials": dict(self.credentials)}


def _at(base: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _at(base, inner) for name, inner in value.items()}
    return value.replace(BASE, base) if isinstance(value, str) else value


ACCOUNTS: Mapping[str, Account] = {
    "twilio": Account(
        "twilio", "twilio", ("--account-sid", TWILIO_SID, "--auth-token", TWILIO_TOKEN),
        {"account_sid": TWILIO_SID, "from": "+12025550100"}, {"auth_token": TWILIO_TOKEN},
    ),
    "vonage": Account(
        "vonage", "vonage",
        ("--api-key", "abcd1234", "--api-secret", VONAGE_SECRET, "--signature-method", "sha256",
         "--signature-secret", VONAGE_SIGNATURE),
        {"api_key": "abcd1234", "from": "Acme", "signature_method": "sha256"},
        {"api_secret": VONAGE_SECRET, "signature_secret": VONAGE_SIGNATURE},
    ),
    "msg91": Account(
        "msg91", "msg91", ("--auth-key", MSG91_KEY), {"sender": "ACMESH"}, {"auth_key": MSG91_KEY},
        plays_inbound=False, takes_bodies=False,
    ),
    "exotel": Account(
        "exotel", "exotel",
        ("--account-sid", "acme1", "--api-key", EXOTEL_KEY, "--api-token", EXOTEL_TOKEN),
        {"account_sid": "acme1", "sender_id": "ACMESH", "bulk": "json"},
        {"api_key": EXOTEL_KEY, "api_token": EXOTEL_TOKEN},
    ),
    "netcore": Account(
        "netcore", "netcore", (),
        {"feed_id": netcore.FEED, "sender_id": "ACMESH",
         "reply": {"codes": {"7": "rejected_recipient", "3": "rejected_provider"}}},
        {"username": netcore.USERNAME, "password": netcore.PASSWORD},
        plays_inbound=False, reports=False,
    ),
    "generic": Account(
        "generic", "generic", (),
        {
            "url": "/http/send?apikey=$$apikey&to=$$To&text=$$Body&ref=$$MessageID",
            "method": "GET", "secrets": ["apikey"], "receipts": "clevertap",
            "reply": {
                "message_id": "OK: *", "error_code": "ERR *:",
                "codes": {"11": "rejected_recipient", "12": "opted_out", "21": "rejected_content",
                          "401": "rejected_provider"},
            },
        },
        {"secrets": {"apikey": generic.API_KEY}},
    ),
    "generic-batch": Account(
        "generic", "generic", (),
        {
            "url": "/v2/messages",
            "json": {"sender": "ACMESH", "messages": [{"to": "$$To", "text": "$$Body", "ref": "$$MessageID"}]},
            "batch": {"key": "messages", "size": 50},
            "auth": {"type": "oauth2", "token_url": f"{BASE}/oauth/token", "client_id": generic.CLIENT_ID},
            "receipts": "clevertap",
            "reply": {
                "codes": {"0": "accepted", "11": "rejected_recipient", "12": "opted_out", "21": "rejected_content"},
                "records": {"list": "/messages", "match": "reference", "key": "/ref", "message_id": "/id",
                            "error_code": "/code"},
            },
        },
        {"client_secret": generic.CLIENT_SECRET},
    ),
}  # fmt: skip
