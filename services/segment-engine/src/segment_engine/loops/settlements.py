"""Writes people whose pages were never used into the message log, with what became of them."""

from __future__ import annotations

import asyncio

from postrider.postgres.database import Database
from segment_engine.adapters import audience_tables
from segment_engine.event_store.port import EventStore, UnexpandedOutcome
from segment_engine.loops.audience_intake import WakeUps
from segment_engine.loops.work import work

AT_ONCE = 20


class Settlements:
    """A component (`run`). The store takes a repeat for nothing, so a crash before the mark is harmless."""

    def __init__(self, database: Database, store: EventStore, wake_ups: WakeUps) -> None:
        self._database = database
        self._store = store
        self._wake = wake_ups.settlements

    async def run(self, stop: asyncio.Event) -> None:
        await work(stop, self._wake, "settlements", self._step)

    async def _step(self) -> bool:
        async with self._database.begin() as tx:
            found = await audience_tables.open_settlements(tx, AT_ONCE)
        for settlement in found:
            request = settlement.request
            await self._store.unexpanded_to_messages(
                UnexpandedOutcome(request.run_id, request.zones, request.status, request.reason, request.at)
            )
            async with self._database.begin() as tx:
                await audience_tables.mark_settled(tx, settlement.id)
        return bool(found)
