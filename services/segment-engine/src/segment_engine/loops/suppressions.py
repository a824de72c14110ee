"""Group segment-engine on the compacted topic of suppressions: into Postgres and event store, newest version wins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from postrider import metrics as kernel_metrics
from postrider.contracts import codec
from postrider.contracts.codec import Unreadable
from postrider.contracts.envelope import Outgoing
from postrider.contracts.suppressions import SuppressionChanged
from postrider.kafka.loop import Batch
from postrider.logs import log
from segment_engine.adapters import suppression_table
from segment_engine.domain.columns import suppression_row
from segment_engine.domain.readable import require_count, require_text
from segment_engine.event_store.port import EventStore

GROUP = "segment-engine"


class Suppressions:
    def __init__(self, store: EventStore) -> None:
        self._store = store

    def decode(self, record: Any) -> SuppressionChanged | None:
        """A compacted topic has no dead letters: what cannot be read is reported and passed over."""
        if record.value is None:
            return None
        try:
            change = codec.decode(record.value, SuppressionChanged)
            require_count("version", change.version)
            require_text(phone_hash=change.phone_hash, reason=change.reason)
            return change
        except Unreadable as error:
            kernel_metrics.UNREADABLE.labels(record.topic).inc()
            log.error("suppression_unreadable", partition=record.partition, offset=record.offset, reason=error.reason)
            return None

    async def handle(self, tx: AsyncConnection, batch: Batch[SuppressionChanged]) -> Sequence[Outgoing]:
        changes = [received.value for received in batch.records]
        await suppression_table.write(tx, changes)
        await self._store.upsert_suppressions([suppression_row(change) for change in changes])
        return ()
