"""Forgets what no repeat can ask for any more: applied event ids and replies to creations past their retention; and
removes the members of user lists that are deleted, or whose upload a crash cut off.
"""

from __future__ import annotations

import asyncio

from campaign_api.store import funnel, idempotency, resources
from campaign_api.upstream import Part, PartUnavailable, RefusedByPart
from postrider.logs import failure, log
from postrider.postgres.database import Database, is_outage

EVERY_SECONDS = 300.0
UPLOAD_SECONDS = 24 * 3600.0
"""No upload takes longer."""


class Housekeeping:
    def __init__(self, database: Database, segment_engine: Part) -> None:
        self._database = database
        self._segment_engine = segment_engine

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
        await self._remove_lists()

    async def _remove_lists(self) -> None:
        async with self._database.begin() as tx:
            left = await resources.lists_left(tx, UPLOAD_SECONDS)
        for id in left:
            try:
                await remove_list(self._database, self._segment_engine, id)
            except (PartUnavailable, RefusedByPart) as error:
                log.warning("user_list_left", id=id, **failure(error))
                return


async def remove_list(database: Database, segment_engine: Part, id: str) -> None:
    """The members first: as long as the row is there, they are looked for. Raises what `Part` raises."""
    await segment_engine.delete(f"/internal/user-lists/{id}")
    async with database.begin() as tx:
        await resources.remove(tx, id)
