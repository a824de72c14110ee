"""How many calls a provider gets for texts that were refused before: a share of its first tries, as gRPC, Finagle and
Envoy have it, so that one who refuses is not asked ever more often.

A call that was of use (the provider took the text, or said what is wrong with it) costs nothing: a healthy provider
takes over all that another one refused. Pure; `now` is monotonic seconds; kept by each process for its own calls.
"""

from __future__ import annotations

from math import floor

SHARE = 0.2
"""Of first tries."""
PER_SECOND = 5.0
"""Whatever first tries there are, so that the last texts of a campaign do not wait for others to come."""
MOST = 100.0
"""What is saved up in good times, at least as much as may be under way at once."""


class RetryBudget:
    def __init__(self, most: float = MOST) -> None:
        self._most = most
        self._tokens = most
        self._at = 0.0

    def left(self, now: float) -> int:
        """So many more calls may begin."""
        self._pass(now)
        return floor(self._tokens)

    def first_try(self) -> None:
        self._tokens = min(self._tokens + SHARE, self._most)

    def spend(self, now: float) -> None:
        """A call for a text that was refused before begins. Below zero only by what was claimed meanwhile."""
        self._pass(now)
        self._tokens -= 1.0

    def was_of_use(self) -> None:
        self._tokens = min(self._tokens + 1.0, self._most)

    def _pass(self, now: float) -> None:
        if self._tokens < self._most and now > self._at:
            self._tokens = min(self._tokens + (now - self._at) * PER_SECOND, self._most)
        self._at = max(now, self._at)
