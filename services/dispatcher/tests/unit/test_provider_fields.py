"""Settings and credentials of providers: what the API refuses, with the pointer, and what it completes."""

from __future__ import annotations

from typing import Any

import pytest

from postrider.contracts.provider_fields import (
    check_kept_credentials,
    check_parts_per_second,
    check_provider,
    with_defaults,
)
from postrider.contracts.provider_kinds.sandbox import OUTCOMES
from postrider.contracts.provider_kinds.vonage import SIGNATURE_METHODS

TWILIO: dict[str, Any] = {"account_sid": "AC" + "0" * 32, "from": "+15005550001"}
TOKEN: dict[str, Any] = {"auth_token": "t" * 32}


def pointers(kind: str, settings: dict[str, Any], credentials: dict[str, Any] | None) -> set[str]:
    return {problem.pointer for problem in check_provider(kind, settings, credentials)}


@pytest.mark.parametrize(
    "settings",
    [
        TWILIO,
        {**TWILIO, "from": "12345"},
        {**TWILIO, "from": "ACME Shop"},
        {"account_sid": "AC1", "messaging_service_sid": "MG1"},
        {**TWILIO, "messaging_service_sid": None},
        {**TWILIO, "base_url": "http://127.0.0.1:4010"},
        {**TWILIO, "base_url": "https://proxy.example/twilio/"},
        {**TWILIO, "timeout_seconds": 0.5, "in_doubt_wait_seconds": 0},
    ],
)
def test_good_twilio(settings: dict[str, Any]) -> None:
    assert check_provider("twilio", settings, TOKEN) == []


@pytest.mark.parametrize(
    ("more", "wrong"),
    [
        ({"account_sid": None}, "/settings/account_sid"),
        ({"account_sid": "../evil"}, "/settings/account_sid"),
        ({"account_sid": 7}, "/settings/account_sid"),
        ({"from": None}, "/settings/from"),
        ({"from": "+1500555000x"}, "/settings/from"),
        ({"from": "a\r\nb"}, "/settings/from"),
        ({"messaging_service_sid": "MG1"}, "/settings/messaging_service_sid"),
        ({"base_url": "ftp://x.example"}, "/settings/base_url"),
        ({"base_url": "https://"}, "/settings/base_url"),
        ({"base_url": "https://u:p@x.example"}, "/settings/base_url"),
        ({"base_url": "https://x.example/?a=1"}, "/settings/base_url"),
        ({"base_url": "https://x.example/#a"}, "/settings/base_url"),
        ({"base_url": "https://x.example:99999"}, "/settings/base_url"),
        ({"base_url": "https://x.exa mple"}, "/settings/base_url"),
        ({"base_url": ["https://x.example"]}, "/settings/base_url"),
        ({"timeout_seconds": 0}, "/settings/timeout_seconds"),
        ({"timeout_seconds": -1}, "/settings/timeout_seconds"),
        ({"timeout_seconds": 61}, "/settings/timeout_seconds"),
        ({"timeout_seconds": "10"}, "/settings/timeout_seconds"),
        ({"timeout_seconds": True}, "/settings/timeout_seconds"),
        ({"timeout_seconds": float("nan")}, "/settings/timeout_seconds"),
        ({"timeout_seconds": 10**400}, "/settings/timeout_seconds"),
        ({"in_doubt_wait_seconds": -1}, "/settings/in_doubt_wait_seconds"),
        ({"in_doubt_wait_seconds": 86_401}, "/settings/in_doubt_wait_seconds"),
        ({"latency_ms": 1}, "/settings/latency_ms"),
        ({"a/b~c": 1}, "/settings/a~1b~0c"),
    ],
)
def test_bad_twilio_settings(more: dict[str, Any], wrong: str) -> None:
    assert pointers("twilio", {**TWILIO, **more}, TOKEN) == {wrong}


@pytest.mark.parametrize(
    ("credentials", "wrong"),
    [
        ({}, {"/credentials/auth_token"}),
        ({"auth_token": ""}, {"/credentials/auth_token"}),
        ({"auth_token": "a b"}, {"/credentials/auth_token"}),
        ({"auth_token": "a\n"}, {"/credentials/auth_token"}),
        ({"auth_token": "ok", "api_key": "x"}, {"/credentials/api_key"}),
        (None, set()),
    ],
)
def test_credentials(credentials: dict[str, Any] | None, wrong: set[str]) -> None:
    """None keeps what is stored: credentials are write-only."""
    assert pointers("twilio", TWILIO, credentials) == wrong


def test_a_problem_never_repeats_the_value() -> None:
    """A secret pasted into the wrong field must not come back in an error that ends up in a log."""
    problems = check_provider("twilio", {**TWILIO, "from": "top secret!!"}, {"auth_token": "hush hush"})
    assert problems
    assert not any("secret" in problem.message or "hush" in problem.message for problem in problems)


def test_a_kind_that_is_none() -> None:
    assert pointers("pigeon", {}, {}) == {"/kind"}


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        ({}, set()),
        ({"outcome": "rejected: later", "receipt": "none", "latency_ms": 250}, set()),
        ({"outcome": "maybe"}, {"/settings/outcome"}),
        ({"outcome": ["accept"]}, {"/settings/outcome"}),
        ({"receipt": "lost"}, {"/settings/receipt"}),
        ({"latency_ms": -1}, {"/settings/latency_ms"}),
        ({"latency_ms": 1.5}, {"/settings/latency_ms"}),
        ({"latency_ms": 60_001}, {"/settings/latency_ms"}),
    ],
)
def test_sandbox(settings: dict[str, Any], wrong: set[str]) -> None:
    assert pointers("sandbox", settings, {}) == wrong


