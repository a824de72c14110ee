"""A record of user-events as it arrives: is it in its user's partition, and if not, what goes there instead. Pure.

Both groups skip what is misplaced; the live group re-publishes it, marked, into the partition of its userId.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

from postrider.contracts import user_events
from postrider.contracts.user_events import Ignored, UserEvent

FORWARDED = "postrider-forwarded"
"""Header of a re-published record: `<origin>@<milliseconds of its first arrival>`, origin = topic-partition-offset."""
MAX_FOREIGN_HEADER_BYTES = 16_384
SKEW_MS = 3_600_000
OLDEST_MARK_MS = 30 * 86_400_000
"""Longer than the topic keeps a record that waits to be forwarded."""
_MARK = re.compile(r"([A-Za-z0-9._-]{1,249}-[0-9]{1,10}-[0-9]{1,19})@([0-9]{1,14})")

Headers = Sequence[tuple[str, bytes | None]]
"""As Kafka has them: a value may be null."""


@dataclass(frozen=True, slots=True)
class Origin:
    name: str
    received_ms: int


class Arrival(NamedTuple):
    """`origin`: the record's own name, or, of a forwarded record, the name of the one it repeats."""

    event: UserEvent
    origin: str
    forwarded: bool


def read_mark(headers: Headers) -> Origin | None:
    """None when the record is not marked, or not by us."""
    for name, value in headers:
        if name == FORWARDED:
            match = _MARK.fullmatch((value or b"").decode("utf-8", "replace"))
            if match is not None:
                return Origin(match[1], int(match[2]))
    return None


def read_record(record: Any) -> Arrival | Ignored:
    """What a consumer got of user-events. Raises `Unreadable`.

    Each group reads for itself: to keep what one has parsed for the other costs more than parsing, since thousands of
    events later all of it has left the processor's cache.
    """
    name = f"{record.topic}-{record.partition}-{record.offset}"
    return read_arrival(record.value, record.timestamp, name, record.headers)


def read_arrival(value: bytes | None, timestamp_ms: int, name: str, headers: Headers) -> Arrival | Ignored:
    """Raises `Unreadable`. `name`: topic-partition-offset, the messageId of an event that has none."""
    mark = read_mark(headers) if headers else None
    if mark is not None and not timestamp_ms - OLDEST_MARK_MS <= mark.received_ms <= timestamp_ms + SKEW_MS:
        mark = None  # nobody's clock is that wrong: not ours, and its day would have a partition of its own
    received_ms = timestamp_ms if mark is None else mark.received_ms
    event = user_events.parse_bytes(value, _moment(received_ms))
    if isinstance(event, Ignored):
        return event
    return Arrival(event, name if mark is None else mark.name, mark is not None)


@lru_cache(maxsize=1024)
def _moment(milliseconds: int) -> datetime:
    """Records of one batch share their times."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def message_id_of(arrival: Arrival) -> str:
    return arrival.event.message_id or arrival.origin


def forwarded_headers(headers: Headers, arrival: Arrival) -> tuple[tuple[str, bytes], ...]:
    """The mark, which also names an event that has no messageId: the value travels as it is, so that it stays readable
    and within the limits. Foreign headers come along unless they would make the record too large for the topic."""
    foreign = [(name, value or b"") for name, value in headers if name != FORWARDED]
    size = sum(len(name) + len(value) for name, value in foreign)
    return (*(foreign if size <= MAX_FOREIGN_HEADER_BYTES else ()), (FORWARDED, mark_of(arrival)))


def mark_of(arrival: Arrival) -> bytes:
    received_ms = round(arrival.event.received_at.timestamp() * 1000)
    return f"{arrival.origin}@{received_ms}".encode()
