"""Spends a rate: slices drawn from a bucket in Postgres that all replicas share (rule: domain/budget.py).

Of a provider in parts per second, or of a campaign in texts.
"""

from __future__ import annotations

from collections import deque

from dispatcher.domain import budget as rule
from dispatcher.domain.budget import UNLIMITED, Slice
from dispatcher.store import budget as store
from dispatcher.store.alone import alone
from postrider.clock import Clock
from postrider.postgres.database import Database

SHARE_SECONDS = 1.0
"""Over so long the share of this replica is looked at."""


class Budget:
    """Of one provider or campaign, in this process. `name`: its id."""

    def __init__(self, database: Database, clock: Clock, name: str, parts_per_second: float | None) -> None:
        self._database = database
        self._clock = clock
        self._name = name
        self._rate = parts_per_second
        self._slice = UNLIMITED if parts_per_second is None else Slice()
        self._is_open = parts_per_second is None
        self._again_at = 0.0
        self._refused_parts = 0
        self._granted: deque[tuple[float, int]] = deque()
        self._short_since = self._short_at = -SHARE_SECONDS

    @property
    def parts_per_second(self) -> float | None:
        return self._rate

    @property
    def wait_seconds(self) -> float:
        """After an empty hand: how long asking again is in vain."""
        return max(self._again_at - self._clock.monotonic(), 0.0)

    async def available(self, next_parts: int, waiting_parts: int) -> int | None:
        """Parts in hand, drawn when the next text needs more than there are; None: no limit."""
        have = self._slice.available(self._clock.monotonic())
        if have is None or self._rate is None:
            return None
        if have >= next_parts or (next_parts >= self._refused_parts and self.wait_seconds > 0):
            return have
        async with alone(self._database) as tx:
            if not self._is_open:
                await store.open_bucket(tx, self._name)
            wanted = rule.ask(self._rate, next_parts - have, waiting_parts - have)
            granted, left = await store.draw(tx, self._name, self._rate, next_parts - have, wanted)
        self._is_open = True
        now = self._clock.monotonic()
        if granted:
            self._slice = self._slice.add(granted, now)
            self._granted.append((now, granted))
        if granted < wanted:
            if now - self._short_at >= SHARE_SECONDS:
                self._short_since = now
            self._short_at = now
        self._refused_parts = next_parts
        self._again_at = now + rule.seconds_until(left, self._rate, next_parts - have - granted)
        return self._slice.available(now)

    def per_second(self) -> float | None:
        """Parts that this replica gets: all of the rate, but no more than it got lately while there was not enough for
        everybody. None: no limit."""
        now = self._clock.monotonic()
        while self._granted and self._granted[0][0] <= now - SHARE_SECONDS:
            self._granted.popleft()
        is_short = now - self._short_at < SHARE_SECONDS
        if self._rate is None or not is_short or now - self._short_since < SHARE_SECONDS:
            return self._rate
        return min(self._rate, sum(parts for _, parts in self._granted) / SHARE_SECONDS)

    def in_hand(self) -> int:
        """Of a rate that has a limit: what `spend` can take now."""
        return self._slice.available(self._clock.monotonic()) or 0

    def spend(self, parts: int) -> None:
        self._slice = self._slice.spend(parts, self._clock.monotonic())
