"""The nominal local times of a recurrence: an RFC 5545 rule of days, times of the day, start, end, short months.

Knows no zones: a nominal time is what a calendar on the wall says, and `occurrences` asks when it happens where.
Never walks without bound: a rule that finds nothing for twelve years has ended (29 February takes eight at worst).

Not on `dateutil.rrule`: a rule that never matches sends it to the year 9999 (`FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30`), and
it has no word for a short month (RFC 7529 SKIP). The tests hold both against each other wherever they mean the same.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from typing import Final

from postrider.contracts.definitions import Recurrence
from postrider.contracts.fields import FIRST_YEAR, LAST_YEAR
from postrider.scheduling.rrule_text import DAILY, MONTHLY, WEEKLY, YEARLY, ByDay, Rule, parse_rule

LAST_DAY, SKIP = "last_day", "skip"
MOST_TIMES: Final = 24
SEARCH_YEARS: Final = 12

_SEARCH_DAYS: Final = SEARCH_YEARS * 366
_DAY: Final = timedelta(days=1)
_END_OF_CALENDAR: Final = datetime(LAST_YEAR, 1, 1)  # noqa: DTZ001 - local
_TIME: Final = re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]")
_LOCAL: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:T[0-9]{2}:[0-9]{2}(?::[0-9]{2})?)?")


class RecurrenceError(ValueError):
    """A recurrence that means nothing. `field` of `Recurrence` says where."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(field, message)  # as they were given, so that it can be pickled
        self.field = field
        self.message = message

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, slots=True)
class Pattern:
    """A recurrence, read. `start` and `end` are local, both may be an occurrence themselves."""

    rule: Rule
    times: tuple[time, ...]
    start: datetime | None
    end: datetime | None
    last_day: bool

    def slots(
        self, anchor: date, low: datetime | None = None, is_passed: Callable[[datetime], bool] | None = None
    ) -> Iterator[datetime]:
        """Nominal local times from `low` on, ascending. Ends by itself, at the latest twelve years after the last one.

        `anchor` is DTSTART: the day of `start`, else that of scheduling. It is an occurrence only when it matches: a
        campaign that recurs on the 7th starts on the next 7th. `is_passed` says which slots were over already when the
        campaign was scheduled: they are left out, and COUNT counts them only where a `start` says from when to count.
        """
        first = datetime.combine(anchor, time.min)
        if self.start is not None:
            first = max(first, self.start)
        left = self.rule.count
        begin = first if low is None or left is not None else max(first, low)
        for slot in self._from(anchor, begin):
            is_asked_for = low is None or slot >= low
            passed = is_passed is not None and (is_asked_for or self.start is None) and is_passed(slot)
            if passed and self.start is None:
                continue
            if left is not None:
                left -= 1
            if is_asked_for and not passed:
                yield slot
            if left == 0:
                return

    def _from(self, anchor: date, begin: datetime) -> Iterator[datetime]:
        last = _END_OF_CALENDAR
        for bound in (self.end, self.rule.until):
            if bound is not None:
                last = min(last, bound)
        for day in _days(self.rule, self.last_day, anchor, begin.date(), last.date()):
            for moment in self.times:
                slot = datetime.combine(day, moment)
                if slot > last:
                    return
                if slot >= begin:
                    yield slot


def read_recurrence(recurrence: Recurrence) -> Pattern:
    """Raises `RecurrenceError`. Whether it ever happens is `require_occurrence`'s question."""
    try:
        rule = parse_rule(recurrence.rule)
    except ValueError as error:
        raise RecurrenceError("rule", str(error)) from error
    start, end = _read_bound("start", recurrence.start), _read_bound("end", recurrence.end)
    if start is not None and end is not None and end < start:
        raise RecurrenceError("end", "is before the start")
    if recurrence.short_month not in (LAST_DAY, SKIP):
        raise RecurrenceError("short_month", 'must be "last_day" or "skip"')
    return Pattern(rule, _read_times(recurrence.times), start, end, recurrence.short_month == LAST_DAY)


