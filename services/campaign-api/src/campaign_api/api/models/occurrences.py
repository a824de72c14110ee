"""The occurrences of a campaign as they are answered."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from campaign_api.api.models.base import Model


class Occurrence(Model):
    local: str = Field(description="The nominal local time, on the clock the campaign goes by.")
    at: str = Field(description="When it happens in the zone, RFC 3339, UTC.")
    kind: Literal["normal", "gap", "fold", "skipped", "expired"] = Field(
        description="gap: the clocks jump over it, so it moved forward. fold: it happens twice, this is the first. "
        "skipped: there is no such day, nothing is sent. expired: over when the campaign is "
        "scheduled, behind its end, or at one moment with a later one that is sent instead."
    )


class Occurrences(Model):
    zone: str = Field(description="The zone they are reckoned for.")
    items: list[Occurrence] = Field(description="In the order of their local times.")
