"""Whether a text that waits may leave now: campaign, deadline, allowed intervals, and how long it stays valid.

Pure. The same conditions are checked again in the transaction that marks it SUBMITTING (store/marks.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from math import floor

from msgspec import Struct

from postrider.contracts.definitions import CampaignDefinition

Interval = tuple[datetime, datetime]

_SENDING = frozenset({"scheduled", "running", "completed"})


class Admitted(Struct, frozen=True):
    """`validity_seconds`: how long the provider may try."""

    validity_seconds: int


class WaitUntil(Struct, frozen=True):
    at: datetime
    reason: str


class Missed(Struct, frozen=True):
    """No allowed interval is left. `status`: expired, or quiet_hours where the job says discard."""

    status: str
    reason: str


def campaign_says(campaign: CampaignDefinition | None) -> str:
    """send, hold or cancel. A campaign that is not there is one that was deleted."""
    if campaign is None or campaign.deleted:
        return "cancel"
    if campaign.status == "paused":
        return "hold"
    return "send" if campaign.status in _SENDING else "cancel"


def cancel_reason(campaign: CampaignDefinition | None) -> str:
    return "campaign_deleted" if campaign is None or campaign.deleted else f"campaign_{campaign.status}"


def admit(
    now: datetime, send_by: datetime, allowed: Sequence[Interval], on_hit: str, minimum_seconds: int | None = None
) -> Admitted | WaitUntil | Missed:
    """`allowed` empty: any time. `on_hit` says what a miss of all intervals is.

    A stretch shorter than the vendor's minimum validity is no use: wait for the next.
    """
    needed = max(minimum_seconds or 1, 1)
    if now >= send_by:
        return Missed("expired", "deadline")
    if not allowed:
        left = floor((send_by - now).total_seconds())
        return Admitted(left) if left >= needed else Missed("expired", "validity_too_short")
    stretches = sorted(allowed)
    later: list[Interval] = []
    for start, end in stretches:
        last = min(end, send_by)
        begin = max(start, now)
        if (last - begin).total_seconds() < needed:
            continue
        later.append((begin, last))
    if not later:
        if any(start <= now < end for start, end in stretches):
            return Missed("expired", "validity_too_short")
        return Missed("quiet_hours", "quiet_hours") if on_hit == "discard" else Missed("expired", "quiet_hours")
    begin, last = later[0]
    if begin > now:
        return WaitUntil(begin, "quiet_hours")
    return Admitted(floor((last - now).total_seconds()))
