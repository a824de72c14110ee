"""On a date of an event or of a profile: when its timer is due, for which occurrence. Pure.

The date is read as rules read dates (rules.md T20). With a local time it is a day on the recipient's calendar, moved by
the offset, at that time on their clock (gaps, folds and skipped days: semantics.md §4); without one it is a moment,
moved by the offset exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from postrider.rules.dates import Date, DateKind, read_date
from postrider.rules.local_times import instant_of, utc_offset
from postrider.zones import to_instant
from segment_engine.domain.columns import from_microseconds, microseconds
from segment_engine.domain.waits import Carried, Fired, Kept, Occurrence

_NAIVE_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 (a reading of a clock, in no zone)
_FIRST_YEAR, _LAST_YEAR = 1901, 8999
_LOOK_AHEAD_YEARS = 9
"""A 29 February may be eight years away; an offset moves the due date by one more at most."""


@dataclass(frozen=True, slots=True)
class Terms:
    """`zone` is the recipient's."""

    offset: timedelta
    at_local_time: time | None
    yearly: bool
    send_by: timedelta
    zone: str
    account_zone: str


class State(Struct, frozen=True, array_like=True):
    """`name`: the arming event's id, or the attribute. `day`: the occurrence that is armed, and stays so however late
    it fires: the scheduler records what is too late. `last`: of a yearly timer, the one that fired last. `is_over`: it
    fired, or its filter let nobody pass, and no repeat of the date is to ask again."""

    name: str
    text: str
    what_version: int = 0
    values: dict[str, Any] = {}
    day: str = ""
    last: str = ""
    is_over: bool = False


class Planned(NamedTuple):
    due: datetime
    day: str
    """The date as the occurrence names it."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(State)


def armed(name: str, value: object, carried: Carried, now: int, terms: Terms) -> Kept | None:
    """The row that a date makes, as known at `now`. None: it cannot be read, or is past by more than `send_by`."""
    if type(value) is not str or read_date(value) is None:
        return None
    return _next(State(name, value, carried.what_version, dict(carried.values)), now, terms)


def moved(known: bytes, value: object, now: int, terms: Terms) -> Kept | None:
    """The row after the attribute may have changed. What fired for the same date does not fire again."""
    state = _decoder.decode(known)
    if value == state.text:
        return _kept(state, now, terms)
    return armed(state.name, value, Carried(state.what_version, state.values), now, terms)


def replanned(known: bytes, now: int, terms: Terms) -> Kept | None:
    """The row under other terms, of another zone too."""
    return _kept(_decoder.decode(known), now, terms)


def fire(known: bytes, now: int, terms: Terms) -> Fired:
    """What is due now. A yearly timer goes on with the next year, another is kept until no repeat can arm it anew."""
    state = _decoder.decode(known)
    due = _due_of(state, terms)
    if due is None or microseconds(due) > now:
        return Fired([], _kept(state, now, terms))
    carried = Carried(state.what_version, state.values)
    occurrence = Occurrence(f"{state.name}:{state.day}", microseconds(due), carried)
    if not terms.yearly:
        return Fired([occurrence], _over(msgspec.structs.replace(state, values={}, is_over=True), terms))
    return Fired([occurrence], _next(msgspec.structs.replace(state, last=state.day), now, terms))


def plan(state: State, now: int, terms: Terms) -> Planned | None:
    """The next due time that is not past by more than `send_by`."""
    read = read_date(state.text)
    if read is None:
        return None
    earliest = from_microseconds(now) - terms.send_by
    if not terms.yearly:
        due = _due(_reading(read, terms), read, terms)
        return Planned(due, _name(read)) if due is not None and due >= earliest else None
    first = _reading(read, terms)
    if first is None:
        return None
    for year in range(max(first.year, earliest.year - 2), min(earliest.year + _LOOK_AHEAD_YEARS, _LAST_YEAR) + 1):
        reading = _in_year(first, year)
        day = reading.date().isoformat()
        due = _due(reading, None, terms)
        if due is not None and due >= earliest and day > state.last:
            return Planned(due, day)
    return None


def _next(state: State, now: int, terms: Terms) -> Kept | None:
    """The row with the next occurrence armed."""
    planned = plan(state, now, terms)
    if planned is None:
        return None
    return _row(msgspec.structs.replace(state, day=planned.day), planned.due, now)


def _kept(state: State, now: int, terms: Terms) -> Kept | None:
    """The row with the same occurrence armed, or the next one where that has become a day that does not exist."""
    if state.is_over:
        return _over(state, terms)
    due = _due_of(state, terms)
    return _next(state, now, terms) if due is None else _row(state, due, now)


def _over(state: State, terms: Terms) -> Kept | None:
    due = _due_of(state, terms)
    return None if due is None else Kept(None, microseconds(due + terms.send_by), _encoder.encode(state))


def _row(state: State, due: datetime, now: int) -> Kept:
    return Kept(max(microseconds(due), now), None, _encoder.encode(state))


def _due_of(state: State, terms: Terms) -> datetime | None:
    """When the armed occurrence is due by the terms of now."""
    read = read_date(state.text)
    if read is None:
        return None
    reading = _reading(read, terms)
    if not terms.yearly:
        return _due(reading, read, terms)
    if reading is None:
        return None
    return _due(_in_year(reading, int(state.day[:4])), None, terms)


def _in_year(reading: datetime, year: int) -> datetime:
    day = 28 if (reading.month, reading.day) == (2, 29) and not _is_leap(year) else reading.day
    return reading.replace(year=year, day=day)


def _reading(read: Date, terms: Terms) -> datetime | None:
    """The date on the clock that counts: the recipient's when a local time is asked for, else the account's."""
    if read.kind is DateKind.DAY:
        reading = _NAIVE_EPOCH + timedelta(microseconds=read.us)
        return reading if _FIRST_YEAR <= reading.year <= _LAST_YEAR else None
    instant = instant_of(read, terms.account_zone)
    zone = terms.zone if terms.at_local_time is not None else terms.account_zone
    return _local(instant, zone)


def _local(instant: int, zone: str) -> datetime | None:
    try:
        reading = _NAIVE_EPOCH + timedelta(microseconds=instant + utc_offset(instant, zone))
    except OverflowError:
        return None
    return reading if _FIRST_YEAR <= reading.year <= _LAST_YEAR else None


def _due(reading: datetime | None, exact: Date | None, terms: Terms) -> datetime | None:
    """`exact`: the date itself, where no year was put in its place. None: the local day does not exist."""
    if reading is None:
        return None
    if terms.at_local_time is not None:
        return _at_clock(reading + terms.offset, terms.at_local_time, terms.zone)
    if exact is not None:
        moment = from_microseconds(instant_of(exact, terms.account_zone))
    else:
        moment = to_instant(reading, terms.account_zone).at
    return moment + terms.offset


def _at_clock(reading: datetime, clock: time, zone: str) -> datetime | None:
    instant = to_instant(datetime.combine(reading.date(), clock), zone)
    return None if instant.kind == "skipped" else instant.at.astimezone(UTC)


def _is_leap(year: int) -> bool:
    return (date(year, 3, 1) - date(year, 2, 28)).days == 2


def _name(read: Date) -> str:
    """One spelling for one date: equal moments written in two zones are one occurrence."""
    if read.kind is DateKind.DAY:
        return read.text
    reading = (_NAIVE_EPOCH + timedelta(microseconds=read.us)).isoformat()
    return reading + "Z" if read.kind is DateKind.MOMENT else reading
