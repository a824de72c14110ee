"""Has everything that delivery-events told when I asked reached the outcomes that `messaged` asks? Waits until it has.

For audiences alone: whoever was texted a moment ago must not be taken for somebody who was not.
"""

from __future__ import annotations

from postrider.kafka.log_ends import LogEnds
from postrider.postgres.database import Database
from segment_engine.loops.barrier import Follower, passed


class ToldBarrier:
    def __init__(self, database: Database, ends: LogEnds, messages: Follower) -> None:
        self._database = database
        self._ends = ends
        self._messages = messages

    async def wait(self) -> None:
        self._messages.hurry()
        try:
            await passed(self._database, self._ends, self._messages, await self._ends.fetch())
        finally:
            self._messages.calm()
