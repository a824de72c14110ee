"""Delivery events → funnel counters, runs, and the status of campaigns. One transaction per batch (the kernel's loop).

Moves are not idempotent by content, so each is applied once by its envelope's id. The status of a campaign follows
from the counters after the batch, never from a single event.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api import metrics
from campaign_api.definitions import DefinitionPublisher, request
from campaign_api.domain.campaign_states import Status, follow
from campaign_api.domain.funnel import deltas
from campaign_api.store import funnel, resources
from postrider.contracts import codec
from postrider.contracts.delivery_events import (
    FUNNEL_MOVED,
    MESSAGE_CHANGED,
    RUN_CHANGED,
    STATUSES,
    FunnelMoved,
    RunChanged,
)
from postrider.contracts.envelope import Outgoing, envelope_of
from postrider.kafka.loop import Batch, ConsumerRecord

GROUP = "campaign-api"
MAX_KEY_BYTES = 2_000
"""Of the names in one row's key, together; an index entry of Postgres has 2,700."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """One event and the id it is known by, however often it is published."""

    id: str
    event: FunnelMoved | RunChanged


def decode(record: ConsumerRecord) -> Delivered | None:
    """None for what is not counted here. Raises `Unreadable`."""
    envelope = envelope_of(record.headers)
    if envelope.type == MESSAGE_CHANGED:
        return None
    if not envelope.id:
        raise codec.Unreadable("no ce_id header: the event cannot be told from a repeat")
    _require_key(envelope.id)
    if envelope.type == FUNNEL_MOVED:
        move = codec.decode(record.value, FunnelMoved)
        if move.to_status not in STATUSES or move.from_status not in ("", *STATUSES):
            raise codec.Unreadable("a status that no report has")
        _require_key(move.campaign_id, move.run_id, move.variant, move.from_provider_id, move.provider_id, move.reason)
        return Delivered(envelope.id, move)
    if envelope.type == RUN_CHANGED:
        change = codec.decode(record.value, RunChanged)
        _require_key(change.run_id)
        return Delivered(envelope.id, change)
    raise codec.Unreadable("unknown type")


def _require_key(*names: str) -> None:
    """Raises `Unreadable` for what an index cannot hold."""
    if sum(len(name.encode()) for name in names) > MAX_KEY_BYTES or any("\x00" in name for name in names):
        raise codec.Unreadable("names too long for a key, or with U+0000")


class DeliveryEvents:
    """The handler of the loop (`apply`) and what follows its commit (`committed`)."""

    def __init__(self, definitions: DefinitionPublisher) -> None:
        self._definitions = definitions

    async def apply(self, tx: AsyncConnection, batch: Batch[Delivered]) -> Sequence[Outgoing]:
        fresh = await funnel.claim(tx, [record.value.id for record in batch.records])
        events = list(
            {record.value.id: record.value.event for record in batch.records if record.value.id in fresh}.values()
        )
        moves = [event for event in events if isinstance(event, FunnelMoved)]
        metrics.MOVES_APPLIED.inc(len(moves))
        metrics.MOVES_REPEATED.inc(len(batch.records) - len(events))
        await funnel.add(tx, deltas(moves))
        await funnel.change_runs(tx, funnel.states_known(e for e in events if isinstance(e, RunChanged)))
        await move_campaigns(tx, {event.campaign_id for event in events})
        return ()

    async def committed(self) -> None:
        self._definitions.wake()


async def move_campaigns(tx: AsyncConnection, campaign_ids: set[str]) -> None:
    """Moves campaigns on that have started or are done, and asks for their definitions to be published."""
    standings = {standing.campaign_id: standing for standing in await funnel.standings(tx, campaign_ids)}
    if not standings:
        return
    changed = []
    for campaign in await resources.lock_campaigns(tx, standings):
        standing = standings[campaign.id]
        before = Status(campaign.status)
        status = follow(before, campaign.body, standing.progress)
        if status is before:
            continue
        internal = campaign.internal
        if status is Status.COMPLETED and standing.reason:
            internal = {**internal, "end_reason": standing.reason}
        await resources.update(tx, replace(campaign, status=status, internal=internal))
        changed.append(campaign.id)
    if changed:
        await request(tx, changed)
