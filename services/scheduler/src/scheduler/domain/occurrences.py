"""Which occurrences a campaign has, at which local time, and when the first zone on Earth can reach it.

Must not know audiences: what a zone makes of the local time is `zone_plan`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from postrider.contracts.definitions import CampaignDefinition
from postrider.zones import earliest_instant, to_instant

USER_ZONE = "user"
ACCOUNT_ZONE = "account"
SCHEDULED_KINDS = frozenset({"one_time"})
ONCE = "once"


@dataclass(frozen=True, slots=True)
class Schedule:
    """When one occurrence is due. `local` None: now, that is at `scheduled_at`.

    `zone` None: each person's own zone; otherwise the zone all of them are reckoned in. `account_zone` stands in for
    a person's zone that the time-zone data here does not have.
    """

    local: datetime | None
    zone: str | None
    passed_zone: str
    scheduled_at: datetime
    send_by: timedelta
    catch_up: timedelta
    account_zone: str = "UTC"


def is_scheduled(campaign: CampaignDefinition) -> bool:
    """Whether the campaign has runs. Live campaigns have none."""
    return campaign.kind in SCHEDULED_KINDS


def schedule_of(campaign: CampaignDefinition, account_zone: str, scheduled_at: datetime) -> Schedule:
    when = campaign.when
    zone: str | None = when.time_zone
    if zone == USER_ZONE:
        zone = None
    elif zone == ACCOUNT_ZONE:
        zone = account_zone
    return Schedule(
        local=None if when.at is None else datetime.fromisoformat(when.at),
        zone=zone,
        passed_zone=when.passed_zone,
        scheduled_at=scheduled_at,
        send_by=timedelta(seconds=when.send_by_seconds),
        catch_up=timedelta(seconds=when.catch_up_seconds),
        account_zone=account_zone,
    )


def earliest_due(schedule: Schedule) -> datetime:
    """No zone can be due before this. Zones that had passed when it was scheduled may be due at once."""
    if schedule.local is None:
        return schedule.scheduled_at
    if schedule.zone is None:
        return max(earliest_instant(schedule.local), schedule.scheduled_at)
    return max(to_instant(schedule.local, schedule.zone).at, schedule.scheduled_at)


def request_at(schedule: Schedule, lead: timedelta) -> datetime:
    """When the audience is asked for: `lead` ahead of the first zone, and not before the campaign was scheduled."""
    return max(earliest_due(schedule) - lead, schedule.scheduled_at)
