"""Group segment-engine-history: every track event into the event store, once.

The planned range is committed first, then in one transaction: deduplicate, insert under the range's token, advance.
A crash between insert and commit rolls the deduplication back too, so a replay builds the same rows, and their token
drops them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from postrider.contracts.envelope import Outgoing
from postrider.contracts.user_events import Ignored
from postrider.kafka.loop import Batch
from segment_engine import metrics
from segment_engine.adapters.dedup_table import DedupTable
from segment_engine.domain.arrivals import message_id_of, read_record
from segment_engine.domain.columns import EventRow, event_row
from segment_engine.domain.dedup_keys import DedupKey, dedup_key
from segment_engine.event_store.port import EventStore
from segment_engine.loops.placement import Placement

GROUP = "segment-engine-history"
MAX_RECORDS = 16_000
"""An insert costs the store some 10 ms whatever is in it, and there is one for each partition of a batch."""
MAX_BYTES = 8 * 1024 * 1024
LANES = 2
"""While one half waits for Postgres or the store, the other is decoded and made rows."""
LINGER_SECONDS = 1.0


class Filed(NamedTuple):
    """An event as it is remembered and as it is stored."""

    key: DedupKey
    row: EventRow


class History:
    def __init__(
        self,
        store: EventStore,
        dedup: DedupTable,
        placement: Placement,
        dedup_key: bytes,
        horizon_days: int,
    ) -> None:
        self._store = store
        self._dedup = dedup
        self._key = dedup_key
        self._horizon_days = horizon_days
        self._placement = placement
        self._read = 0

    def decode(self, record: Any) -> Filed | None:
        """None: not for the history. Identifies are the live group's, misplaced records come again.

        The row of a repeat is made for nothing; made of an event that was just parsed, a row costs half of what it
        costs once a whole batch of events has gone through the processor's cache.
        """
        self._read += 1
        arrival = read_record(record)
        if isinstance(arrival, Ignored) or arrival.event.type != "track":
            return None
        if self._placement.is_misplaced(arrival, record.partition):
            return None
        event, message_id = arrival.event, message_id_of(arrival)
        key = dedup_key(
            self._key, event.user_id, message_id, event.client_at, event.received_at, self._horizon_days
        )  # fmt: skip
        return Filed(key, event_row(event, message_id))

    async def handle(self, tx: AsyncConnection, batch: Batch[Filed]) -> Sequence[Outgoing]:
        read, self._read = self._read, 0
        metrics.EVENTS_READ.labels(GROUP).inc(read)
        keys = [received.value.key for received in batch.records]
        fresh = await self._dedup.first_seen(tx, keys)
        rows: dict[tuple[str, int], list[EventRow]] = {}
        for received, is_fresh in zip(batch.records, fresh, strict=True):
            if is_fresh:
                rows.setdefault((received.topic, received.partition), []).append(received.value.row)
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
