"""Has the catalogue's counts written every few seconds. Nobody waits for it, and it stops nothing."""

from __future__ import annotations

import asyncio

from postrider.logs import failure, log
from segment_engine.event_store.port import EventStore, StoreFailed
from segment_engine.loops.work import work

EVERY_SECONDS = 2.0


class CatalogKeeper:
    """A component (`run`)."""

    def __init__(self, store: EventStore) -> None:
        self._store = store

    async def run(self, stop: asyncio.Event) -> None:
        await work(stop, asyncio.Event(), "catalog", self._step, EVERY_SECONDS)

    async def _step(self) -> bool:
        try:
            await self._store.flush_catalog()
        except StoreFailed as error:
            log.warning("catalog_waits", **failure(error))
        return False
