"""Reads a record of user-events once for both groups: whoever is second finds what the first has parsed."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from postrider.contracts.user_events import Ignored
from segment_engine.domain.arrivals import Arrival, read_arrival

CAPACITY = 20_000
CAPACITY_BYTES = 16 * 1024 * 1024


class EventReader:
    """A cache and nothing more: a group far behind the other parses for itself. Large records fill it sooner."""

    def __init__(self, capacity: int = CAPACITY, capacity_bytes: int = CAPACITY_BYTES) -> None:
        self._capacity = capacity
        self._capacity_bytes = capacity_bytes
        self._parsed: OrderedDict[tuple[int, int], tuple[Arrival | Ignored, int]] = OrderedDict()
        self._bytes = 0

    def read(self, record: Any) -> Arrival | Ignored:
        """Raises `Unreadable`."""
        place = (record.partition, record.offset)
        found = self._parsed.pop(place, None)
        if found is not None:
            self._bytes -= found[1]
            return found[0]
        name = f"{record.topic}-{record.partition}-{record.offset}"
        arrival = read_arrival(record.value, record.timestamp, name, record.headers)
        size = len(record.value)
        self._parsed[place] = arrival, size
        self._bytes += size
        while len(self._parsed) > self._capacity or self._bytes > self._capacity_bytes:
            self._bytes -= self._parsed.popitem(last=False)[1][1]
        return arrival
