"""CloudEvents 1.0 in Kafka's binary mode: attributes in headers, data (JSON) in the value.

`id` is the key for deduplication: a record that is published again after a crash has the same id.
User events from other services carry no envelope: their shape is the Segment tracking spec (user_events.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

from msgspec import Struct

Headers = Sequence[tuple[str, bytes]]

MAX_RECORD_BYTES = 2 * 1024 * 1024
"""Key and value of one record; every topic with large records allows at least that."""


class RecordTooLarge(Exception):
    """A record over the limit: it would poison the producer, so it is refused before it is stored or sent."""


class Outgoing(Struct, frozen=True):
    """A record to publish. `topic` is the full name. A `stage` of a batch is acknowledged before the next is sent."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    stage: int = 0
    partition: int | None = None

    def check_size(self) -> None:
        """Raises RecordTooLarge."""
        size = len(self.value or b"") + len(self.key or b"")
        if size > MAX_RECORD_BYTES:
            raise RecordTooLarge(f"{self.topic}: {size} bytes")


class Envelope(NamedTuple):
    """What the headers of an internal record say."""

    id: str
    type: str
    source: str


def headers_of(id: str, type: str, source: str, time: datetime) -> tuple[tuple[str, bytes], ...]:
    return headers_for(type, source, time)(id)


def headers_for(type: str, source: str, time: datetime) -> Callable[[str], tuple[tuple[str, bytes], ...]]:
    """The headers of records that differ by their ids alone, by id."""
    before = ("ce_specversion", b"1.0")
    after = (
        ("ce_type", type.encode()),
        ("ce_source", source.encode()),
        ("ce_time", time.isoformat().encode()),
        ("content-type", b"application/json"),
    )
    return lambda id: (before, ("ce_id", id.encode()), *after)


def type_of(headers: Headers) -> str:
    """The type alone, for who reads many."""
    found = b""
    for name, value in headers:
        if name == "ce_type":
            found = value or b""
    return found.decode("utf-8", "replace")


def envelope_of(headers: Headers) -> Envelope:
    """Missing attributes are empty strings: the reader of a stream decides what it needs."""
    id = type = source = b""
    for name, value in headers:
        if name == "ce_id":
            id = value or b""
        elif name == "ce_type":
            type = value or b""
        elif name == "ce_source":
            source = value or b""
    return Envelope(id.decode("utf-8", "replace"), type.decode("utf-8", "replace"), source.decode("utf-8", "replace"))
