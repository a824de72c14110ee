"""Group segment-engine-messages on delivery-events: every state of a message into the message log.

The insert comes before the commit and is harmless to repeat (the largest seq wins).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from postrider.contracts import codec
from postrider.contracts.delivery_events import MESSAGE_CHANGED, MessageChanged
from postrider.contracts.envelope import Outgoing, envelope_of
from postrider.kafka.loop import Batch
from segment_engine import metrics
from segment_engine.domain.columns import message_row
from segment_engine.domain.readable import require_aware, require_count
from segment_engine.event_store.port import EventStore

GROUP = "segment-engine-messages"
MAX_RECORDS = 5_000
LINGER_SECONDS = 0.5
MAX_PARTS = 65_535


class Messages:
    def __init__(self, store: EventStore) -> None:
        self._store = store

    def decode(self, record: Any) -> MessageChanged | None:
        """None: funnel moves and runs are not for the log."""
        if envelope_of(record.headers).type != MESSAGE_CHANGED:
            return None
        change = codec.decode(record.value, MessageChanged)
        require_count("seq", change.seq)
        require_count("parts", change.parts, MAX_PARTS)
        require_aware("at", change.at)
        require_aware("due_at", change.due_at)
        return change

    async def handle(self, tx: AsyncConnection, batch: Batch[MessageChanged]) -> Sequence[Outgoing]:
        newest: dict[str, MessageChanged] = {}
        for received in batch.records:
            change = received.value
            known = newest.get(change.message_id)
            if known is None or known.seq <= change.seq:
                newest[change.message_id] = change
        await self._store.insert_messages([message_row(change) for change in newest.values()])
        metrics.MESSAGES_LOGGED.inc(len(newest))
        return ()
