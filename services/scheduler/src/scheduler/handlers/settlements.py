"""What became of texts, for the books: a cap's reservation shrinks to what happened, or is given back, slots too.

In doubt and unknown count as sent. Handler of a group of its own on delivery-events; of no text twice the same effect:
a reservation or a slot that is gone is gone.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from postrider.contracts import codec
from postrider.contracts.delivery_events import ACCEPTED_STATUSES, MESSAGE_CHANGED, NOT_SENT_STATUSES, MessageChanged
from postrider.contracts.envelope import Outgoing, envelope_of
from postrider.kafka.loop import Batch, ConsumerRecord
from scheduler import metrics
from scheduler.domain.caps import Reservation, released, settled
from scheduler.domain.gate import WHOLE_CAMPAIGN
from scheduler.domain.limits import give_back
from scheduler.records import SOURCE
from scheduler.store import book_rows

GROUP = "scheduler-settlements"
UNKNOWN = "unknown"
_SETTLED = frozenset({*ACCEPTED_STATUSES, *NOT_SENT_STATUSES, UNKNOWN})


def decode(record: ConsumerRecord) -> MessageChanged | None:
    """None for what settles nothing, such as what the scheduler says itself. Raises `Unreadable`."""
    envelope = envelope_of(record.headers)
    if envelope.type != MESSAGE_CHANGED or envelope.source == SOURCE:
        return None
    changed = codec.decode(record.value, MessageChanged)
    return changed if changed.status in _SETTLED else None


async def handle(tx: AsyncConnection, batch: Batch[MessageChanged]) -> Sequence[Outgoing]:
    changes = [record.value for record in batch.records]
    not_sent = [change for change in changes if change.status in NOT_SENT_STATUSES]
    if not_sent:
        await _give_back_slots(tx, [change.message_id for change in not_sent])
    await _settle_reservations(tx, changes)
    return ()


async def _give_back_slots(tx: AsyncConnection, message_ids: list[str]) -> None:
    """The day's and the campaign's, each once."""
    freed = await book_rows.give_back_slots(tx, message_ids)
    metrics.SLOTS_GIVEN_BACK.inc(len(freed))
    keys = Tally(freed)
    keys.update((campaign_id, WHOLE_CAMPAIGN) for campaign_id, day in freed if day)
    counters = await book_rows.lock_known_counters(tx, keys)
    await book_rows.save_counters(
        tx, {key: give_back(counter, min(keys[key], counter.held)) for key, counter in counters.items()}
    )


async def _settle_reservations(tx: AsyncConnection, changes: list[MessageChanged]) -> None:
    ledgers = await book_rows.lock_known_ledgers(tx, {change.user_id for change in changes})
    changed: dict[str, list[Reservation]] = {}
    for change in changes:
        ledger = changed.get(change.user_id, ledgers.get(change.user_id, []))
        if any(known.message_id == change.message_id for known in ledger):
            changed[change.user_id] = _settle(ledger, change)
    await book_rows.save_ledgers(tx, changed)


def _settle(ledger: list[Reservation], change: MessageChanged) -> list[Reservation]:
    if change.status in NOT_SENT_STATUSES:
        return released(ledger, change.message_id)
    if not change.attempts:
        return ledger
    last = change.attempts[-1].at
    # Of what is in doubt for good any attempt may have been the text.
    first = change.attempts[0].at if change.status == UNKNOWN else last
    return [settled(known, first, last) if known.message_id == change.message_id else known for known in ledger]
