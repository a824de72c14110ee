"""Forgets what no repeat can ask for any more: applied event ids and replies to creations past their retention."""

from __future__ import annotations

import asyncio

from campaign_api.store import funnel, idempotency
from postrider.logs import failure, log
from postrider.postgres.database import Database, is_outage

EVERY_SECONDS = 300.0


class Housekeeping:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self, stop: asyncio.Event) -> None:
        """A component: sweeps every five minutes until told to stop."""
        while not stop.is_set():
            try:
                await self.sweep()
            except Exception as error:
                if not is_outage(error):
                    raise
                log.warning("housekeeping_waits", **failure(error))
            try:
                await asyncio.wait_for(stop.wait(), EVERY_SECONDS)
            except TimeoutError:
                continue

    async def sweep(self) -> None:
        """In bites, so that no statement holds locks for long."""
        for forget in (funnel.forget_applied, idempotency.forget_old):
            while True:
                async with self._database.begin() as tx:
                    if not await forget(tx):
                        break
