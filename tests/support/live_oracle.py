"""Who a live campaign texts, said again in plain Python: lists, sorting, no cleverness, nothing of the engine's. Where
the moment of a firing decides, every answer that some moment gives is right.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from aiokafka import ConsumerRecord

FUTURE = timedelta(minutes=5)
END = datetime.max.replace(tzinfo=UTC)
Texts = frozenset[str]
"""Occurrences."""


@dataclass(frozen=True)
class Told:
    """The first copy of a message, wherever it came."""

    user: str
    id: str
    event: str
    values: dict[str, Any]
    at: datetime
    received: datetime
    historic: bool

    def is_fresh(self, send_by: timedelta) -> bool:
        return not self.historic and self.received - self.at <= send_by


@dataclass(frozen=True)
class Answer:
    """Texts that are due whatever the moment, and those that some moment allows."""

    must: Texts
    may: Texts

    def allows(self, found: Texts) -> bool:
        return self.must <= found <= self.may


def read(records: Iterable[ConsumerRecord]) -> list[Told]:
    """In the order of their first arrival; identifies have the event ""."""
    first: dict[tuple[str, str], Told] = {}
    for record in sorted(records, key=lambda record: (record.timestamp, record.partition, record.offset)):
        body = msgspec.json.decode(record.value)
        received = datetime.fromtimestamp(record.timestamp / 1000, UTC)
        at = min(datetime.fromisoformat(body["timestamp"]), received + FUTURE) if "timestamp" in body else received
        told = Told(
            body["userId"], body["messageId"], body.get("event", ""), body.get("properties", body.get("traits", {})),
            at, received, body.get("historic", False),
        )  # fmt: skip
        first.setdefault((told.user, told.id), told)
    return list(first.values())


@dataclass(frozen=True)
class Seen:
    """An event as one key of an inaction campaign sees it."""

    id: str
    at: datetime
    received: datetime
    arms: bool
    acts: bool


def inaction(seen: Sequence[Seen], within: timedelta, restart: bool) -> Answer:
    """Each timer fires at some moment after it is due: before or after whatever arrives then."""
    known: list[Seen] = []
    worlds: set[Texts] = {frozenset()}
    for arrival in [*sorted(seen, key=lambda it: it.received), None]:
        now = END if arrival is None else arrival.received
        after: set[Texts] = set()
        for fired in worlds:
            while True:
                due = [it for it in _armed(known, fired, within, restart) if it.at + within < now]
                if arrival is not None or not due:
                    after.add(fired)
                if not due:
                    break
                fired |= {due[0].id}
        worlds = after
        if arrival is not None:
            known.append(arrival)
    return Answer(frozenset.intersection(*worlds), frozenset.union(*worlds))


def _armed(known: Sequence[Seen], fired: Texts, within: timedelta, restart: bool) -> list[Seen]:
    """A walk through time over what is known. What overlaps a span that was texted about is a repeat of it."""
    done = [it for it in known if it.id in fired]

    def is_repeat(it: Seen) -> bool:
        return any(abs(it.at - other.at) <= within for other in done)

    found: list[Seen] = []
    armed: Seen | None = None
    for it in sorted(known, key=lambda it: (it.at, it.acts and not it.arms)):
        if armed is not None and it.at > armed.at + within:
            found.append(armed)
            armed = None
        if it.acts:
            armed = None
        if it.arms and not is_repeat(it) and (armed is None or restart):
            armed = it
    return found if armed is None else [*found, armed]


def due_of(value: object, offset: timedelta) -> datetime | None:
    """Of dates as these tests write them: a moment with its offset, or a day of UTC."""
    if type(value) is not str:
        return None
    try:
        read = datetime.fromisoformat(value)
    except ValueError:
        return None
    return (read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)) + offset


def name_of(value: str) -> str:
    """The date in an occurrence."""
    if len(value) == len("2026-12-01"):
        return value
    return datetime.fromisoformat(value).astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def attribute(
    values: Sequence[tuple[datetime, object]], name: str, offset: timedelta, send_by: timedelta, until: datetime
) -> Answer:
    """`values` of the attribute, each with the moment it was received, in the order of the log."""
    must, may = set(), set()
    for number, (received, value) in enumerate(values):
        due = due_of(value, offset)
        if due is None or due > until or due < received - send_by:
            continue
        occurrence = f"{name}:{name_of(str(value))}"
        replaced = values[number + 1][0] if number + 1 < len(values) else END
        if replaced == END:
            must.add(occurrence)
        if replaced > due - timedelta(milliseconds=50):
            may.add(occurrence)
    return Answer(frozenset(must), frozenset(must | may))


def filtered(answer: Answer, always: bool, ever: bool) -> Answer:
    """`always`, `ever`: whether the person passes at every moment that counts, at some."""
    return Answer(answer.must if always else frozenset(), answer.may if ever else frozenset())
