"""Phone numbers: one spelling (E.164), a mask for logs, a keyed hash for suppressions. Never raises on anyone's data.

A number counts as valid when it is E.164-possible: a known calling code and a length that the numbering plan has.
`phonenumbers.is_valid_number` is deliberately not the test: it says no to ranges reserved for fiction and tests
(+1 555 01xx, +44 7700 900xxx) and to ranges opened after the library's release, and a wrong "no" loses a person for
good, while a provider rejects a wrong "yes" for free.
"""

from __future__ import annotations

import hmac
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import phonenumbers
from phonenumbers import PhoneNumber, ValidationResult

_LONGEST_SPELLING: Final = 64
_SHORTEST_BARE_INTERNATIONAL: Final = 11
_NON_GEOGRAPHIC: Final = frozenset({"001", "ZZ"})


@dataclass(frozen=True, slots=True)
class Phone:
    """`e164` and `country` (ISO 3166-1 alpha-2) are None when not known; a phone that is valid always has `e164`."""

    e164: str | None
    country: str | None
    valid: bool


_NO_PHONE: Final = Phone(None, None, False)


def normalise(raw: object, default_country: str | None = None) -> Phone:
    """The phone that `raw`, any JSON value, spells; national spellings are read as numbers of `default_country`.

    Whole numbers are read as their digits; `00` and a missing plus are understood where nothing else fits. A number
    with an extension is not valid: a text cannot reach it. Cached per spelling: this is on the hot path.
    """
    if isinstance(raw, str):
        text = raw
    elif isinstance(raw, int) and not isinstance(raw, bool) and 0 < raw < 10**_LONGEST_SPELLING:
        text = str(raw)
    elif isinstance(raw, float) and math.isfinite(raw) and raw.is_integer() and 0 < raw < 2**53:
        text = str(int(raw))
    else:
        return _NO_PHONE
    if len(text) > _LONGEST_SPELLING:
        return _NO_PHONE
    return _normalise(text, default_country)


def is_country(code: object) -> bool:
    """Whether `code` is an ISO 3166-1 alpha-2 code, in capitals, of a country that has phone numbers."""
    return isinstance(code, str) and code in phonenumbers.SUPPORTED_REGIONS


def mask(phone: str | None) -> str:
    """For logs: `+1******42`. The number of stars says nothing about the length; short or odd values show nothing."""
    if phone is None or len(phone) < 8 or not phone.startswith("+"):
        return "******"
    return f"{phone[:2]}******{phone[-2:]}"


def phone_hash(e164: str, key: bytes) -> str:
    """HMAC-SHA256 in hex: the key of a suppression, which outlives the profile and must not reveal the number."""
    return hmac.digest(key, e164.encode(), "sha256").hex()


@lru_cache(maxsize=1 << 16)
def _normalise(text: str, default_country: str | None) -> Phone:
    spelt = text.strip()
    region = default_country.upper() if default_country else None
    number = _parse(spelt, region if region in phonenumbers.SUPPORTED_REGIONS else None)
    if number is None and spelt.startswith("00"):
        number = _parse("+" + spelt[2:], None)
    if number is None and spelt.isdecimal() and len(spelt) >= _SHORTEST_BARE_INTERNATIONAL:
        # An international number without its plus is a guess, so it must be an assigned one: a mistyped national
        # number must not become a stranger's abroad.
        number = _parse("+" + spelt, None)
        if number is not None and not phonenumbers.is_valid_number(number):
            number = None
    if number is None:
        return _NO_PHONE
    return Phone(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164), _country_of(number), True)


def _parse(spelt: str, region: str | None) -> PhoneNumber | None:
    try:
        number = phonenumbers.parse(spelt, region)
    except phonenumbers.NumberParseException:
        return None
    if number.extension or phonenumbers.is_possible_number_with_reason(number) != ValidationResult.IS_POSSIBLE:
        return None
    return number


def _country_of(number: PhoneNumber) -> str | None:
    """The country by the numbering plan; for a number the plan does not assign, its area code's, then the calling
    code's main country."""
    assert number.country_code is not None
    region = phonenumbers.region_code_for_number(number)
    national = str(number.national_number)
    if region is None and number.country_code == 1 and len(national) == 10:
        # The subscriber part of a fictional number (555-01xx) is unassigned everywhere; its area code still tells
        # the United States from Canada or Jamaica.
        assigned = PhoneNumber(country_code=1, national_number=int(national[:3] + "2345678"))
        region = phonenumbers.region_code_for_number(assigned)
    if region is None:
        region = phonenumbers.region_code_for_country_code(number.country_code)
    return None if region in _NON_GEOGRAPHIC else region
