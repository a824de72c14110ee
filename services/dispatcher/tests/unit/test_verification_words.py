"""What somebody reads who has just typed an account in wrong."""

from __future__ import annotations

import pytest

from dispatcher.domain.verification import explain


@pytest.mark.parametrize(
    ("kind", "reason", "words"),
    [
        ("twilio", "20003", "refuses the credentials"),
        ("msg91", "207", "refuses the credentials"),
        ("vonage", "http_401", "refuses the credentials"),
        ("vonage", "20003", "code 20003"),
        ("generic", "token_dns", "no token could be had (the host of its address cannot be found"),
        ("generic", "token_http_401", "no token could be had (it refuses the credentials)"),
        ("twilio", "http_502", "HTTP 502"),
        ("twilio", "timeout", "does not answer in time"),
        ("twilio", "address_not_allowed", "POSTRIDER_ALLOWED_PRIVATE_HOSTS"),
    ],
)
def test_reasons_become_words(kind: str, reason: str, words: str) -> None:
    assert words in explain(kind, reason)
