"""Forgets what nothing can ask for any more: live messages whose records have left the log, slots and reservations of
texts that are long settled. A component."""

from __future__ import annotations

import asyncio

from postrider.logs import failure, log
from postrider.postgres.database import Database, is_outage
from scheduler import metrics
from scheduler.domain.caps import LEDGER_DAYS
from scheduler.store import book_rows, run_rows

EVERY_SECONDS = 600.0
CHUNK = 5000
SLOT_DAYS = 60
"""Longer than any deadline."""


class Sweep:
    """`days`: how long a live message is remembered."""

    def __init__(self, database: Database, days: int) -> None:
        self._database = database
        self._days = days

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                swept = await self.sweep_some()
            except Exception as error:
                if not is_outage(error):
                    raise
                log.warning("sweep_waits", **failure(error))
                swept = 0
            if swept < CHUNK:
                try:
                    await asyncio.wait_for(stop.wait(), EVERY_SECONDS)
                except TimeoutError:
                    continue

    async def sweep_some(self) -> int:
        async with self._database.begin() as tx:
            swept = await run_rows.sweep_live_sends(tx, self._days, CHUNK)
        metrics.LIVE_SWEPT.inc(swept)
        async with self._database.begin() as tx:
            slots = await book_rows.sweep_slots(tx, SLOT_DAYS, CHUNK)
        async with self._database.begin() as tx:
            ledgers = await book_rows.sweep_ledgers(tx, LEDGER_DAYS, CHUNK)
        return max(swept, slots, ledgers)
