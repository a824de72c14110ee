"""Forgets, hour by hour, what has been over for longer than the retention says: the ledger and all that hangs on it."""

from __future__ import annotations

import asyncio
import contextlib

from dispatcher import metrics
from dispatcher.store import retention
from postrider.logs import failure, log
from postrider.postgres.database import Database, is_outage

EVERY_SECONDS = 3600.0
BATCH = 5_000
BREATH_SECONDS = 0.2
"""Between two batches: texts are on their way meanwhile."""


class Retention:
    """A component (`run`)."""

    def __init__(self, database: Database, days: int) -> None:
        self._database = database
        self._days = days

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                for table in retention.STATEMENTS:
                    await self._forget(table, stop)
            except Exception as error:
                if not is_outage(error):
                    raise
                log.warning("forgetting_waits", **failure(error))
            await _pause(stop, EVERY_SECONDS)

    async def _forget(self, table: str, stop: asyncio.Event) -> None:
        while not stop.is_set():
            async with self._database.begin() as tx:
                n = await retention.forget(tx, table, self._days, BATCH)
            if n:
                metrics.FORGOTTEN.labels(table).inc(n)
                log.info("forgotten", table=table, n=n)
            if n < BATCH:
                return
            await _pause(stop, BREATH_SECONDS)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