def require_occurrence(pattern: Pattern, anchor: date) -> datetime:
    """The first nominal time. Raises `RecurrenceError` when there is none within twelve years."""
    for slot in pattern.slots(anchor):
        return slot
    raise RecurrenceError("rule", f"never happens, not in {SEARCH_YEARS} years from its start and before its end")


def read_time(text: str) -> time:
    """`HH:MM` of a 24-hour clock. Raises ValueError."""
    if not _TIME.fullmatch(text):
        raise ValueError('must be a time such as "09:00"')
    return time.fromisoformat(text)


def _read_times(times: list[str]) -> tuple[time, ...]:
    if not 1 <= len(times) <= MOST_TIMES:
        raise RecurrenceError("times", f"must name from 1 to {MOST_TIMES} times of the day")
    try:
        return tuple(sorted({read_time(text) for text in times}))
    except ValueError as error:
        raise RecurrenceError("times", 'must be times such as "09:00"') from error


def _read_bound(field: str, text: str | None) -> datetime | None:
    """A bare day is its first moment as a start and its last as an end."""
    if text is None:
        return None
    if not _LOCAL.fullmatch(text):
        raise RecurrenceError(field, "must be a local time without offset, such as 2026-12-01T09:00:00")
    try:
        bound = datetime.fromisoformat(text)
    except ValueError as error:
        raise RecurrenceError(field, "is not a day or time of the calendar") from error
    if not FIRST_YEAR <= bound.year < LAST_YEAR:
        raise RecurrenceError(field, f"the year must be between {FIRST_YEAR} and {LAST_YEAR - 1}")
    return datetime.combine(bound, time.max) if field == "end" and "T" not in text else bound


def _days(rule: Rule, last_day: bool, anchor: date, low: date, high: date) -> Iterator[date]:
    """The days of a rule in [max(anchor, low), high], ascending, until none came for twelve years."""
    low = max(anchor, low)
    rule = _with_defaults(rule, anchor)
    found = low.toordinal()
    number = _first_period(rule, anchor, low)
    while True:
        period = _period(rule, anchor, number)
        if period is None or period.first > high or period.first.toordinal() - found > _SEARCH_DAYS:
            return
        for day in _picked(rule, last_day, period):
            if day > high:
                return
            if day >= low:
                found = day.toordinal()
                yield day
        number += 1


def _with_defaults(rule: Rule, anchor: date) -> Rule:
    """What a rule leaves open, its DTSTART says (RFC 5545, 3.3.10)."""
    if rule.freq == DAILY or rule.by_week_no or rule.by_year_day or rule.by_month_day or rule.by_day:
        return rule
    if rule.freq == WEEKLY:
        return replace(rule, by_day=(ByDay(0, anchor.weekday()),))
    by_month = (anchor.month,) if rule.freq == YEARLY and not rule.by_month else rule.by_month
    return replace(rule, by_month=by_month, by_month_day=(anchor.day,))


@dataclass(frozen=True, slots=True)
class _Period:
    """[first, first + days): what FREQ steps through, and out of which BYSETPOS picks."""

    first: date
    days: int


