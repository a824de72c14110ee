"""An RFC 5545 RRULE of days, from its text. Says in plain words what it does not take.

Refused beyond what RFC 5545 forbids: parts below a day (a recurrence has `times`), an UNTIL in UTC (the days are
local), and BYWEEKNO without BYDAY, which libraries read in two ways.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, time
from typing import Final, TypeVar

from postrider.contracts.fields import FIRST_YEAR, LAST_YEAR

DAILY, WEEKLY, MONTHLY, YEARLY = "DAILY", "WEEKLY", "MONTHLY", "YEARLY"
WEEKDAYS: Final = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")

MOST_COUNTED: Final = 10_000
"""What COUNT counts is walked through from its start, each time somebody asks what is next."""

_LONGEST: Final = 500
_LAST_MOMENT: Final = time(23, 59, 59, 999999)
_LIST: Final = re.compile(r"[+-]?[0-9]{1,3}(?:,[+-]?[0-9]{1,3}){0,365}")
_DAYS: Final = re.compile(r"(?:[+-]?[0-9]{1,2})?(?:MO|TU|WE|TH|FR|SA|SU)")
_NUMBER: Final = re.compile(r"[0-9]{1,9}")
_UNTIL: Final = re.compile(r"[0-9]{8}(?:T[0-9]{6})?")
T = TypeVar("T")
_TIME_PARTS: Final = frozenset({"BYHOUR", "BYMINUTE", "BYSECOND"})


@dataclass(frozen=True, slots=True)
class ByDay:
    """`ordinal` 0: every such weekday of the period, else the n-th of it, from the end when negative."""

    ordinal: int
    weekday: int


@dataclass(frozen=True, slots=True)
class Rule:
    """`until` is local: the last moment that may be. `week_start`: 0 is Monday. Empty tuples: no such part."""

    freq: str
    interval: int = 1
    count: int | None = None
    until: datetime | None = None
    week_start: int = 0
    by_month: tuple[int, ...] = ()
    by_week_no: tuple[int, ...] = ()
    by_year_day: tuple[int, ...] = ()
    by_month_day: tuple[int, ...] = ()
    by_day: tuple[ByDay, ...] = ()
    by_set_pos: tuple[int, ...] = ()


def parse_rule(text: str) -> Rule:
    """`FREQ=MONTHLY;BYDAY=-1FR`, with or without `RRULE:` before it, in any case. Raises ValueError with the reason."""
    parts = _split(text)
    freq = parts.pop("FREQ", "")
    if freq not in (DAILY, WEEKLY, MONTHLY, YEARLY):
        raise ValueError("FREQ must be DAILY, WEEKLY, MONTHLY or YEARLY; the times of the day go into `times`")
    rule = Rule(
        freq=freq,
        interval=_number("INTERVAL", parts.pop("INTERVAL", "1")),
        count=_optional(parts, "COUNT", _count),
        until=_optional(parts, "UNTIL", _until),
        week_start=WEEKDAYS.index(_weekday(parts.pop("WKST", "MO"))),
        by_month=_numbers(parts, "BYMONTH", 1, 12, negative=False),
        by_week_no=_numbers(parts, "BYWEEKNO", 1, 53),
        by_year_day=_numbers(parts, "BYYEARDAY", 1, 366),
        by_month_day=_numbers(parts, "BYMONTHDAY", 1, 31),
        by_day=_by_day(parts.pop("BYDAY", None)),
        by_set_pos=_numbers(parts, "BYSETPOS", 1, 366),
    )
    for name in parts:
        if name in _TIME_PARTS:
            raise ValueError(f"{name} is not taken: say the moments of the day in `times`")
        raise ValueError(f"{name[:20]!r} is no part of a rule that is known here")
    _check_parts_together(rule)
    return rule


def _split(text: str) -> dict[str, str]:
    if len(text) > _LONGEST:
        raise ValueError(f"a rule has at most {_LONGEST} characters")
    text = text.strip().upper().removeprefix("RRULE:")
    parts: dict[str, str] = {}
    for part in text.removesuffix(";").split(";"):
        name, equals, value = part.partition("=")
        if not equals or not value:
            raise ValueError(f"{part[:40]!r} is not NAME=value")
        if name == "DTSTART":
            raise ValueError("DTSTART is not taken: say it in `start`")
        if name in parts:
            raise ValueError(f"{name[:20]} is given twice")
        parts[name] = value
    return parts


def _check_parts_together(rule: Rule) -> None:
    if rule.count is not None and rule.until is not None:
        raise ValueError("COUNT and UNTIL exclude each other")
    if rule.by_week_no and rule.freq != YEARLY:
        raise ValueError("BYWEEKNO goes with FREQ=YEARLY only")
    if rule.by_week_no and not rule.by_day:
        raise ValueError("BYWEEKNO needs BYDAY: a week has seven days")
    if rule.by_year_day and rule.freq != YEARLY:
        raise ValueError("BYYEARDAY goes with FREQ=YEARLY only")
    if rule.by_month_day and rule.freq == WEEKLY:
        raise ValueError("BYMONTHDAY does not go with FREQ=WEEKLY")
    ordinals = [abs(day.ordinal) for day in rule.by_day if day.ordinal]
    if ordinals and (rule.freq not in (MONTHLY, YEARLY) or rule.by_week_no):
        raise ValueError("a number before a weekday goes with FREQ=MONTHLY or YEARLY, without BYWEEKNO")
    if ordinals and max(ordinals) > (53 if rule.freq == YEARLY and not rule.by_month else 5):
        raise ValueError("no month has a sixth of a weekday, no year a 54th")
    others = rule.by_month, rule.by_week_no, rule.by_year_day, rule.by_month_day, rule.by_day
    if rule.by_set_pos and not any(others):
        raise ValueError("BYSETPOS needs another BY… part to pick from")


def _optional(parts: dict[str, str], name: str, read: Callable[[str, str], T]) -> T | None:
    value = parts.pop(name, None)
    return None if value is None else read(name, value)


def _number(name: str, value: str) -> int:
    if not _NUMBER.fullmatch(value) or int(value) < 1:
        raise ValueError(f"{name} must be a whole number from 1 on, of at most nine digits")
    return int(value)


def _count(name: str, value: str) -> int:
    count = _number(name, value)
    if count > MOST_COUNTED:
        raise ValueError(f"{name} can be {MOST_COUNTED} at most: say `end` instead")
    return count


def _numbers(parts: dict[str, str], name: str, low: int, high: int, *, negative: bool = True) -> tuple[int, ...]:
    value = parts.pop(name, None)
    if value is None:
        return ()
    numbers = [int(number) for number in value.split(",")] if _LIST.fullmatch(value) else [0]
    if any(not low <= abs(number) <= high or (number < 0 and not negative) for number in numbers):
        raise ValueError(f"{name} must list numbers from {low} to {high}" + (", or negative ones" if negative else ""))
    return tuple(sorted(set(numbers)))


def _by_day(value: str | None) -> tuple[ByDay, ...]:
    if value is None:
        return ()
    days = value.split(",")
    if not all(_DAYS.fullmatch(day) for day in days):
        raise ValueError("BYDAY must list weekdays (MO, TU, WE, TH, FR, SA, SU), with or without a number before them")
    if any(day[:-2] and int(day[:-2]) == 0 for day in days):
        raise ValueError("the number before a weekday of BYDAY cannot be 0")
    found = {ByDay(int(day[:-2] or 0), WEEKDAYS.index(day[-2:])) for day in days}
    return tuple(sorted(found, key=lambda day: (day.ordinal, day.weekday)))


def _weekday(value: str) -> str:
    if value not in WEEKDAYS:
        raise ValueError("WKST must be one of MO, TU, WE, TH, FR, SA, SU")
    return value


def _until(name: str, value: str) -> datetime:
    if value.endswith("Z"):
        raise ValueError(f"{name} in UTC (with a Z) is not taken: the days are local; say it without Z, or say `end`")
    if not _UNTIL.fullmatch(value):
        raise ValueError(f"{name} must be a local day or time such as 20261231 or 20261231T180000")
    try:
        day = datetime.strptime(value[:8], "%Y%m%d").date()  # noqa: DTZ007 - local
        at = datetime.strptime(value[9:], "%H%M%S").time() if len(value) > 8 else _LAST_MOMENT  # noqa: DTZ007
    except ValueError as error:
        raise ValueError(f"{name} is not a day or time of the calendar") from error
    if not FIRST_YEAR <= day.year < LAST_YEAR:
        raise ValueError(f"the year of {name} must be between {FIRST_YEAR} and {LAST_YEAR - 1}")
    return datetime.combine(day, at)
