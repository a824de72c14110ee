"""May what is due fire? Two questions of a firing, each about everything that was in the log when it asked.

`read`: the live group has applied it, misplaced records included, whichever process they came to first.
`remembered`: history and the profiles' copy have it too, so that a filter sees the event that armed.
"""

from __future__ import annotations

from postrider.kafka.log_ends import LogEnds
from postrider.postgres.database import Database
from segment_engine.loops.barrier import Confirmed, Follower, forwards_arrived, passed
from segment_engine.loops.copier import ProfileCopier


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
        await forwards_arrived(self._database, self._ends, self._live)

    async def remembered(self) -> None:
        """After `read`, whose forwarded records are before these ends."""
        self._history.hurry()
        try:
            await passed(self._database, self._ends, self._history, await self._ends.fetch())
            await self._copier.wait_until_copied()
        finally:
            self._history.calm()
