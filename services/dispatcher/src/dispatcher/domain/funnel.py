"""Turns changes of single messages into conserving funnel moves, added up per campaign, run, variant and reason.

Pure. A move exists exactly when the message's status, or the provider that belongs to it, changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from msgspec import Struct

from dispatcher.domain.message import TEST_CAMPAIGN
from postrider.contracts.delivery_events import ACCEPTED_STATUSES, FunnelMoved

_WITH_PROVIDER = frozenset({"in_doubt", "unknown", "rejected", *ACCEPTED_STATUSES})


class Change(Struct, frozen=True):
    """One message before and after. Providers are those of the last attempt on each side."""

    campaign_id: str
    run_id: str
    variant: str
    from_status: str
    from_provider_id: str
    to_status: str
    to_provider_id: str
    reason: str = ""


def provider_of(status: str, provider_id: str) -> str:
    """The provider under which a message of this status is counted: none while pending, none where nobody was asked."""
    return provider_id if status in _WITH_PROVIDER else ""


def moves(changes: Iterable[Change]) -> list[FunnelMoved]:
    """Their sum, in order of first appearance. Changes that leave status and provider alone do not move anything, and
    test sends are in no funnel."""
    counts: Counter[tuple[str, ...]] = Counter()
    for change in changes:
        if change.campaign_id == TEST_CAMPAIGN:
            continue
        from_provider = provider_of(change.from_status, change.from_provider_id)
        to_provider = provider_of(change.to_status, change.to_provider_id)
        if (change.from_status, from_provider) == (change.to_status, to_provider):
            continue
        key = (
            change.campaign_id, change.run_id, change.variant, change.from_status, from_provider,
            change.to_status, to_provider, change.reason,
        )  # fmt: skip
        counts[key] += 1
    return [
        FunnelMoved(
            campaign_id=campaign, to_status=after, n=n, run_id=run, variant=variant, from_status=before,
            from_provider_id=from_provider, provider_id=to_provider, reason=reason,
        )
        for (campaign, run, variant, before, from_provider, after, to_provider, reason), n in counts.items()
    ]  # fmt: skip
