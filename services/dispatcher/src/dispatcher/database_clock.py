"""What time it is on the database's clock, between the answers that tell it. Decides nothing: SQL checks again."""

from __future__ import annotations

from datetime import datetime, timedelta

from postrider.clock import Clock


class DatabaseClock:
    """The last moment the database told, plus what has passed here since."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told: datetime | None = None
        self._told_at = 0.0

    def told(self, now: datetime) -> None:
        """`now` came with an answer that has just arrived."""
        self._told, self._told_at = now, self._clock.monotonic()

    def now(self) -> datetime:
        if self._told is None:
            return self._clock.now()
        return self._told + timedelta(seconds=self._clock.monotonic() - self._told_at)
