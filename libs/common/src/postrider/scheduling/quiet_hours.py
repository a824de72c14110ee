"""When a text may not leave: quiet hours of the campaign or the account, and the law's, as stretches of UTC.

Whole UTC weeks are worked out once per zone and rule set and kept: a million people of a run, and the events of live
campaigns, cost a look-up each. Must not know campaigns' states or who a person is: it gets a zone, a phone, a country.

A window is what the clock on the wall says from its start to its end: it begins when the clock first shows (or jumps
over) its start, and ends when the clock last shows (or jumps over) its end. So it never shrinks when clocks change.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Final, Protocol

from postrider.contracts.definitions import QuietHours, QuietWindow
from postrider.contracts.send_jobs import Interval
from postrider.scheduling.legal_hours import NOWHERE, WEEKDAYS, LegalPlace, place_of
from postrider.scheduling.recurrences import read_time
from postrider.scheduling.zone_slots import BUCKET_HOURS
from postrider.zones import is_zone, load_zone

DISCARD, DELAY = "discard", "delay"
PROMOTIONAL = "promotional"
QUIET_HOURS, EXPIRED = "quiet_hours", "expired"
IN_QUIET_HOURS = "in_quiet_hours"
NEVER_ALLOWED = "never_allowed"
CAMPAIGN_ENDED = "campaign_ended"
LONGEST_DELAY: Final = timedelta(days=15)
"""A delay that would be longer waits for nothing that comes back every week."""

_DAY: Final = timedelta(days=1)
_HOUR: Final = timedelta(hours=1)
_SECOND: Final = timedelta(seconds=1)

Stretch = tuple[datetime, datetime]


class QuietRule(Protocol):
    def __hash__(self) -> int: ...

    def quiet_locals(self, day: date) -> Iterator[Stretch]:
        """Quiet stretches that begin on a local day, local and half open; they may end on the next day."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """`due_at`: moved out of quiet hours; `send_by` counts from it. `intervals`: the stretches of [due_at, send_by) in
    which the text may leave; the first begins at `due_at`."""

    due_at: datetime
    send_by: datetime
    intervals: tuple[Interval, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """Not sent: a message status and its reason."""

    status: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """Windows of an account or a campaign: for each weekday from Monday (start, length) in minutes."""

    by_weekday: tuple[tuple[tuple[int, int], ...], ...]

    def quiet_locals(self, day: date) -> Iterator[Stretch]:
        midnight = datetime.combine(day, time.min)
        for start, length in self.by_weekday[day.weekday()]:
            begin = midnight + timedelta(minutes=start)
            yield begin, begin + timedelta(minutes=length)

    def __bool__(self) -> bool:
        return any(self.by_weekday)


def read_windows(windows: list[QuietWindow]) -> Windows:
    """Raises ValueError for a day or time that means nothing. An end that is not after its start is on the next day."""
    key = []
    for window in windows:
        start, end = _minutes(window.start), _minutes(window.end)
        unknown = [day for day in window.days if day not in WEEKDAYS]
        if unknown or not window.days:
            raise ValueError(f"days must name some of {', '.join(WEEKDAYS)}")
        length = end - start if end > start else end - start + 24 * 60
        key += [(WEEKDAYS.index(day), start, length) for day in window.days]
    return _windows(tuple(sorted(set(key))))


class QuietPlan:
    """The quiet hours of one campaign: its own, which replace the account's, and for promotional texts the law's.

    Raises ValueError for windows that mean nothing.
    """

    def __init__(
        self, campaign: QuietHours | None, account: QuietHours, message_class: str, account_zone: str = "UTC"
    ) -> None:
        chosen = account if campaign is None else campaign
        if chosen.on_hit not in (DISCARD, DELAY):
            raise ValueError('on_hit must be "discard" or "delay"')
        self.on_hit = chosen.on_hit
        self._windows = read_windows(chosen.windows)
        self._is_under_law = message_class == PROMOTIONAL
        self._account_zone = account_zone

    def decide(
        self,
        due_at: datetime,
        send_by_after: timedelta,
        zone: str,
        phone: str,
        country: str | None,
        end: datetime | None = None,
        to_bucket: bool = False,
    ) -> Allowed | Refused:
        """When a text that is due may leave. `send_by_after`: how long after its due; `end`: the campaign's, which caps
        it. `to_bucket` (best time): a delay ends where a two-hour bucket of the person's clock begins, if one can.

        A due inside windows with `discard` is `quiet_hours`; the law only ever delays. A zone that is not in the data
        here counts as the account's.
        """
        place = place_of(phone, country) if self._is_under_law else NOWHERE
        clock = zone if is_zone(zone) else self._account_zone
        is_discarding = self.on_hit == DISCARD
        return _decision(self._windows, is_discarding, place, clock, due_at, send_by_after, end, to_bucket)


@lru_cache(maxsize=16_384)
def _decision(
    windows: Windows,
    is_discarding: bool,
    place: LegalPlace,
    zone: str,
    due_at: datetime,
    send_by_after: timedelta,
    end: datetime | None,
    to_bucket: bool,
) -> Allowed | Refused:
    """The same for everybody of a run who shares a zone and a place."""
    own: Rules = ((windows, zone),) if windows else ()
    if is_discarding and _covering(own, due_at) is not None:
        return Refused(QUIET_HOURS, IN_QUIET_HOURS)
    rules = own + _law(place, zone)
    if not rules:
        return _within(due_at, due_at + send_by_after, end, rules)
    if place.zones and _first_allowed(_law(place, zone), due_at) is None:
        # No hour is open on both clocks (Rhode Island's and India's): the number's place is what the law presumes.
        rules = own + _law(place, None)
    moved = _first_allowed(rules, due_at)
    if moved is None:
        return Refused(QUIET_HOURS, NEVER_ALLOWED)
    if moved > due_at and to_bucket:
        moved = _first_bucket(rules, moved, zone) or moved
    return _within(moved, moved + send_by_after, end, rules)


Rules = tuple[tuple[QuietRule, str], ...]
"""With the zone whose clock each goes by."""


def _law(place: LegalPlace, own_zone: str | None) -> Rules:
    return tuple((rule, clock) for rule in place.rules for clock in sorted(place.clocks(rule, own_zone)))


def _within(due_at: datetime, send_by: datetime, end: datetime | None, rules: Rules) -> Allowed | Refused:
    if end is not None:
        send_by = min(send_by, end)
    if send_by <= due_at:
        return Refused(EXPIRED, CAMPAIGN_ENDED)
    intervals, at = [], due_at
    for start, stop in _stretches(rules, due_at, send_by):
        if start > at:
            intervals.append(Interval(at, min(start, send_by)))
        at = stop
    if at < send_by:
        intervals.append(Interval(at, send_by))
    return Allowed(due_at, send_by, tuple(intervals))


def _first_allowed(rules: Rules, at: datetime) -> datetime | None:
    latest = at + LONGEST_DELAY
    while (covering := _covering(rules, at)) is not None:
        at = covering[1]
        if at > latest:
            return None
    return at


def _first_bucket(rules: Rules, at: datetime, zone: str) -> datetime | None:
    """The first beginning of a bucket on the person's clock at which a text may leave, from `at` on."""
    clock = load_zone(zone)
    day = at.astimezone(clock).date()
    for number in range(-1, LONGEST_DELAY // _DAY):
        for hour in range(0, 24, BUCKET_HOURS):
            begin = first_reading(datetime.combine(day + number * _DAY, time(hour)), zone)
            if begin >= at and _covering(rules, begin) is None:
                return begin
    return None


def _covering(rules: Rules, at: datetime) -> Stretch | None:
    """The quiet stretch that `at` lies in."""
    for start, stop in _stretches(rules, at, at + _SECOND):
        if start <= at < stop:
            return start, stop
    return None


def _stretches(rules: Rules, low: datetime, high: datetime) -> Iterator[Stretch]:
    """Quiet stretches of UTC that touch [low, high), ascending, apart within a week."""
    week = _week_of(low)
    while _week_start(week) < high:
        for start, stop in _quiet_week(rules, week):
            if stop > low and start < high:
                yield start, stop
        week += 1


@lru_cache(maxsize=8192)
def _quiet_week(rules: Rules, week: int) -> tuple[Stretch, ...]:
    """All that is quiet in a UTC week for any of the rules, merged, cut at its ends."""
    found = sorted(stretch for rule, zone in rules for stretch in _quiet_week_of(rule, zone, week))
    merged: list[Stretch] = []
    for start, stop in found:
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], stop))
        else:
            merged.append((start, stop))
    return tuple(merged)


