"""How the clocks of all zones stood in a stretch of time, as arrays that SQL can look up. Reads no clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Final

from postrider.zones import load_zone, zone_names

_DAY: Final = timedelta(days=1)
_SECOND: Final = timedelta(seconds=1)
_NEVER: Final = 2**62
MOST_CHANGES: Final = 4
"""In half a year; Morocco's clocks change four times a year."""


@dataclass(frozen=True, slots=True)
class ClockChanges:
    """Parallel by zone. `offset`: seconds east of UTC at the start; then for each change its moment in microseconds
    (far ahead when there is none) and by how many seconds it moves the clocks."""

    zones: list[str]
    offset: list[int]
    changes: tuple[tuple[list[int], list[int]], ...]


@lru_cache(maxsize=4)
def clock_changes(first: date, last: date) -> ClockChanges:
    """Of whole UTC days, `last` included."""
    zones = sorted(zone_names())
    offsets, found = [], []
    for zone in zones:
        offset, changes = _changes(zone, first, last)
        offsets.append(offset)
        found.append(changes + [(_NEVER, 0)] * (MOST_CHANGES - len(changes)))
    columns = tuple(
        ([changes[number][0] for changes in found], [changes[number][1] for changes in found])
        for number in range(MOST_CHANGES)
    )
    return ClockChanges(zones, offsets, columns)


def _changes(zone: str, first: date, last: date) -> tuple[int, list[tuple[int, int]]]:
    rules = load_zone(zone)

    def offset(at: datetime) -> int:
        found = at.astimezone(rules).utcoffset()
        assert found is not None
        return int(found.total_seconds())

    at = datetime.combine(first, time.min, UTC)
    start = before = offset(at)
    changes: list[tuple[int, int]] = []
    while at.date() <= last and len(changes) < MOST_CHANGES:
        after = offset(at + _DAY)
        if after != before:
            low, high = at, at + _DAY
            while high - low > _SECOND:
                middle = low + (high - low) // 2
                low, high = (middle, high) if offset(middle) == before else (low, middle)
            changes.append((int(high.timestamp()) * 1_000_000, after - before))
            before = after
        at += _DAY
    return start, changes
