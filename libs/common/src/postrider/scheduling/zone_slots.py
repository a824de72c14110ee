"""What a zone timer is keyed by: a zone, or at best time a zone and the local time of the people in it.

`Asia/Kolkata`, `Asia/Kolkata#08` (two-hour bucket from 08:00), `Asia/Kolkata#0930` (people without a best time).
"""

from __future__ import annotations

from datetime import time
from typing import Final

BUCKET_HOURS: Final = 2

_MARK: Final = "#"


def bucket_slot(zone: str, hour: int) -> str:
    """`hour`: the first of the bucket, 0, 2, … 22."""
    if hour % BUCKET_HOURS or not 0 <= hour < 24:
        raise ValueError(f"no bucket begins at {hour}")
    return f"{zone}{_MARK}{hour:02d}"


def fallback_slot(zone: str, at: time) -> str:
    return f"{zone}{_MARK}{at.hour:02d}{at.minute:02d}"


def read_slot(slot: str) -> tuple[str, time | None]:
    """The zone, and the time of its people where the slot says one."""
    zone, mark, clock = slot.partition(_MARK)
    if not mark:
        return zone, None
    if not clock.isdecimal() or len(clock) not in (2, 4):
        raise ValueError(f"not a slot: {slot[:64]!r}")
    return zone, time(int(clock[:2]), int(clock[2:] or 0))
