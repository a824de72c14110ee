"""Scheduler asks, segment-engine answers: snapshots of an audience, its zones, page by page.

`audience-requests` (key run_id): SnapshotRequested, ZoneRequested, UnexpandedSettled.
`qualified-users-bulk`: AudienceSnapshotted, AudiencePage. All are idempotent by their names:
(run_id), (run_id, zone), (run_id, zone, page).
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from postrider.contracts.fields import Count, Id, Moment, Name, SmallCount

PageSize = Annotated[int, Meta(ge=1, le=10_000)]

SNAPSHOT_REQUESTED = "audience.snapshot_requested"
ZONE_REQUESTED = "audience.zone_requested"
UNEXPANDED_SETTLED = "audience.unexpanded_settled"
SNAPSHOTTED = "audience.snapshotted"
PAGE = "audience.page"
REFUSED = "audience.refused"


class BestTime(Struct, frozen=True):
    """Each person is due in their most active two hours of a local day, by this event ("" = any); whoever has none, at
    `fallback_time` ("HH:MM"). Zones of the answer are then slots (`scheduling.zone_slots`)."""

    event: str
    fallback_time: Id


class SnapshotRequested(Struct, frozen=True):
    """Evaluate the campaign's rule once, after history has passed the log's end as it was at `requested_at`.

    `rule` is given whole when the campaign has its own; `segment_id` is resolved by the engine at evaluation. Of those
    who could be texted, the shares of `scheduling.shares` are left out as control or not_in_reach before ranks are
    given.
    """

    run_id: Id
    campaign_id: Id
    occurrence: Name
    seed: Count
    requested_at: Moment
    rule: dict[str, Any] | None = None
    segment_id: Id | None = None
    account_control_percent: float = 0.0
    control_percent: float = 0.0
    reach_percent: float = 100.0
    best_time: BestTime | None = None


class ZoneRequested(Struct, frozen=True):
    """Stream the pages of one zone. `references` say which values each person's record must carry."""

    run_id: Id
    campaign_id: Id
    occurrence: Name
    zone: Id
    what_version: SmallCount
    profile_references: list[Name]
    page_size: PageSize


class UnexpandedSettled(Struct, frozen=True):
    """People of these zones whose pages were never used: write them into the message log with this outcome.

    `zones` maps a zone to the number of its people (by rank) that were expanded already.
    """

    run_id: Id
    campaign_id: Id
    occurrence: Name
    zones: dict[Id, SmallCount]
    status: Id
    reason: Name
    at: Moment


class AudienceSnapshotted(Struct, frozen=True):
    run_id: Id
    campaign_id: Id
    occurrence: Name
    total: Count
    reachable: Count
    zones: dict[Id, SmallCount]


class AudienceRefused(Struct, frozen=True):
    """The audience cannot be evaluated (its segment is gone, say). The run ends with `reason`."""

    run_id: Id
    campaign_id: Id
    occurrence: Name
    reason: Name


class PageUser(Struct, frozen=True, omit_defaults=True):
    """`verdict`: "" = may be texted, otherwise unreachable | suppressed | duplicate_phone | control | not_in_reach |
    cancelled (erased). `rank` is the place in the run's random order; those who may be texted come first."""

    user_id: Name
    rank: Count
    verdict: Id = ""
    reason: Name = ""
    phone: Id = ""
    country: Id | None = None
    profile: dict[str, Any] = {}


class AudiencePage(Struct, frozen=True):
    """Page `page` (from 0) of a zone; `last` closes the zone. An empty zone has one empty last page."""

    run_id: Id
    campaign_id: Id
    occurrence: Name
    zone: Id
    page: SmallCount
    last: bool
    what_version: SmallCount
    users: list[PageUser]
