"""A record of user-events as it arrives: is it in its user's partition, and if not, what goes there instead. Pure.

Both groups skip what is misplaced; the live group re-publishes it, marked, into the partition of its userId.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from postrider.contracts import user_events
from postrider.contracts.user_events import Ignored, UserEvent

FORWARDED = "postrider-forwarded"
"""Header of a re-published record: `<origin>@<milliseconds of its first arrival>`, origin = topic-partition-offset."""


@dataclass(frozen=True, slots=True)
class Origin:
    name: str
    received_ms: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """`origin`: the record's own name, or, of a forwarded record, the name of the one it repeats."""

    event: UserEvent
    origin: str
    forwarded: bool


def read_mark(headers: Sequence[tuple[str, bytes]]) -> Origin | None:
    """None when the record is not marked, or not by us."""
    for name, value in headers:
        if name == FORWARDED:
            origin, _, stamp = value.decode("utf-8", "replace").rpartition("@")
            if origin and stamp.isascii() and stamp.isdecimal() and len(stamp) <= 14:
                return Origin(origin, int(stamp))
    return None


def read_arrival(
    value: bytes | None, timestamp_ms: int, name: str, headers: Sequence[tuple[str, bytes]]
) -> Arrival | Ignored:
    """Raises `Unreadable`. `name`: topic-partition-offset, the messageId of an event that has none."""
    mark = read_mark(headers) if headers else None
    received_ms = timestamp_ms if mark is None else mark.received_ms
    event = user_events.parse_bytes(value, datetime.fromtimestamp(received_ms / 1000, UTC))
    if isinstance(event, Ignored):
        return event
    return Arrival(event, name if mark is None else mark.name, mark is not None)


def message_id_of(arrival: Arrival) -> str:
    return arrival.event.message_id or arrival.origin


def forwarded_value(value: bytes, arrival: Arrival) -> bytes:
    """The body for the right partition: named, so that a repeat of the forwarding is recognised."""
    if arrival.event.message_id:
        return value
    return msgspec.json.encode({**msgspec.json.decode(value), "messageId": arrival.origin})


def mark_of(arrival: Arrival) -> bytes:
    received_ms = round(arrival.event.received_at.timestamp() * 1000)
    return f"{arrival.origin}@{received_ms}".encode()
