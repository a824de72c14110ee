"""Fence and waits around one call, in seconds: what must be over before the lease is. Pure arithmetic in one place."""

from __future__ import annotations

CLAIM_SECONDS = 15.0
"""The lease of a claim: rendered and marked within it, or claimed anew."""
BEGIN_WITHIN_SECONDS = 0.5
"""A call that has not begun so long after its mark does not begin: a stop is followed within a second."""
CONFIRMED_WITHIN_SECONDS = 0.5
"""Definitions older than this let nobody claim or mark."""
MARGIN_SECONDS = 3.0
SETTLING_SECONDS = 15.0
"""Time to settle after the slowest call, before somebody else may take the text for abandoned."""


def lease_seconds(timeout_seconds: float) -> float:
    """Of a mark."""
    return BEGIN_WITHIN_SECONDS + timeout_seconds + MARGIN_SECONDS + SETTLING_SECONDS


def may_begin(now: float, marked_at: float, timeout_seconds: float) -> bool:
    """`marked_at`: monotonic, taken before the mark was sent to Postgres. Whether the call may still begin: it must
    end, at its slowest, while the lease is ours."""
    fence = marked_at + lease_seconds(timeout_seconds) - timeout_seconds - MARGIN_SECONDS
    return now <= fence and now - marked_at <= BEGIN_WITHIN_SECONDS


def doubt_seconds(timeout_seconds: float, in_doubt_wait_seconds: float) -> float:
    """From the mark to the moment at which a negative look-up proves something."""
    return BEGIN_WITHIN_SECONDS + timeout_seconds + in_doubt_wait_seconds
