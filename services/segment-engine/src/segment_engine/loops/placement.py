"""Which partition a user's records belong to."""

from __future__ import annotations

from postrider.kafka.clients import partition_for
from segment_engine.domain.arrivals import Arrival

REMEMBERED = 200_000
"""Users whose partition is not computed again: the hash is written in Python."""


class Placement:
    """Shared by the two groups of one process. `partitions` is read once: more of them means a restart."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._of_users: dict[str, int] = {}

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
