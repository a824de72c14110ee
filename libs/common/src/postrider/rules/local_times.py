"""From clocks to instants: where dates, windows and days of a rule lie on the line of time (rules.md T17 to T23).

The zone data of Python is the only authority: the store gets numbers, never a zone's name, so that a window means the
same in live matching, in the store and in the scheduler. Everything is microseconds; a span is half open: [low, high).
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TypeAlias

from postrider.rules.dates import DAY, Date, DateKind
from postrider.rules.tree import After, Before, DateTest, Last, Next
from postrider.zones import load_zone

INFINITY = 1 << 62
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FIRST = (datetime(1, 1, 3, tzinfo=UTC) - _EPOCH) // _MICROSECOND
_FINAL = (datetime(9999, 12, 29, tzinfo=UTC) - _EPOCH) // _MICROSECOND
_TABLE = tuple((datetime(year, 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND for year in (1900, 2100))
# No zone has ever been further from UTC than this.
_MARGIN = 2 * DAY
_STEP = DAY // 96
_CALM = 2 * _MARGIN

Span: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class StoredDateSpans:
    """Which stored dates have their instant inside a span, for each `DateKind`, as spans of `Date.us`."""

    moments: tuple[Span, ...]
    locals: tuple[Span, ...]
    days: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class OffsetTable:
    """A zone's offsets for look-up by arithmetic. For an instant t:

    bucket = clamp((t − start) div width), i = first[bucket] + number of transitions[first[bucket] + 1 … + most] ≤ t,
    offset = offsets[i] (indices from 0). `transitions[0]` is −infinity; both lists are padded to make i safe.
    """

    start: int
    width: int
    most: int
    first: tuple[int, ...]
    transitions: tuple[int, ...]
    offsets: tuple[int, ...]


def microseconds(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND


def instant_of(date: Date, zone: str) -> int:
    """Its moment; a local time in a gap is moved forward, one that happens twice is the first; a day's first moment."""
    if date.kind is DateKind.MOMENT:
        return date.us
    if date.kind is DateKind.LOCAL:
        return date.us - _local_offset(date.us, zone)
    return _first_moment(date.us // DAY, zone)


def span_of(test: DateTest, now: int, zone: str) -> Span:
    """The instants that a window or a test of a date allows. `now` is the moment of evaluation."""
    if isinstance(test, Last):
        return now - test.duration.us, now + 1
    if isinstance(test, Next):
        return now, now + test.duration.us + 1
    if isinstance(test, Before):
        return -INFINITY, instant_of(test.date, zone)
    if isinstance(test, After):
        return _end_of(test.date, zone), INFINITY
    return instant_of(test.low, zone), _end_of(test.high, zone)


@lru_cache(maxsize=1024)
def stored_date_spans(span: Span, zone: str) -> StoredDateSpans:
    """The inverse of `instant_of` over a span. More than one span of local times only beside a change of the clock."""
    low, high = span
    if low >= high:
        return StoredDateSpans((), (), ())
    days = (_first_day_not_before(low, zone) * DAY, _first_day_not_before(high, zone) * DAY)
    return StoredDateSpans(
        moments=(span,),
        locals=_difference(_locals_before(high, zone), _locals_before(low, zone)),
        days=(days,) if days[0] < days[1] else (),
    )


@lru_cache(maxsize=64)
def offset_table(zone: str) -> OffsetTable:
    """Covers 1900 to 2100; before and after, the first and last offset of that time hold."""
    start, end = _TABLE
    transitions, offsets = [-INFINITY], [_utc_offset(start, zone)]
    for day in range(start, end, DAY):
        while (after := _utc_offset(day + DAY, zone)) != offsets[-1]:
            at = _transition(max(day, transitions[-1]), day + DAY, zone)
            transitions.append(at)
            offsets.append(_utc_offset(at, zone))
            if offsets[-1] == after:
                break
    width = 256 * DAY
    first, most = [], 0
    for bucket in range(start, end, width):
        within = [t for t in transitions if bucket < t < bucket + width]
        most = max(most, len(within))
        first.append(sum(t <= bucket for t in transitions) - 1)
    transitions += [INFINITY] * most
    offsets += [offsets[-1]] * most
    return OffsetTable(start, width, most, tuple(first), tuple(transitions), tuple(offsets))


def utc_offset(instant: int, zone: str) -> int:
    """Microseconds to add to an instant to read the zone's clock."""
    return _utc_offset(instant, zone)


def _utc_offset(instant: int, zone: str) -> int:
    at = _EPOCH + timedelta(microseconds=min(max(instant, _FIRST), _FINAL))
    offset = at.astimezone(load_zone(zone)).utcoffset()
    assert offset is not None
    return offset // _MICROSECOND


def _local_offset(local: int, zone: str, fold: int = 0) -> int:
    reading = _EPOCH + timedelta(microseconds=min(max(local, _FIRST), _FINAL))
    # Fold 0 is the offset before the change, in a gap and in a fold: exactly T21.
    offset = reading.replace(tzinfo=load_zone(zone), fold=fold).utcoffset()
    assert offset is not None
    return offset // _MICROSECOND


def _transition(low: int, high: int, zone: str) -> int:
    """The first instant in (low, high] whose offset differs from the one at `low`; there is one."""
    before = _utc_offset(low, zone)
    while high - low > 1:
        middle = (low + high) // 2
        if _utc_offset(middle, zone) == before:
            low = middle
        else:
            high = middle
    return high


def _first_moment(day: int, zone: str) -> int:
    midnight = day * DAY
    before, after = _local_offset(midnight, zone), _local_offset(midnight, zone, fold=1)
    if after > before and _utc_offset(midnight - after, zone) == before:
        # Midnight is inside a gap: the day begins when the clock jumps, which may be before "midnight, moved".
        return _transition(midnight - after, midnight - before, zone)
    return midnight - before


def _end_of(date: Date, zone: str) -> int:
    if date.kind is DateKind.DAY:
        return _first_moment(date.us // DAY + 1, zone)
    return instant_of(date, zone) + 1


def _steady_offset(instant: int, zone: str) -> int | None:
    """The offset when it is the only one for days before and after the instant; None also where no table tells."""
    if not _TABLE[0] + _CALM <= instant < _TABLE[1] - _CALM:
        return None
    table = offset_table(zone)
    place = bisect_right(table.transitions, instant - _CALM) - 1
    if place + 1 < len(table.transitions) and table.transitions[place + 1] <= instant + _CALM:
        return None
    return table.offsets[place]


def _first_day_not_before(instant: int, zone: str) -> int:
    if abs(instant) >= INFINITY:
        return instant // DAY
    if (offset := _steady_offset(instant, zone)) is not None:
        return -((instant + offset) // -DAY)
    day = (instant - _MARGIN) // DAY
    while _first_moment(day, zone) < instant:
        day += 1
    return day


def _locals_before(instant: int, zone: str) -> list[Span]:
    """The local times whose instant is before `instant`. Moving a gap forward makes that more than one span."""
    if abs(instant) >= INFINITY:
        return [(-INFINITY, instant)] if instant > 0 else []
    if (offset := _steady_offset(instant, zone)) is not None:
        return [(-INFINITY, instant + offset)]
    start, end = instant - _MARGIN, instant + _MARGIN
    spans: list[Span] = [(-INFINITY, start)]
    while start < end:
        offset = _local_offset(start, zone)
        stop = _offset_change(start, end, zone)
        if (high := min(stop, instant + offset)) > start:
            if spans[-1][1] == start:
                spans[-1] = (spans[-1][0], high)
            else:
                spans.append((start, high))
        start = stop
    return spans


def _offset_change(local: int, end: int, zone: str) -> int:
    """The first local time after `local` that has another offset, at most `end`."""
    offset = _local_offset(local, zone)
    low = local
    while low < end and _local_offset(min(low + _STEP, end), zone) == offset:
        low += _STEP
    if low >= end:
        return end
    high = min(low + _STEP, end)
    while high - low > 1:
        middle = (low + high) // 2
        if _local_offset(middle, zone) == offset:
            low = middle
        else:
            high = middle
    return high


def _difference(spans: list[Span], less: list[Span]) -> tuple[Span, ...]:
    for low, high in less:
        left = [(a, min(b, low)) for a, b in spans if a < low]
        right = [(max(a, high), b) for a, b in spans if b > high]
        spans = sorted({span for span in left + right if span[0] < span[1]})
    return tuple(spans)
