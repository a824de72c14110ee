"""What a consumer loop hands to its handler, and the shapes of handlers and decoders."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from aiokafka import ConsumerRecord
from sqlalchemy.ext.asyncio import AsyncConnection

from postrider.contracts.envelope import Outgoing

T = TypeVar("T")


class Received(NamedTuple, Generic[T]):
    """A decoded record."""

    value: T
    topic: str
    partition: int
    offset: int
    key: bytes | None
    headers: Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Range:
    """Offsets [from_offset, to_offset) of one partition that a batch covers, dead letters and holes included."""

    topic: str
    partition: int
    from_offset: int
    to_offset: int


@dataclass(frozen=True, slots=True)
class Batch(Generic[T]):
    records: list[Received[T]]
    ranges: list[Range]


Handler = Callable[[AsyncConnection, Batch[T]], Awaitable[Sequence[Outgoing]]]
"""Works in the transaction given and returns what it causes."""
Decode = Callable[[ConsumerRecord], T | None]
"""None: nothing for this group. Raises `Unreadable`."""
