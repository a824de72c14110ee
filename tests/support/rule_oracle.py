"""What a rule means, a second time: slow plain Python over lists, written from rules.md alone.

Reads the JSON of a rule, not our tree, and shares no code with what it checks. It expects a rule that is valid.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from postrider.zones import load_zone

DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d)(:\d\d)?(\.\d{1,9})?(Z|[+-]\d\d:\d\d)?", re.ASCII)
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True)
class Happened:
    event: str
    at: datetime
    message_id: str
    properties: dict[str, Any]


@dataclass(frozen=True)
class Told:
    """What was told of a text, and when: the same may be told again, and earlier news may come later."""

    campaign_id: str
    message_id: str
    status: str
    at: datetime


@dataclass(frozen=True)
class Person:
    """`lists`: ids of the user lists that have the person."""

    traits: dict[str, Any]
    history: list[Happened] = field(default_factory=list)
    texts: list[Told] = field(default_factory=list)
    lists: frozenset[str] = frozenset()


def qualifies(
    rule: dict[str, Any], person: Person, now: datetime, zone: str, segments: dict[str, dict[str, Any]] | None = None
) -> bool:
    """`segments`: the saved ones, id → rule."""
    ((kind, body),) = rule.items()
    if kind == "all":
        return all(qualifies(inner, person, now, zone, segments) for inner in body)
    if kind == "any":
        return any(qualifies(inner, person, now, zone, segments) for inner in body)
    if kind == "not":
        return not qualifies(body, person, now, zone, segments)
    if kind == "in_segment":
        assert segments is not None
        return qualifies(segments[body], person, now, zone, segments)
    if kind == "user_list":
        return body in person.lists
    if kind == "messaged":
        return _messaged(body, person, now, zone)
    if kind == "attribute":
        return holds(body["op"], body.get("value"), person.traits.get(body["name"]), now, zone)
    assert kind == "did"
    return _did(body, person, now, zone)


def _messaged(body: dict[str, Any], person: Person, now: datetime, zone: str) -> bool:
    """One text of the campaign came so far, and when it first did is inside the window."""
    reached = {
        "accepted": ["awaiting_receipt", "sent", "delivered", "undelivered"],
        "delivered": ["delivered"],
        "clicked": [],
        "converted": [],
    }[body["status"]]
    first: dict[str, datetime] = {}
    for told in person.texts:
        if told.campaign_id == body["campaign_id"] and told.status in reached:
            first[told.message_id] = min(told.at, first.get(told.message_id, told.at))
    return any("window" not in body or _inside(body["window"], at, now, zone) for at in first.values())


def where_holds(where: list[dict[str, Any]], properties: dict[str, Any], now: datetime, zone: str) -> bool:
    return all(holds(f["op"], f.get("value"), properties.get(f["property"]), now, zone) for f in where)


def holds(op: str, value: Any, stored: Any, now: datetime, zone: str) -> bool:
    """T3 to T15, T19 to T21."""
    negatives = {"ne": "eq", "not_in": "in", "not_contains": "contains", "not_exists": "exists"}
    if op in negatives:
        return not holds(negatives[op], value, stored, now, zone)
    if stored is None:
        return False
    if op == "exists":
        return True
    if op == "contains":
        items = value if isinstance(value, list) else [value]
        if isinstance(stored, str):
            return all(isinstance(item, str) and item in stored for item in items)
        if isinstance(stored, list):
            return all(any(_same(item, element) for element in stored) for item in items)
        return False
    elements = stored if isinstance(stored, list) else [stored]
    return any(_element_holds(op, value, element, now, zone) for element in elements)


def _element_holds(op: str, value: Any, stored: Any, now: datetime, zone: str) -> bool:
    if op == "eq":
        return _same(value, stored)
    if op == "in":
        return any(_same(item, stored) for item in value)
    if op == "starts_with":
        return isinstance(stored, str) and stored[: len(value)] == value
    if op in ("before", "after", "within") or (op == "between" and isinstance(value[0], str)):
        moment = _stored_moment(stored, zone)
        window = value if op == "within" else {op: value}
        return moment is not None and _inside(window, moment, now, zone)
    number = _double(stored)
    return number is not None and _compare(op, number, value)


def _same(value: Any, stored: Any) -> bool:
    if isinstance(value, bool) or isinstance(stored, bool):
        return isinstance(value, bool) and isinstance(stored, bool) and value == stored
    if isinstance(value, str) or isinstance(stored, str):
        return isinstance(value, str) and isinstance(stored, str) and value == stored
    return _double(value) is not None and _double(value) == _double(stored)


def _double(stored: Any) -> float | None:
    """T7; what no double can hold is a number that compares with nothing."""
    if isinstance(stored, bool) or not isinstance(stored, int | float):
        return None
    try:
        return float(stored)
    except OverflowError:
        return None


def _compare(op: str, x: float, value: Any) -> bool:
    if op == "between":
        return float(value[0]) <= x <= float(value[1])
    y = float(value)
    return {"eq": x == y, "ne": x != y, "lt": x < y, "lte": x <= y, "gt": x > y, "gte": x >= y}[op]


def _compare_about(op: str, x: float, value: Any) -> bool:
    """T26."""
    if op == "between":
        return _compare_about("gte", x, value[0]) and _compare_about("lte", x, value[1])
    y = float(value)
    equal = abs(x - y) <= 1e-9 * max(1.0, abs(y))
    if op in ("eq", "ne"):
        return equal == (op == "eq")
    if equal:
        return op in ("lte", "gte")
    return x < y if op in ("lt", "lte") else x > y


def _did(body: dict[str, Any], person: Person, now: datetime, zone: str) -> bool:
    """T16: event and where, first or last, times, count, aggregate."""
    events = [
        e
        for e in person.history
        if e.event == body["event"] and where_holds(body.get("where", []), e.properties, now, zone)
    ]
    events.sort(key=lambda e: (e.at, e.message_id.encode()))
    if body.get("first_time"):
        events = events[:1]
    if body.get("last_time"):
        events = events[-1:]
    if "window" in body:
        events = [e for e in events if _inside(body["window"], e.at, now, zone)]
    if "time_of_day" in body:
        start, end = body["time_of_day"]
        events = [e for e in events if _clock_between(e.at.astimezone(load_zone(zone)).strftime("%H:%M"), start, end)]
    if "days_of_week" in body:
        events = [e for e in events if DAYS[e.at.astimezone(load_zone(zone)).weekday()] in body["days_of_week"]]
    count = body.get("count", {"op": "gte", "value": 1})
    if not _compare(count["op"], float(len(events)), count["value"]):
        return False
    if "aggregate" not in body:
        return True
    aggregate = body["aggregate"]
    stored = [e.properties.get(aggregate["property"]) for e in events]
    numbers = [number for number in map(_double, stored) if number is not None]
    if not numbers:
        return False
    functions: dict[str, Callable[[list[float]], float]] = {
        "sum": math.fsum,
        "avg": lambda xs: math.fsum(xs) / len(xs),
        "min": min,
        "max": max,
    }
    compare = _compare_about if aggregate["fn"] in ("sum", "avg") else _compare
    return compare(aggregate["op"], functions[aggregate["fn"]](numbers), aggregate["value"])


def _clock_between(clock: str, start: str, end: str) -> bool:
    return start <= clock < end if start < end else clock >= start or clock < end


def _inside(window: dict[str, Any], moment: datetime, now: datetime, zone: str) -> bool:
    ((kind, value),) = window.items()
    if kind == "last":
        return now - _duration(value) <= moment <= now
    if kind == "next":
        return now <= moment <= now + _duration(value)
    if kind == "before":
        return moment < _bounds(value, zone)[0]
    if kind == "after":
        return moment > _bounds(value, zone)[1]
    return _bounds(value[0], zone)[0] <= moment <= _bounds(value[1], zone)[1]


def _duration(text: str) -> timedelta:
    names = {"W": "weeks", "D": "days", "H": "hours", "M": "minutes", "S": "seconds"}
    return timedelta(**{names[unit]: int(n) for n, unit in re.findall(r"(\d+)([WDHMS])", text)})


def _bounds(text: str, zone: str) -> tuple[datetime, datetime]:
    """First and last microsecond of what a rule's date names (T19)."""
    if _DATE.fullmatch(text):
        day = date.fromisoformat(text)
        return _day_starts(day, zone), _day_starts(day + timedelta(days=1), zone) - _TICK
    moment = _stored_moment(text, zone)
    assert moment is not None
    return moment, moment


def _stored_moment(stored: Any, zone: str) -> datetime | None:
    """T20, T21."""
    if not isinstance(stored, str):
        return None
    try:
        if _DATE.fullmatch(stored):
            return _day_starts(date.fromisoformat(stored), zone)
        if (match := _TIME.fullmatch(stored)) is None:
            return None
        minute, second, fraction, offset = match.groups()
        if fraction and not second:
            return None
        at = datetime.fromisoformat(minute + (second or ":00"))
        at = at.replace(microsecond=int(((fraction or ".") + "000000")[1:7]))
        if offset is None:
            return at.replace(tzinfo=load_zone(zone), fold=0).astimezone(UTC)
        return datetime.fromisoformat(at.isoformat() + offset.replace("Z", "+00:00")).astimezone(UTC)
    except ValueError:
        return None


def _day_starts(day: date, zone: str) -> datetime:
    """The first minute whose local date is the day, or a later one where the day does not exist."""
    about = datetime(day.year, day.month, day.day, tzinfo=UTC)
    minutes = (about + timedelta(minutes=15 * i) for i in range(-4 * 26, 4 * 26))
    return next(m for m in minutes if m.astimezone(load_zone(zone)).date() >= day)
