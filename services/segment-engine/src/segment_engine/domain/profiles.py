"""What an identify makes of a profile: traits merged, reserved traits understood. Pure; knows no tables.

A bad phone or time zone never refuses anything: the trait is kept as it came and the contact lacks it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from postrider.phones import normalise
from postrider.zones import is_zone, zone_for_profile

_SPELT_CONSENT: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class Contact(NamedTuple):
    """How a person can be reached. `phone` E.164 or None; `country` is the profile's own word, `phone_country` the
    number's; `consent` None: never said."""

    phone: str | None = None
    phone_country: str | None = None
    country: str | None = None
    time_zone: str | None = None
    consent: bool | None = None

    def zone(self, account_zone: str) -> str:
        return zone_for_profile(self.time_zone, self.country, self.phone_country, account_zone)


class Profile(NamedTuple):
    """A person as known now. `version` grows with every change; `deleted`: erased, until something is heard again."""

    user_id: str
    version: int
    traits: Mapping[str, Any]
    contact: Contact
    deleted: bool = False


def merge(kept: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The newest accepted wins, a null deletes (rules.md T3, T31)."""
    merged = dict(kept)
    for name, value in changes.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = value
    return merged


def settle(traits: Mapping[str, Any], default_country: str | None) -> tuple[dict[str, Any], Contact]:
    """Traits as they are kept (a valid phone in E.164) and the contact they tell."""
    kept = dict(traits)
    phone = normalise(kept.get("phone"), default_country)
    if phone.valid:
        kept["phone"] = phone.e164
    zone = kept.get("timezone")
    contact = Contact(
        phone=phone.e164 if phone.valid else None,
        phone_country=phone.country if phone.valid else None,
        country=_country(kept.get("country")),
        time_zone=zone if is_zone(zone) else None,
        consent=_consent(kept.get("sms_consent")),
    )
    return kept, contact


def _country(value: object) -> str | None:
    if isinstance(value, str) and len(value) == 2 and value.isascii() and value.isalpha():
        return value.upper()
    return None


def _consent(value: object) -> bool | None:
    """A "no" spelled as text or number is still a no; what cannot be read counts as never said."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _SPELT_CONSENT.get(value.strip().lower())
    if isinstance(value, int | float) and value in (0, 1):
        return value == 1
    return None
