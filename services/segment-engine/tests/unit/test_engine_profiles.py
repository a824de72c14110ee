"""Traits merged, reserved traits understood, verdicts given."""

from __future__ import annotations

from typing import Any

import pytest

from segment_engine.domain.profiles import Contact, Profile, merge, settle
from segment_engine.domain.verdicts import judge, judge_member


def test_the_newest_value_wins_and_null_deletes() -> None:
    kept = {"a": 1, "b": "x", "c": [1]}
    assert merge(kept, {"a": None, "b": "y", "d": 10.0}) == {"b": "y", "c": [1], "d": 10.0}
    assert kept == {"a": 1, "b": "x", "c": [1]}
    assert merge({}, {"a": None}) == {}


@pytest.mark.parametrize(
    ("traits", "contact"),
    [
        ({}, Contact()),
        ({"phone": "+1 (555) 200-0001"}, Contact("+15552000001", "US")),
        ({"phone": "98765 43210"}, Contact("+919876543210", "IN")),
        ({"phone": 919876543210}, Contact("+919876543210", "IN")),
        ({"phone": "call me", "timezone": "Mars/Base", "country": "India", "sms_consent": "perhaps"}, Contact()),
        ({"phone": ["+15552000001"], "timezone": 5, "country": 1, "sms_consent": [False]}, Contact()),
        ({"timezone": "Asia/Kolkata", "country": "in"}, Contact(None, None, "IN", "Asia/Kolkata")),
        ({"sms_consent": False}, Contact(consent=False)),
        ({"sms_consent": "No"}, Contact(consent=False)),
        ({"sms_consent": 0}, Contact(consent=False)),
        ({"sms_consent": True}, Contact(consent=True)),
        ({"sms_consent": 0.5}, Contact()),
    ],
)
def test_reserved_traits(traits: dict[str, Any], contact: Contact) -> None:
    assert settle(traits, "IN")[1] == contact


def test_a_valid_phone_is_kept_in_one_spelling_and_a_bad_one_as_it_came() -> None:
    assert settle({"phone": "0091 98765 43210"}, None)[0] == {"phone": "+919876543210"}
    assert settle({"phone": "98765 43210"}, None)[0] == {"phone": "98765 43210"}


def test_zones_fall_back_to_the_phone_then_the_account() -> None:
    assert Contact("+9198", "IN", "US", "Europe/Paris").zone("UTC") == "Europe/Paris"
    assert Contact("+9198", "IN", "FR", None).zone("UTC") == "Asia/Kolkata"
    assert Contact(None, None, "FR", None).zone("UTC") == "Europe/Paris"
    assert Contact("+1555", "US").zone("Asia/Tokyo") == "Asia/Tokyo"


REACHABLE = Contact("+15552000001", "US")


@pytest.mark.parametrize(
    ("contact", "suppression", "require", "verdict"),
    [
        (REACHABLE, None, False, ("", "")),
        (REACHABLE, None, True, ("unreachable", "no_consent")),
        (Contact("+15552000001", consent=True), None, True, ("", "")),
        (Contact("+15552000001", consent=False), "opted_out", False, ("unreachable", "no_consent")),
        (Contact(consent=True), None, False, ("unreachable", "no_valid_phone")),
        (REACHABLE, "blocked", False, ("suppressed", "blocked")),
    ],
)
def test_the_first_reason_counts(
    contact: Contact, suppression: str | None, require: bool, verdict: tuple[str, str]
) -> None:
    assert judge(contact, suppression, require) == verdict


@pytest.mark.parametrize(
    ("at_snapshot", "profile", "suppression", "verdict"),
    [
        ("", Profile("u", 1, {}, REACHABLE), None, ("", "")),
        ("", Profile("u", 1, {}, REACHABLE), "opted_out", ("suppressed", "opted_out")),
        ("", Profile("u", 1, {}, Contact()), None, ("unreachable", "no_valid_phone")),
        ("", Profile("u", 2, {}, REACHABLE, deleted=True), None, ("cancelled", "erased")),
        ("", None, None, ("cancelled", "erased")),
        ("duplicate_phone", Profile("u", 1, {}, REACHABLE), None, ("duplicate_phone", "")),
        ("control:account", Profile("u", 1, {}, REACHABLE), "opted_out", ("control", "account")),
        ("control:campaign", None, None, ("control", "campaign")),
        ("not_in_reach", Profile("u", 1, {}, REACHABLE), None, ("not_in_reach", "")),
        ("unreachable", Profile("u", 1, {}, REACHABLE), None, ("unreachable", "")),
        ("unreachable", Profile("u", 1, {}, Contact()), None, ("unreachable", "no_valid_phone")),
        ("unreachable", None, None, ("unreachable", "")),
    ],
)
def test_what_the_snapshot_found_stands_and_the_reachable_are_looked_at_again(
    at_snapshot: str, profile: Profile | None, suppression: str | None, verdict: tuple[str, str]
) -> None:
    assert judge_member(at_snapshot, profile, suppression, False) == verdict
