"""Keeps texts away from a provider that is ill. Counts provider-health outcomes only: throttling, a bad number or a bad
text says nothing about the provider.

Pure state machine; `now` is monotonic seconds. closed → open after failures → half-open: one probe decides.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

FAILURES_TO_OPEN = 5
STALL_SECONDS = 4.0
"""A call under way and not one answer for so long counts as failure, so that the breaker opens before timeouts do. The
whole way from a provider's end to its open breaker shall take no more than five seconds."""
QUICK_STALL_SECONDS = 2.0
"""Of a provider that answers in a tenth of a second: each text that is still handed to one that hangs is in doubt."""
FIRST_OPEN_SECONDS = 2.0
LONGEST_OPEN_SECONDS = 30.0


def stall_seconds(usual_seconds: float | None) -> float:
    """`usual_seconds`: what its answers take; None: not known yet. One that is slow as a rule gets twice as long."""
    if usual_seconds is None:
        return STALL_SECONDS
    return max(QUICK_STALL_SECONDS, min(20 * usual_seconds, STALL_SECONDS), 2 * usual_seconds)


class Breaker(Struct, frozen=True):
    """`failures` in a row. While `open_until` is ahead nobody calls; then `probing` lets exactly one call out."""

    failures: int = 0
    open_until: float | None = None
    open_seconds: float = FIRST_OPEN_SECONDS
    probing: bool = False

    @property
    def state(self) -> str:
        if self.open_until is None:
            return "closed"
        return "half_open" if self.probing else "open"

    def room(self, now: float, wanted: int) -> int:
        """How many calls may begin now."""
        if self.open_until is None:
            return wanted
        return min(wanted, 1) if now >= self.open_until and not self.probing else 0

    def lets_through(self, now: float) -> bool:
        """Whether routing may choose this provider: closed, or due for a probe."""
        return self.open_until is None or (now >= self.open_until and not self.probing)

    def begun(self) -> Breaker:
        """A call begins: in the open state it is the probe."""
        return self if self.open_until is None else replace(self, probing=True)

    def not_begun(self) -> Breaker:
        """The probe did not happen after all."""
        return replace(self, probing=False)

    def success(self) -> Breaker:
        return self if self.open_until is None and not self.failures else Breaker()

    def neutral(self) -> Breaker:
        """An answer that shows the provider alive, though not willing: ends a probe well."""
        return Breaker() if self.open_until is not None else self

    def failure(self, now: float) -> Breaker:
        if self.open_until is not None:
            if not self.probing:
                return self
            longer = min(self.open_seconds * 2, LONGEST_OPEN_SECONDS)
            return Breaker(self.failures + 1, now + longer, longer)
        failures = self.failures + 1
        if failures < FAILURES_TO_OPEN:
            return replace(self, failures=failures)
        return Breaker(failures, now + self.open_seconds, self.open_seconds)

    def stalled(self, now: float) -> Breaker:
        """Calls are under way and none has been answered for `stall_seconds`."""
        if self.open_until is not None:
            return self
        return Breaker(FAILURES_TO_OPEN, now + self.open_seconds, self.open_seconds)
