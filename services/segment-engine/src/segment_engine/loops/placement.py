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
        self._under_way: set[str] = set()
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

    def sent(self, origins: set[str]) -> None:
        """Committed to the outbox; the log has them soon."""
        self._under_way |= origins

    def arrived(self, origins: set[str]) -> None:
        if self._under_way & origins:
            self._under_way -= origins
            self._changed.set()

    async def settled(self) -> bool:
        """Waits until what is under way now has been read again. False: nothing was."""
        waited_for = set(self._under_way)
        if not waited_for:
            return False
        while waited_for & self._under_way:
            self._changed.clear()
            await self._changed.wait()
        return True
