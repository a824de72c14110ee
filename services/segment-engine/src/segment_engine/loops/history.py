"""Group segment-engine-history: every track event into the event store, once.

The planned range is committed first, then in one transaction: deduplicate, insert under the range's token, advance.
A crash between insert and commit rolls the deduplication back too, so a replay builds the same rows, and their token
drops them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from postrider.contracts.envelope import Outgoing
from postrider.contracts.user_events import Ignored
from postrider.kafka.loop import Batch, Received
from segment_engine import metrics
from segment_engine.adapters.dedup_table import DedupTable
from segment_engine.domain.arrivals import Arrival, message_id_of
from segment_engine.domain.columns import EventRow, event_row
from segment_engine.domain.dedup_keys import dedup_key
from segment_engine.event_store.port import EventStore
from segment_engine.loops.event_reader import EventReader
from segment_engine.loops.placement import Placement

S = TypeVar("S")
T = TypeVar("T")

GROUP = "segment-engine-history"
MAX_RECORDS = 16_000
"""An insert costs the store some 10 ms whatever is in it, and there is one for each partition of a batch."""
MAX_BYTES = 8 * 1024 * 1024
LANES = 2
"""While one half waits for Postgres or the store, the other is decoded and made rows."""
MADE_AT_ONCE = 2_000
"""Rows after which others get their turn: the loop must not stand still for long."""
LINGER_SECONDS = 1.0


class History:
    def __init__(
        self,
        store: EventStore,
        dedup: DedupTable,
        reader: EventReader,
        placement: Placement,
        dedup_key: bytes,
        horizon_days: int,
    ) -> None:
        self._store = store
        self._dedup = dedup
        self._key = dedup_key
        self._horizon_days = horizon_days
        self._placement = placement
        self._reader = reader
        self._read = 0

    def decode(self, record: Any) -> Arrival | None:
        """None: not for the history. Identifies are the live group's, misplaced records come again."""
        self._read += 1
        arrival = self._reader.read(record)
        if isinstance(arrival, Ignored) or arrival.event.type != "track":
            return None
        if self._placement.is_misplaced(arrival, record.partition):
            return None
        return arrival

    async def handle(self, tx: AsyncConnection, batch: Batch[Arrival]) -> Sequence[Outgoing]:
        read, self._read = self._read, 0
        metrics.EVENTS_READ.labels(GROUP).inc(read)
        keys = []
        for number, received in enumerate(batch.records, 1):
            if number % MADE_AT_ONCE == 0:
                await asyncio.sleep(0)
            event = received.value.event
            keys.append(
                dedup_key(
                    self._key,
                    event.user_id,
                    message_id_of(received.value),
                    event.client_at,
                    event.received_at,
                    self._horizon_days,
                )
            )
        # Rows of repeats are made for nothing, but made while Postgres is busy.
        fresh, made = await _both(self._dedup.first_seen(tx, keys), _make_rows(batch.records))
        rows: dict[tuple[str, int], list[EventRow]] = {}
        for received, row, is_fresh in zip(batch.records, made, fresh, strict=True):
            if is_fresh:
                rows.setdefault((received.topic, received.partition), []).append(row)
        inserts = [
            self._store.insert_events(found, f"{of.topic}-{of.partition}-{of.from_offset}-{of.to_offset}")
            for of in batch.ranges
            if (found := rows.get((of.topic, of.partition)))
        ]
        # All are over before one that failed is told: a write that goes on alone could meet its own repeat.
        for outcome in await asyncio.gather(*inserts, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
        stored = sum(map(len, rows.values()))
        metrics.EVENTS_STORED.inc(stored)
        metrics.EVENTS_DUPLICATE.labels("track").inc(len(keys) - stored)
        return ()


async def _make_rows(records: Sequence[Received[Arrival]]) -> list[EventRow]:
    rows = []
    for number, received in enumerate(records, 1):
        if number % MADE_AT_ONCE == 0:
            await asyncio.sleep(0)
        rows.append(event_row(received.value.event, message_id_of(received.value)))
    return rows


async def _both(first: Awaitable[S], second: Awaitable[T]) -> tuple[S, T]:
    """Both results; when one fails, its error, once the other is over too."""
    one, other = await asyncio.gather(first, second, return_exceptions=True)
    for outcome in (one, other):
        if isinstance(outcome, BaseException):
            raise outcome
    return one, other  # type: ignore[return-value]  # neither is an exception
