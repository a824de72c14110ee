"""Reads a record of user-events once for both groups: whoever is second finds what the first has parsed."""

from __future__ import annotations

from typing import Any

from postrider.contracts.user_events import Ignored
from segment_engine.domain.arrivals import Arrival, read_arrival

CAPACITY = 20_000


class EventReader:
    """A cache and nothing more: a group far behind the other parses for itself."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._parsed: dict[tuple[int, int], Arrival | Ignored] = {}

    def read(self, record: Any) -> Arrival | Ignored:
        """Raises `Unreadable`."""
        place = (record.partition, record.offset)
        found = self._parsed.pop(place, None)
        if found is None:
            name = f"{record.topic}-{record.partition}-{record.offset}"
            found = read_arrival(record.value, record.timestamp, name, record.headers)
            if len(self._parsed) >= self._capacity:
                del self._parsed[next(iter(self._parsed))]
            self._parsed[place] = found
        return found
