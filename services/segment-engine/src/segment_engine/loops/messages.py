"""Group segment-engine-messages on delivery-events: every state of a message into the message log, and how far it came
into the outcomes that `messaged` of a rule asks.

The inserts come before the commit and are harmless to repeat (the largest seq wins, the earliest moment).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from postrider.contracts import codec
from postrider.contracts.delivery_events import MESSAGE_CHANGED, MessageChanged
from postrider.contracts.envelope import Outgoing, envelope_of
from postrider.kafka.loop import Batch
from segment_engine import metrics
from segment_engine.adapters import erasure_table
from segment_engine.adapters.erasure_table import Erased
from segment_engine.domain.columns import OutcomeRow, message_row, microseconds, outcome_rows
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
        outcomes: dict[tuple[str, ...], OutcomeRow] = {}
        for received in batch.records:
            change = received.value
            for row in outcome_rows(change):
                outcomes[row[:-1]] = min(row, outcomes.get(row[:-1], row))
            known = newest.get(change.message_id)
            if known is None or known.seq <= change.seq:
                newest[change.message_id] = change
        erased = await erasure_table.among(tx, sorted({change.user_id for change in newest.values()}))
        await self._store.insert_messages(
            [message_row(without_person(change, erased.get(change.user_id))) for change in newest.values()]
        )
        kept = [row for row in outcomes.values() if not _is_of_before(row, erased.get(row.user_id))]
        await self._store.insert_outcomes(kept)
        metrics.MESSAGES_LOGGED.inc(len(newest))
        return ()


def without_person(change: MessageChanged, erased: Erased | None) -> MessageChanged:
    """A receipt that comes after the person was erased must not bring phone and text back."""
    if erased is None or not (erased.deleted or change.due_at <= erased.erased_at):
        return change
    return msgspec.structs.replace(change, phone="", body="")


def _is_of_before(row: OutcomeRow, erased: Erased | None) -> bool:
    return erased is not None and (erased.deleted or row.at <= microseconds(erased.erased_at))
