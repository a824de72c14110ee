"""Suppressions: phones that must not be texted, by HMAC, on a compacted topic. The dispatcher is the sole writer."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

SUPPRESSION_CHANGED = "suppression.changed"


class SuppressionChanged(Struct, frozen=True):
    """`suppressed` False: the person opted in again. `version` grows with each change of one phone."""

    phone_hash: str
    suppressed: bool
    version: int
    reason: str
    source: str
    at: datetime
