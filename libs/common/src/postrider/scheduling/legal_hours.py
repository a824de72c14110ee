"""Which laws say when a promotional text may be sent to whom. The rules are `legal_quiet_hours.json`, with sources.

Who falls under a rule is told by the phone: its country and, in the United States, its area code, as the state laws
themselves presume (Fla. Stat. § 501.059(8)(d), 15 O.S. § 775C.3(D)). Must not ask a campaign: no campaign can opt out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import cache, lru_cache
from importlib import resources
from typing import Any, Final

from dateutil.easter import easter
from phonenumbers.tzdata import TIMEZONE_DATA

from postrider.zones import is_zone, single_zone_of

WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_DAY: Final = timedelta(days=1)
_UNKNOWN_US_ZONES: Final = frozenset({"America/New_York", "America/Los_Angeles"})
"""Of a number that no area code places: both ends of the mainland."""


@dataclass(frozen=True, slots=True, eq=False)
class LegalRule:
    """`allowed`: for each weekday from Monday the local [from, to) in minutes, None when the day is closed.

    `clock`: "recipient", by the person's own zone and by the zones of their area code, or "country", by the country's.
    """

    id: str
    countries: frozenset[str]
    area_codes: frozenset[str]
    clock: str
    allowed: tuple[tuple[int, int] | None, ...]
    holidays: tuple[Mapping[str, Any], ...]
    observed: bool

    def quiet_locals(self, day: date) -> Iterator[tuple[datetime, datetime]]:
        """The stretches of a local day in which nothing may be sent, local and half open."""
        midnight = datetime.combine(day, time.min)
        open_hours = None if self._is_holiday(day) else self.allowed[day.weekday()]
        if open_hours is None:
            yield midnight, midnight + _DAY
            return
        yield midnight, midnight + timedelta(minutes=open_hours[0])
        yield midnight + timedelta(minutes=open_hours[1]), midnight + _DAY

    def _is_holiday(self, day: date) -> bool:
        if not self.holidays:
            return False
        on = _holidays_of(self, day.year)
        if day in on:
            return True
        if not self.observed:
            return False
        # A holiday on a Sunday is kept on Monday, one on a Saturday on Friday, if need be in the year before.
        return (day.weekday() == 0 and day - _DAY in on) or (
            day.weekday() == 4 and day + _DAY in _holidays_of(self, (day + _DAY).year)
        )


@dataclass(frozen=True, slots=True)
class LegalPlace:
    """What holds for a phone: the rules, and the zones whose clocks count beside the person's own. `country_zone`: of
    rules that go by the country's clock."""

    rules: tuple[LegalRule, ...]
    zones: frozenset[str]
    country_zone: str | None

    def clocks(self, rule: LegalRule, own_zone: str | None) -> frozenset[str]:
        """`own_zone` None: by the number alone."""
        if rule.clock == "country" and self.country_zone is not None:
            return frozenset({self.country_zone})
        return self.zones if own_zone is None else self.zones | {own_zone}


NOWHERE: Final = LegalPlace((), frozenset(), None)


def place_of(phone: str, country: str | None) -> LegalPlace:
    """`phone` in E.164, `country` its country, in capitals. Cheap: cached by country and area code."""
    if country is None:
        return NOWHERE
    return _place(country, phone[2:5] if phone.startswith("+1") else "")


@lru_cache(maxsize=4096)
def _place(country: str, area_code: str) -> LegalPlace:
    rules = tuple(
        rule
        for rule in legal_rules()
        if country in rule.countries and (not rule.area_codes or area_code in rule.area_codes)
    )
    if not rules:
        return NOWHERE
    return LegalPlace(rules, _zones_of_area_code(area_code) if area_code else frozenset(), single_zone_of(country))


@cache
def legal_rules() -> tuple[LegalRule, ...]:
    return tuple(_read(rule, document()["holidays"]) for rule in document()["rules"])


@cache
def document() -> dict[str, Any]:
    """The data file as it is, for whoever shows the sources."""
    text = resources.files(__package__).joinpath("legal_quiet_hours.json").read_text(encoding="utf-8")
    read: dict[str, Any] = json.loads(text)
    return read


def _read(rule: Mapping[str, Any], calendars: Mapping[str, list[Mapping[str, Any]]]) -> LegalRule:
    allowed: list[tuple[int, int] | None] = [None] * 7
    for hours in rule["allowed"]:
        for day in hours["days"]:
            allowed[WEEKDAYS.index(day)] = (_minutes(hours["from"]), _minutes(hours["to"]))
    closed = rule.get("closed_on", {"calendars": []})
    return LegalRule(
        id=rule["id"],
        countries=frozenset(rule["countries"]),
        area_codes=frozenset(rule.get("area_codes", ())),
        clock=rule["clock"],
        allowed=tuple(allowed),
        holidays=tuple(holiday for name in closed["calendars"] for holiday in calendars[name]),
        observed=closed.get("observed", False),
    )


def _minutes(text: str) -> int:
    hours, _, minutes = text.partition(":")
    return int(hours) * 60 + int(minutes)


@lru_cache(maxsize=4096)
def _holidays_of(rule: LegalRule, year: int) -> frozenset[date]:
    days = set()
    for holiday in rule.holidays:
        if year % holiday.get("every", 1):
            continue
        if "easter" in holiday:
            days.add(easter(year) + holiday["easter"] * _DAY)
        elif "date" in holiday:
            month, _, day = holiday["date"].partition("-")
            days.add(date(year, int(month), int(day)))
        else:
            days.add(_nth_weekday(year, holiday) + holiday.get("plus", 0) * _DAY)
    return frozenset(days)


def _nth_weekday(year: int, holiday: Mapping[str, Any]) -> date:
    """`nth` -1: the last of the month."""
    weekday, month, nth = WEEKDAYS.index(holiday["weekday"]), int(holiday["month"]), int(holiday["nth"])
    if nth > 0:
        first = date(year, month, 1)
        return first + ((weekday - first.weekday()) % 7 + 7 * (nth - 1)) * _DAY
    last = date(year + month // 12, month % 12 + 1, 1) - _DAY
    return last - ((last.weekday() - weekday) % 7) * _DAY


@cache
def _zones_by_area_code() -> dict[str, frozenset[str]]:
    """All zones that an area code reaches into (an exchange may lie in either), as the phonenumbers package knows."""
    zones: dict[str, set[str]] = {}
    for prefix, names in TIMEZONE_DATA.items():
        if prefix.startswith("1") and len(prefix) >= 4:
            zones.setdefault(prefix[1:4], set()).update(name for name in names if is_zone(name))
    return {area_code: frozenset(names) for area_code, names in zones.items()}


def _zones_of_area_code(area_code: str) -> frozenset[str]:
    return _zones_by_area_code().get(area_code) or _UNKNOWN_US_ZONES
