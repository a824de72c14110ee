"""Spellings of phones to E.164; nothing raises; nothing readable gets into logs."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postrider.phones import Phone, is_country, mask, normalise, phone_hash

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize(
    ("raw", "default", "e164", "country"),
    [
        ("+1 202-555-0143", None, "+12025550143", "US"),
        ("(415) 555-0199", "US", "+14155550199", "US"),
        ("(415) 555-0199", "us", "+14155550199", "US"),
        ("+1 416 555 0123", None, "+14165550123", "CA"),
        ("+1 876 555 0123", None, "+18765550123", "JM"),
        ("+1 555 010 0123", None, "+15550100123", "US"),
        ("+44 7700 900123", None, "+447700900123", "GB"),
        ("07700 900123", "GB", "+447700900123", "GB"),
        ("0044 7700 900123", None, "+447700900123", "GB"),
        ("0044 7700 900123", "US", "+447700900123", "GB"),
        ("098123 45678", "IN", "+919812345678", "IN"),
        ("919812345678", "IN", "+919812345678", "IN"),
        ("919812345678", None, "+919812345678", "IN"),
        (919812345678, "US", "+919812345678", "IN"),
        (4155550199.0, "US", "+14155550199", "US"),
        ("４１５５５５０１９９", "US", "+14155550199", "US"),
        ("+800 1234 5678", None, "+80012345678", None),
    ],
)
def test_spellings(raw: object, default: str | None, e164: str, country: str | None) -> None:
    assert normalise(raw, default) == Phone(e164, country, True)


@pytest.mark.parametrize(
    "raw",
    [None, True, False, 0, -1, 1.5, float("nan"), float("inf"), 10**70, [], {}, "", " ", "abc", "+", "+1", "5550123"],
)
def test_what_is_no_phone_is_not_valid(raw: object) -> None:
    assert normalise(raw, None) == Phone(None, None, False)


@pytest.mark.parametrize(
    "raw",
    ["+1 415 555 01999", "+999 123456789", "+1 415 555 0123 ext. 5", "1" * 10_000, "4155550199", "\x00", "\ud800"],
)
def test_a_spelling_that_leads_nowhere_is_not_valid(raw: object) -> None:
    assert normalise(raw, None) == Phone(None, None, False)


@settings(deadline=None)
@given(JSON, st.none() | st.sampled_from(["US", "IN", "xx", ""]))
def test_no_value_raises_and_valid_means_e164(raw: object, default: str | None) -> None:
    phone = normalise(raw, default)
    assert phone.valid == (phone.e164 is not None)
    if phone.e164 is not None:
        assert normalise(phone.e164, None) == phone


def test_mask_shows_little() -> None:
    assert mask("+12025550142") == "+1******42"
    assert mask(None) == mask("12") == mask("Bob Smith 42") == "******"


def test_hash_depends_on_key_and_number() -> None:
    one = phone_hash("+12025550143", b"key")
    assert len(one) == 64
    assert len({one, phone_hash("+12025550144", b"key"), phone_hash("+12025550143", b"other")}) == 3
    assert one == phone_hash("+12025550143", b"key")


def test_countries() -> None:
    assert is_country("IN")
    assert not any(map(is_country, ["in", "ZZ", "001", "", None, 3]))