@lru_cache(maxsize=8192)
def _quiet_week_of(rule: QuietRule, zone: str, week: int) -> tuple[Stretch, ...]:
    low, high = _week_start(week), _week_start(week + 1)
    first = low.date() - 3 * _DAY
    found = []
    for number in range(13):
        for start, stop in rule.quiet_locals(first + number * _DAY):
            begin, end = max(low, first_reading(start, zone)), min(high, last_reading(stop, zone))
            if begin < end:
                found.append((begin, end))
    return tuple(found)


def first_reading(local: datetime, zone: str) -> datetime:
    """When a clock first shows a local time or, where it jumps over it, when it jumps."""
    before, after = _offsets(local, zone)
    if before >= after:
        return (local - before).replace(tzinfo=UTC)
    return _jump(local, before, after, zone)


def last_reading(local: datetime, zone: str) -> datetime:
    """When a clock shows a local time for the last time or, where it jumps over it, when it jumps."""
    before, after = _offsets(local, zone)
    if before >= after:
        return (local - after).replace(tzinfo=UTC)
    return _jump(local, before, after, zone)


def _offsets(local: datetime, zone: str) -> tuple[timedelta, timedelta]:
    clock = load_zone(zone)
    before = local.replace(tzinfo=clock, fold=0).utcoffset()
    after = local.replace(tzinfo=clock, fold=1).utcoffset()
    assert before is not None
    assert after is not None
    return before, after


def _jump(local: datetime, before: timedelta, after: timedelta, zone: str) -> datetime:
    """The moment at which the clocks jump over `local`, to the second."""
    clock = load_zone(zone)
    low, high = (local - after).replace(tzinfo=UTC), (local - before).replace(tzinfo=UTC)
    while high - low > _SECOND:
        middle = low + timedelta(seconds=(high - low) // timedelta(seconds=2))
        if middle.astimezone(clock).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high


_EPOCH: Final = datetime(1970, 1, 5, tzinfo=UTC)
_WEEK: Final = 7 * _DAY


def _week_of(at: datetime) -> int:
    return (at - _EPOCH) // _WEEK


def _week_start(week: int) -> datetime:
    return _EPOCH + week * _WEEK


def _minutes(text: str) -> int:
    at = read_time(text)
    return at.hour * 60 + at.minute


@lru_cache(maxsize=1024)
def _windows(key: tuple[tuple[int, int, int], ...]) -> Windows:
    """One object for equal windows, so that what was worked out for them is shared."""
    return Windows(
        tuple(tuple((start, length) for day, start, length in key if day == weekday) for weekday in range(7))
    )