def _first_period(rule: Rule, anchor: date, low: date) -> int:
    """The number of the period, counted in intervals from the anchor's, at or before the one that holds `low`."""
    if rule.freq == DAILY:
        apart = (low - anchor).days
    elif rule.freq == WEEKLY:
        apart = (low - anchor).days // 7
    elif rule.freq == MONTHLY:
        apart = (low.year - anchor.year) * 12 + low.month - anchor.month
    else:
        apart = low.year - anchor.year
    return max(0, apart // rule.interval)


def _period(rule: Rule, anchor: date, number: int) -> _Period | None:
    """None: past the calendar's end."""
    steps = number * rule.interval
    if rule.freq in (DAILY, WEEKLY):
        length = 1 if rule.freq == DAILY else 7
        into_week = 0 if rule.freq == DAILY else (anchor.weekday() - rule.week_start) % 7
        first = anchor.toordinal() - into_week + steps * length
        return _Period(date.fromordinal(first), length) if first < _END_OF_CALENDAR.toordinal() else None
    if rule.freq == MONTHLY:
        year, month = divmod(anchor.year * 12 + anchor.month - 1 + steps, 12)
        if year >= LAST_YEAR:
            return None
        return _Period(date(year, month + 1, 1), calendar.monthrange(year, month + 1)[1])
    year = anchor.year + steps
    if year >= LAST_YEAR:
        return None
    return _Period(date(year, 1, 1), 366 if calendar.isleap(year) else 365)


def _picked(rule: Rule, last_day: bool, period: _Period) -> list[date]:
    days = _candidates(rule, last_day, period)
    if not rule.by_set_pos:
        return days
    positions = {at - 1 if at > 0 else len(days) + at for at in rule.by_set_pos}
    return [day for position, day in enumerate(days) if position in positions]


def _candidates(rule: Rule, last_day: bool, period: _Period) -> list[date]:
    """The days of the period that every BY… part takes, ascending."""
    return [
        day
        for day in _in_months(rule, period)
        if (not rule.by_month_day or _is_month_day(day, rule.by_month_day, last_day))
        and (not rule.by_year_day or _is_year_day(day, rule.by_year_day, last_day))
        and (not rule.by_week_no or _is_week_no(day, rule))
        and (not rule.by_day or _is_by_day(day, rule))
    ]


def _in_months(rule: Rule, period: _Period) -> Iterator[date]:
    """The days in the months of BYMONTH. A year's other months are passed over whole."""
    if rule.freq == YEARLY and rule.by_month:
        for month in rule.by_month:
            length = calendar.monthrange(period.first.year, month)[1]
            yield from (date(period.first.year, month, number) for number in range(1, length + 1))
        return
    if rule.by_month and period.days > 7 and period.first.month not in rule.by_month:
        return
    for number in range(period.days):
        day = period.first + number * _DAY
        if not rule.by_month or day.month in rule.by_month:
            yield day


def _is_month_day(day: date, wanted: tuple[int, ...], last_day: bool) -> bool:
    length = calendar.monthrange(day.year, day.month)[1]
    if day.day in wanted or day.day - length - 1 in wanted:
        return True
    # RFC 7529 SKIP=BACKWARD: what the month is too short for falls on its last day. Counted from the end there is no
    # last day before the first: -31 is skipped in a month of 30.
    return last_day and day.day == length and wanted[-1] > length


def _is_year_day(day: date, wanted: tuple[int, ...], last_day: bool) -> bool:
    length = 366 if calendar.isleap(day.year) else 365
    number = day.timetuple().tm_yday
    if number in wanted or number - length - 1 in wanted:
        return True
    return last_day and number == length and wanted[-1] > length


def _is_week_no(day: date, rule: Rule) -> bool:
    """Weeks begin on `week_start`; the first has at least four days in its year (RFC 5545, ISO 8601)."""
    year = day.year
    for candidate in (year + 1, year, year - 1):
        start = _first_week(candidate, rule.week_start)
        if day >= start:
            number = (day - start).days // 7 + 1
            weeks = (_first_week(candidate + 1, rule.week_start) - start).days // 7
            return number in rule.by_week_no or number - weeks - 1 in rule.by_week_no
    return False


def _first_week(year: int, week_start: int) -> date:
    fourth = date(year, 1, 4)
    return fourth - ((fourth.weekday() - week_start) % 7) * _DAY


def _is_by_day(day: date, rule: Rule) -> bool:
    for wanted in rule.by_day:
        if wanted.weekday != day.weekday():
            continue
        if wanted.ordinal == 0:
            return True
        in_month = rule.freq == MONTHLY or bool(rule.by_month)
        number = day.day if in_month else day.timetuple().tm_yday
        length = calendar.monthrange(day.year, day.month)[1] if in_month else 366 if calendar.isleap(day.year) else 365
        if wanted.ordinal in ((number - 1) // 7 + 1, -((length - number) // 7 + 1)):
            return True
    return False
