"""How a date and a duration are spelled, in rules and in data (rules.md T18, T20), and nothing about zones.

Everything is a number of microseconds, so that no date near year 1 or 9999 overflows and no digit is lost.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 (a reading of a clock, in no zone)
_MICROSECOND = timedelta(microseconds=1)
MINUTE = 60_000_000
DAY = 24 * 60 * MINUTE
MAX_DURATION_DAYS = 10_000_000

_DATE = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:T([0-9]{2}:[0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,9}))?)?(?:(Z)|([+-])([0-9]{2}):([0-9]{2}))?)?"
)
_DURATION = re.compile(
    r"P(?:([0-9]{1,18})W|(?:([0-9]{1,18})D)?(?:T(?=[0-9])(?:([0-9]{1,18})H)?(?:([0-9]{1,18})M)?(?:([0-9]{1,18})S)?)?)"
)


class DateKind(IntEnum):
    """What `Date.us` counts. The numbers are stored in the event store: never change them."""

    MOMENT = 1
    """Microseconds since 1970-01-01T00:00Z."""
    LOCAL = 2
    """Microseconds since 1970-01-01T00:00 on a clock whose zone is the account's."""
    DAY = 3
    """The same, of the day's midnight: the whole day is meant."""


@dataclass(frozen=True, slots=True)
class Date:
    kind: DateKind
    us: int
    text: str


@dataclass(frozen=True, slots=True)
class Duration:
    """Exact: a day is 24 hours, a week 168."""

    us: int
    text: str


def read_date(text: str) -> Date | None:
    """None when the whole text is not YYYY-MM-DD or YYYY-MM-DDThh:mm[:ss[.1-9 digits]][Z|±hh:mm], or cannot exist."""
    match = _DATE.fullmatch(text)
    if match is None:
        return None
    day, clock, seconds, fraction, utc, sign, hours, minutes = match.groups()
    try:
        reading = datetime.fromisoformat(f"{day}T{clock or '00:00'}:{seconds or '00'}")
    except ValueError:
        return None
    us = (reading - _EPOCH) // _MICROSECOND
    if clock is None:
        return Date(DateKind.DAY, us, text)
    if fraction is not None:
        us += int(fraction[:6].ljust(6, "0"))
    if utc is not None:
        return Date(DateKind.MOMENT, us, text)
    if sign is None:
        return Date(DateKind.LOCAL, us, text)
    if int(hours) > 23 or int(minutes) > 59:
        return None
    offset = (int(hours) * 60 + int(minutes)) * MINUTE
    return Date(DateKind.MOMENT, us - offset if sign == "+" else us + offset, text)


def read_duration(text: str) -> Duration | None:
    """None for months, years, fractions, zero, and for more than `MAX_DURATION_DAYS` days."""
    match = _DURATION.fullmatch(text)
    if match is None:
        return None
    weeks, days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    us = ((((weeks * 7 + days) * 24 + hours) * 60 + minutes) * 60 + seconds) * 1_000_000
    return Duration(us, text) if 0 < us <= MAX_DURATION_DAYS * DAY else None
