"""Group segment-engine-audiences: writes down what the scheduler asks for. The workers do it.

A request that is known already changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from postrider.contracts import codec
from postrider.contracts.audience import (
    SnapshotRequested,
    UnexpandedSettled,
    ZoneRequested,
)
from postrider.contracts.codec import Unreadable
from postrider.contracts.envelope import Outgoing, envelope_of
from postrider.kafka.loop import Batch
from segment_engine.adapters import audience_tables
from segment_engine.adapters.audience_tables import Settlement
from segment_engine.domain.readable import require_aware, require_count

GROUP = "segment-engine-audiences"

Request = SnapshotRequested | ZoneRequested | Settlement


@dataclass(frozen=True, slots=True)
class WakeUps:
    """Set when there may be work of that sort."""

    snapshots: asyncio.Event = field(default_factory=asyncio.Event)
    streams: asyncio.Event = field(default_factory=asyncio.Event)
    settlements: asyncio.Event = field(default_factory=asyncio.Event)


class AudienceIntake:
    def __init__(self, wake_ups: WakeUps) -> None:
        self._wake_ups = wake_ups

    def decode(self, record: Any) -> Request | None:
        envelope = envelope_of(record.headers)
        match envelope.type:
            case "audience.snapshot_requested":
                return codec.decode(record.value, SnapshotRequested)
            case "audience.zone_requested":
                request = codec.decode(record.value, ZoneRequested)
                if request.page_size < 1:
                    raise Unreadable("page_size: must be at least 1")
                return request
            case "audience.unexpanded_settled":
                id = envelope.id or f"{record.topic}-{record.partition}-{record.offset}"
                settled = codec.decode(record.value, UnexpandedSettled)
                require_aware("at", settled.at)
                for expanded in settled.zones.values():
                    require_count("zones", expanded)
                return Settlement(id, settled)
            case _:
                raise Unreadable("unknown type")

    async def handle(self, tx: AsyncConnection, batch: Batch[Request]) -> Sequence[Outgoing]:
        requests = [received.value for received in batch.records]
        runs = [request for request in requests if isinstance(request, SnapshotRequested)]
        zones = [request for request in requests if isinstance(request, ZoneRequested)]
        settlements = [request for request in requests if isinstance(request, Settlement)]
        if runs:
            await audience_tables.add_runs(tx, runs)
        if zones:
            await audience_tables.add_streams(tx, zones)
        if settlements:
            await audience_tables.add_settlements(tx, settlements)
        return ()

    async def committed(self) -> None:
        for wake in (self._wake_ups.snapshots, self._wake_ups.streams, self._wake_ups.settlements):
            wake.set()
