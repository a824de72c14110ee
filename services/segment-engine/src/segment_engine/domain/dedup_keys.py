"""Names of messages for deduplication: a 64-bit keyed hash and the day whose partition remembers it. Pure.

The day is the client's own, because a repeat carries the same body. What has no such day, or one at an edge where the
repeat may be filed elsewhere, is looked up in all days (`everywhere`).
"""

from __future__ import annotations

import hashlib
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

OLDER = date(1, 1, 1)
"""Stands for every day outside the horizon; its partition stays for ever."""
GRACE_DAYS = 7
"""A repeat comes at most so many days after the first: the promised horizon."""
MARGIN_DAYS = 8
"""Days a partition outlives its use: a consumer may lag by the topic's retention."""


class DedupKey(NamedTuple):
    day: date
    hash: int
    everywhere: bool


def message_hash(key: bytes, user_id: str, message_id: str) -> int:
    """64 bits, signed. Keyed, so that nobody can craft messageIds that swallow others' events."""
    hash = _keyed(key).copy()
    hash.update(f"{len(user_id)}:{user_id}{message_id}".encode())
    return int.from_bytes(hash.digest(), "big", signed=True)


@lru_cache(maxsize=8)
def _keyed(key: bytes) -> hashlib.blake2b:
    """The key is worked in once, not for every message."""
    return hashlib.blake2b(digest_size=8, key=key)


def dedup_day(client_at: datetime | None, received_at: datetime, horizon_days: int) -> tuple[date, bool]:
    """The day that remembers the message, and whether all days must be asked."""
    today = received_at.date()
    if client_at is None:
        return today, True
    day = client_at.date()
    if day == today:
        return day, False
    age = (today - day).days
    if age > horizon_days + GRACE_DAYS or age < -GRACE_DAYS:
        return OLDER, False
    if age > horizon_days:
        return OLDER, True
    return day, age < 0


def dedup_key(
    key: bytes, user_id: str, message_id: str, client_at: datetime | None, received_at: datetime, horizon_days: int
) -> DedupKey:
    day, everywhere = dedup_day(client_at, received_at, horizon_days)
    return DedupKey(day, message_hash(key, user_id, message_id), everywhere)


def first_day_kept(today: date, horizon_days: int) -> date:
    """Partitions of earlier days may be dropped."""
    return today - timedelta(days=horizon_days + GRACE_DAYS + MARGIN_DAYS)
