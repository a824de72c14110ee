"""Who is in a percentage: by hash, so that the same people are, whoever asks and however often.

Uniform, stable per person, and independent from one purpose to the next, since each has a seed of its own. The event
store computes the same in SQL:
`reinterpretAsUInt64(reverse(substring(SHA256(concat(seed, '\\n', user_id)), 1, 8))) % 1000000 < threshold(percent)`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

WHOLE: Final = 1_000_000
"""A percentage counts in millionths: four decimals of a percent."""


def account_control_seed() -> str:
    """The same people are out of every campaign."""
    return "control:account"


def campaign_control_seed(campaign_id: str) -> str:
    return f"control:{campaign_id}"


def reach_seed(of: str) -> str:
    """`of`: the run (each run reaches others), or the campaign where there are no runs."""
    return f"reach:{of}"


def share_of(seed: str, user_id: str) -> int:
    """Where a person falls in [0, WHOLE)."""
    digest = hashlib.sha256(f"{seed}\n{user_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % WHOLE


def threshold(percent: float) -> int:
    """How many of WHOLE a percentage takes."""
    return round(min(max(percent, 0.0), 100.0) * (WHOLE / 100))


def ranked(seed: int, user_ids: Iterable[str]) -> list[str]:
    """The random order of a run's people, as the event store ranks them: whoever is first takes what a limit leaves."""
    return sorted(user_ids, key=lambda user_id: (hashlib.sha256(f"{seed}\n{user_id}".encode()).digest(), user_id))


def is_in_share(seed: str, user_id: str, percent: float) -> bool:
    limit = threshold(percent)
    if limit in (0, WHOLE):
        return limit == WHOLE
    return share_of(seed, user_id) < limit
