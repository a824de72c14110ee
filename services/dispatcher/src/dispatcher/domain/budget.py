"""Rate of a provider in parts per second: how much a replica asks for, and how it spends what it got.

Pure. The shared bucket is one row in Postgres, refilled and drawn in one UPDATE (store/budget.py) by the same rule as
`refill`; a replica draws small slices of it and lets them lapse, so that replicas share fairly.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor

SLICE_SECONDS = 0.1
SLICE_LASTS_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Slice:
    """Parts in hand until `lapses_at` (monotonic). `parts` None: the provider has no limit."""

    parts: int | None = 0
    lapses_at: float = 0.0

    def available(self, now: float) -> int | None:
        if self.parts is None:
            return None
        return self.parts if now < self.lapses_at else 0

    def spend(self, parts: int, now: float) -> Slice:
        """Raises ValueError when it is not there: nobody overdraws."""
        have = self.available(now)
        if have is None:
            return self
        if parts > have:
            raise ValueError("overdrawn")
        return Slice(have - parts, self.lapses_at)

    def add(self, granted: int, now: float) -> Slice:
        have = self.available(now)
        return self if have is None else Slice(have + granted, now + SLICE_LASTS_SECONDS)


UNLIMITED = Slice(None)


def capacity(parts_per_second: float) -> float:
    """The most the shared bucket holds: what is left unused for longer is lost, so there is no burst after a pause. One
    part more than a slice, so that whoever comes for it a little late has lost nothing."""
    return 1.0 + parts_per_second * SLICE_SECONDS


def ask(parts_per_second: float, next_parts: int, waiting_parts: int) -> int:
    """How many parts to draw at once: a slice, no more than what waits, and enough for the next text."""
    return max(next_parts, min(waiting_parts, floor(parts_per_second * SLICE_SECONDS)))


def refill(tokens: float, elapsed_seconds: float, parts_per_second: float) -> float:
    return min(capacity(parts_per_second), tokens + max(elapsed_seconds, 0.0) * parts_per_second)


def grant(tokens: float, parts_per_second: float, at_least: int, wanted: int) -> int:
    """What a bucket of `tokens` gives. A text longer than the bucket is given on credit when the bucket is full: the
    bucket goes below zero and everybody waits until it is paid back."""
    if tokens < min(float(at_least), capacity(parts_per_second)):
        return 0
    return max(at_least, min(wanted, floor(tokens)))


def seconds_until(tokens: float, parts_per_second: float, at_least: int) -> float:
    """How long until a grant of `at_least` is possible, when nobody else draws."""
    missing = min(float(at_least), capacity(parts_per_second)) - tokens
    return max(missing / parts_per_second, 0.0)
