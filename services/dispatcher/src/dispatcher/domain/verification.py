"""Why a verification failed, in words for whoever typed the account in. Pure; adapters give the reasons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_WORDS: Final[Mapping[str, str]] = {
    "dns": "the host of its address cannot be found: check base_url",
    "refused": "its address refuses connections: check base_url",
    "unreachable": "its address cannot be reached",
    "connect_timeout": "its address does not take connections",
    "tls": "no trustworthy TLS connection: check base_url and the certificate there",
    "address_not_allowed": "its address is private: POSTRIDER_ALLOWED_PRIVATE_HOSTS of the dispatcher opens ranges",
    "invalid_request": "no request can be made of these settings",
    "timeout": "it does not answer in time",
    "disconnected": "it closes the connection without an answer",
    "cut_reply": "its answer breaks off",
    "garbage": "what answers there is not HTTP",
    "reply_too_large": "its answer is too large to be one",
    "broken": "the connection broke",
    "closed": "it was changed at this moment: ask again",
    "failed": "the check itself failed; the dispatcher's log says why",
    "unexpected_reply": "what answers there is not this vendor's API: check base_url",
    "account_not_active": "the account is suspended or closed",
    "sender_not_found": "the account has no such sender",
    "sender_cannot_text": "the sender exists and cannot send SMS",
    "service_not_found": "the account has no such Messaging Service",
    "http_401": "it refuses the credentials",
    "http_403": "it refuses the credentials, or does not allow them this",
    "http_404": "it does not know the account: check its id and base_url",
    "http_418": "it takes no calls from the dispatcher's address: put that on the account's list",
    "http_429": "it is asked too often: try again later",
}
_REFUSED_CREDENTIALS: Final[Mapping[str, frozenset[str]]] = {
    "twilio": frozenset({"20003"}),
    "msg91": frozenset({"201", "207", "301"}),
    "exotel": frozenset({"34010"}),
}
"""Codes of vendors that mean just that, by kind."""
_TOKEN: Final = "token_"


def explain(kind: str, reason: str) -> str:
    """`reason`: an adapter's word, or the vendor's code."""
    if reason.startswith(_TOKEN):
        return f"no token could be had ({explain(kind, reason.removeprefix(_TOKEN))})"
    if reason in _REFUSED_CREDENTIALS.get(kind, frozenset()):
        return f"it refuses the credentials (code {reason})"
    words = _WORDS.get(reason)
    if words is not None:
        return words
    if reason.startswith("http_"):
        return f"it answers with HTTP {reason.removeprefix('http_')}"
    return f"it answers with code {reason}"
