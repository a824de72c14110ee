"""Drops the days of the deduplication tables that are past the horizon."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from postrider.clock import Clock
from postrider.logs import log
from segment_engine.adapters.dedup_table import DedupTable
from segment_engine.loops.work import work

EVERY_SECONDS = 3_600.0


class Sweep:
    """A component (`run`)."""

    def __init__(self, tables: Sequence[DedupTable], clock: Clock) -> None:
        self._tables = tables
        self._clock = clock

    async def run(self, stop: asyncio.Event) -> None:
        await work(stop, asyncio.Event(), "sweep", self._step, EVERY_SECONDS)

    async def _step(self) -> bool:
        for table in self._tables:
            dropped = await table.sweep(self._clock.now().date())
            if dropped:
                log.info("dedup_days_dropped", days=dropped)
        return False
