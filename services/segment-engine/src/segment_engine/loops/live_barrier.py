"""May what is due fire? Two questions of a firing, each about everything that was in the log when it asked.

`read`: the live group has applied it, misplaced records included, whichever process they came to first.
`remembered`: history and the profiles' copy have it too, so that a filter sees the event that armed.
"""

from __future__ import annotations

import asyncio

from postrider.kafka.log_ends import LogEnds
from postrider.postgres.database import Database
from segment_engine.adapters import forward_table
from segment_engine.adapters.forward_table import UnderWay
from segment_engine.loops.barrier import LOOK_SECONDS, Confirmed, Follower, passed
from segment_engine.loops.copier import ProfileCopier

LOST_AFTER_LOOKS = 100
"""A forwarded record that the live group gave up as a dead letter never arrives: found out after so many looks."""


class LiveBarrier:
    def __init__(
        self,
        database: Database,
        ends: LogEnds,
        live: Follower,
        history: Follower,
        copier: ProfileCopier,
        definitions: Confirmed,
    ) -> None:
        self._database = database
        self._ends = ends
        self._live = live
        self._history = history
        self._copier = copier
        self._definitions = definitions

    async def read(self) -> None:
        """The live group does not hurry: its pace is shorter than a wait is worth."""
        ends = await self._ends.fetch()
        await self._definitions.wait_until_confirmed()
        await passed(self._database, self._ends, self._live, ends)
        await self._forwards_arrived()

    async def remembered(self) -> None:
        """After `read`, whose forwarded records are before these ends."""
        self._history.hurry()
        try:
            await passed(self._database, self._ends, self._history, await self._ends.fetch())
            await self._copier.wait_until_copied()
        finally:
            self._history.calm()

    async def _forwards_arrived(self) -> None:
        async with self._database.begin() as tx:
            under_way = await forward_table.under_way(tx)
        looks = 0
        while under_way.origins:
            await asyncio.sleep(LOOK_SECONDS)
            async with self._database.begin() as tx:
                if not await forward_table.any_left(tx, under_way.origins):
                    return
            looks += 1
            if looks % LOST_AFTER_LOOKS == 0 and await self._forget_the_lost(under_way):
                return

    async def _forget_the_lost(self, under_way: UnderWay) -> bool:
        """Published, and the live group is past them: what has not arrived by then was put aside."""
        async with self._database.begin() as tx:
            if not await forward_table.is_published(tx, under_way):
                return False
        await passed(self._database, self._ends, self._live, await self._ends.fetch())
        async with self._database.begin() as tx:
            await forward_table.remove(tx, under_way.origins)
        return True
