"""A campaign's next occurrences as they are answered. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from campaign_api.domain.campaign_changes import timing_of
from campaign_api.domain.campaign_states import TERMINAL, Status
from campaign_api.domain.errors import FieldProblem, Invalid
from campaign_api.domain.resource import Resource, rfc3339
from campaign_api.domain.snapshots import when_of
from postrider.scheduling.occurrences import ACCOUNT_ZONE, BEST_TIME, USER_ZONE
from postrider.scheduling.preview import preview
from postrider.zones import is_zone


def occurrences_of(
    campaign: Resource, settings: Mapping[str, Any], zone: str | None, limit: int, now: datetime
) -> dict[str, Any]:
    """Raises `Invalid` for a zone that is none."""
    if zone is not None and not is_zone(zone):
        raise Invalid([FieldProblem("/query/zone", "is no IANA time zone")])
    account_zone, named = settings["account_time_zone"], campaign.body["when"]["time_zone"]
    asked = zone or (account_zone if named in (ACCOUNT_ZONE, USER_ZONE, BEST_TIME) else named)
    scheduled_at = campaign.internal.get("scheduled_at")
    when = when_of(campaign.body, campaign.internal if scheduled_at else timing_of(campaign.body, settings))
    scheduled = datetime.fromisoformat(scheduled_at) if scheduled_at else None
    if Status(campaign.status) in TERMINAL:
        return {"zone": asked, "items": []}
    found = preview(campaign.body["kind"], when, account_zone, asked, now, scheduled, limit)
    return {
        "zone": asked,
        "items": [
            {"local": shown.local.isoformat(timespec="seconds"), "at": rfc3339(shown.at), "kind": shown.kind}
            for shown in found
        ],
    }
