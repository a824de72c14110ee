"""Which partition a user's records belong to, and the records that are under way to it."""

from __future__ import annotations

import asyncio

from postrider.kafka.clients import partition_for
from segment_engine.domain.arrivals import Arrival

REMEMBERED = 200_000
"""Users whose partition is not computed again: the hash is written in Python."""


class Placement:
    """Shared by the two groups of one process. `partitions` is read once: more of them means a restart."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._of_users: dict[str, int] = {}
        self._expected: set[str] = set()
        self._under_way: set[str] = set()
        self._ended = 0
        self._changed = asyncio.Event()

    def is_misplaced(self, arrival: Arrival, partition: int) -> bool:
        """A forwarded record is where it belongs by definition, so that none travels for ever."""
        return not arrival.forwarded and partition != self.partition_of(arrival.event.user_id)

    def partition_of(self, user_id: str) -> int:
        partition = self._of_users.get(user_id)
        if partition is None:
            if len(self._of_users) >= REMEMBERED:
                self._of_users.clear()
            partition = self._of_users[user_id] = partition_for(user_id.encode(), self._partitions)
        return partition

    def expect(self, origin: str) -> None:
        """Read as misplaced: it is going to be forwarded, unless its batch fails."""
        self._expected.add(origin)

    def sent(self, origins: set[str]) -> None:
        """Committed to the outbox; the log has them soon. What else was expected failed, and is read again or dead."""
        self._ended += len(self._expected - origins)
        self._under_way |= origins
        self._expected.clear()
        self._changed.set()

    def arrived(self, origin: str) -> None:
        """Read: so it is in the log, and the log's end as it is from now on is behind it."""
        if origin in self._under_way:
            self._under_way.discard(origin)
            self._ended += 1
            self._changed.set()

    def mark(self) -> int:
        """To be asked for before the logs' ends, and given to `settled`."""
        return self._ended

    async def settled(self, mark: int) -> bool:
        """Waits until what is under way now is in the log. False: the ends asked for after `mark` had everything."""
        waited_for = self._expected | self._under_way
        while waited_for & (self._expected | self._under_way):
            self._changed.clear()
            await self._changed.wait()
        return self._ended != mark
