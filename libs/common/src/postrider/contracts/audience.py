"""Scheduler asks, segment-engine answers: snapshots of an audience, its zones, page by page.

`audience-requests` (key run_id): SnapshotRequested, ZoneRequested, UnexpandedSettled.
`qualified-users-bulk`: AudienceSnapshotted, AudiencePage. All are idempotent by their names:
(run_id), (run_id, zone), (run_id, zone, page).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct

SNAPSHOT_REQUESTED = "audience.snapshot_requested"
ZONE_REQUESTED = "audience.zone_requested"
UNEXPANDED_SETTLED = "audience.unexpanded_settled"
SNAPSHOTTED = "audience.snapshotted"
PAGE = "audience.page"
REFUSED = "audience.refused"


class SnapshotRequested(Struct, frozen=True):
    """Evaluate the campaign's rule once, after history has passed the log's end as it was at `requested_at`.

    `rule` is given whole when the campaign has its own; `segment_id` is resolved by the engine at evaluation.
    """

    run_id: str
    campaign_id: str
    occurrence: str
    seed: int
    requested_at: datetime
    rule: dict[str, Any] | None = None
    segment_id: str | None = None


class ZoneRequested(Struct, frozen=True):
    """Stream the pages of one zone. `references` say which values each person's record must carry."""

    run_id: str
    campaign_id: str
    occurrence: str
    zone: str
    what_version: int
    profile_references: list[str]
    page_size: int


class UnexpandedSettled(Struct, frozen=True):
    """People of these zones whose pages were never used: write them into the message log with this outcome.

    `zones` maps a zone to the number of its people (by rank) that were expanded already.
    """

    run_id: str
    campaign_id: str
    occurrence: str
    zones: dict[str, int]
    status: str
    reason: str
    at: datetime


class AudienceSnapshotted(Struct, frozen=True):
    run_id: str
    campaign_id: str
    occurrence: str
    total: int
    reachable: int
    zones: dict[str, int]


class AudienceRefused(Struct, frozen=True):
    """The audience cannot be evaluated (its segment is gone, say). The run ends with `reason`."""

    run_id: str
    campaign_id: str
    occurrence: str
    reason: str


class PageUser(Struct, frozen=True, omit_defaults=True):
    """`verdict`: "" = may be texted, otherwise unreachable | suppressed | duplicate_phone | cancelled (erased)."""

    user_id: str
    rank: int
    verdict: str = ""
    reason: str = ""
    phone: str = ""
    country: str | None = None
    profile: dict[str, Any] = {}


class AudiencePage(Struct, frozen=True):
    """Page `page` (from 0) of a zone; `last` closes the zone. An empty zone has one empty last page."""

    run_id: str
    campaign_id: str
    occurrence: str
    zone: str
    page: int
    last: bool
    what_version: int
    users: list[PageUser]
