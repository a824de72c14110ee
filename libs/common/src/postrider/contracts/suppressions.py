"""Suppressions: phones that must not be texted, by HMAC, on a compacted topic. The dispatcher is the sole writer."""

from __future__ import annotations

from msgspec import Struct

from postrider.contracts.fields import Count, Id, Moment, Name

SUPPRESSION_CHANGED = "suppression.changed"


class SuppressionChanged(Struct, frozen=True):
    """`suppressed` False: the person opted in again. `version` grows with each change of one phone."""

    phone_hash: Id
    suppressed: bool
    version: Count
    reason: Name
    source: Name
    at: Moment