@pytest.mark.parametrize("value", [0, -1, "5", True, float("inf"), float("nan"), 10**400])
def test_bad_parts_per_second(value: object) -> None:
    assert [problem.pointer for problem in check_parts_per_second(value)] == ["/parts_per_second"]


@pytest.mark.parametrize("value", [0.1, 1, 100, 2.5])
def test_good_parts_per_second(value: float) -> None:
    assert check_parts_per_second(value) == []
    assert check_provider("sandbox", {}, {}, parts_per_second=value) == []


def test_defaults() -> None:
    complete = with_defaults("twilio", {**TWILIO, "messaging_service_sid": None, "base_url": None})
    assert complete == {
        **TWILIO,
        "base_url": "https://api.twilio.com",
        "timeout_seconds": 10.0,
        "in_doubt_wait_seconds": 120,
        "keyword_replies": "off",
    }
    assert with_defaults("twilio", {**TWILIO, "base_url": "http://a.example/x/"})["base_url"] == "http://a.example/x"


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_spellings_of_the_outcome_table(outcome: str) -> None:
    """providers.md writes `rejected: later`, code writes rejected_later: both mean the row."""
    assert with_defaults("sandbox", {"outcome": outcome})["outcome"] == outcome
    spelled = {"accept": "accepted", "in_doubt": "in doubt"}.get(outcome, outcome.replace("_", ": "))
    assert with_defaults("sandbox", {"outcome": spelled})["outcome"] == outcome
    assert check_provider("sandbox", {"outcome": spelled}, {}) == []


VONAGE: dict[str, Any] = {"api_key": "abcd1234", "from": "Acme"}
SECRETS: dict[str, Any] = {"api_secret": "0123456789abcdef"}
SIGNED: dict[str, Any] = {**SECRETS, "signature_secret": "s3cr3t"}


@pytest.mark.parametrize("sender", ["Acme", "ACME Shop", "+447700900000", "447700900000", "12345"])
def test_good_vonage(sender: str) -> None:
    assert check_provider("vonage", {**VONAGE, "from": sender}, SECRETS) == []
    for method in SIGNATURE_METHODS:
        assert check_provider("vonage", {**VONAGE, "signature_method": method}, SIGNED) == []


@pytest.mark.parametrize(
    ("more", "credentials", "wrong"),
    [
        ({"api_key": None}, SECRETS, "/settings/api_key"),
        ({"api_key": "a/../b"}, SECRETS, "/settings/api_key"),
        ({"from": None}, SECRETS, "/settings/from"),
        ({"from": "a\r\nb"}, SECRETS, "/settings/from"),
        ({"from": "+4477009000001234567"}, SECRETS, "/settings/from"),
        ({"signature_method": "none"}, SIGNED, "/settings/signature_method"),
        ({"signature_method": "SHA256"}, SIGNED, "/settings/signature_method"),
        ({}, {}, "/credentials/api_secret"),
        ({}, {"api_secret": "a b"}, "/credentials/api_secret"),
        # neither means anything without the other
        ({"signature_method": "sha256"}, SECRETS, "/credentials/signature_secret"),
        ({"signature_method": "sha256"}, {**SECRETS, "signature_secret": None}, "/credentials/signature_secret"),
        ({}, SIGNED, "/settings/signature_method"),
    ],
)
def test_bad_vonage(more: dict[str, Any], credentials: dict[str, Any], wrong: str) -> None:
    assert pointers("vonage", {**VONAGE, **more}, credentials) == {wrong}


def test_credentials_that_nobody_here_can_read_are_asked_for_again() -> None:
    """Kept credentials may lack the signature secret, or have one that would be forgotten silently."""
    signed = {**VONAGE, "signature_method": "md5"}
    for before, after in ((VONAGE, signed), (signed, VONAGE), (signed, {**signed, "signature_method": None})):
        assert [each.pointer for each in check_kept_credentials("vonage", before, after)] == [
            "/credentials/signature_secret"
        ]
    assert check_kept_credentials("vonage", signed, {**signed, "signature_method": "sha512"}) == []
    assert check_kept_credentials("vonage", VONAGE, {**VONAGE, "from": "Other"}) == []
    assert check_kept_credentials("twilio", TWILIO, {**TWILIO, "from": "ACME"}) == []


@pytest.mark.parametrize(
    ("kind", "stays", "moves", "credential"),
    [
        ("twilio", {"base_url": "https://api.twilio.com:443/v"}, {"base_url": "https://api.twilio.org"}, "auth_token"),
        ("vonage", {"base_url": "https://rest.nexmo.com/"}, {"base_url": "http://rest.nexmo.com"}, "api_secret"),
        ("msg91", {"base_url": "https://control.msg91.com/x"}, {"base_url": "https://127.0.0.1"}, "auth_key"),
        ("exotel", {"base_url": "https://api.exotel.com"}, {"base_url": "https://a.example"}, "api_token"),
        ("exotel", {"subdomain": "@api.exotel.com"}, {"subdomain": "api.in.exotel.com"}, "api_token"),
    ],
)
def test_credentials_that_would_go_to_another_host_are_asked_for_again(
    kind: str, stays: dict[str, Any], moves: dict[str, Any], credential: str
) -> None:
    """Whoever may edit a provider cannot read its credentials by having them sent to a host of their own."""
    assert check_kept_credentials(kind, {}, stays) == []
    (problem,) = check_kept_credentials(kind, stays, moves)
    assert problem.pointer == f"/credentials/{credential}" and "another host" in problem.message
    assert check_kept_credentials(kind, moves, {}), "the way back asks as well"
