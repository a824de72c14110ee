"""When a run is due in each zone of its audience, and what becomes of a zone that was missed.

Source of the rules: semantics.md §4. "Passed" is judged by the moment the campaign was scheduled and follows
`passed_zone`; what is missed later, by downtime, falls under catch-up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from postrider.zones import Instant, is_zone, to_instant
from scheduler.domain.occurrences import Schedule

ZONE_PASSED = "zone_passed"
SKIPPED_DAY = "skipped_day"
MISSED = "missed"
DEADLINE = "deadline"

_DAY = timedelta(days=1)
SHORTEST_CATCH_UP = timedelta(seconds=5)
"""The ordinary delay of a run that misses nothing; a shorter catch-up would expire runs that are on time."""


@dataclass(frozen=True, slots=True)
class Due:
    """`send_by` counts from `at`, the moved due of a `next_day` zone included."""

    at: datetime
    send_by: datetime


@dataclass(frozen=True, slots=True)
class Unsent:
    """Nobody of the zone is texted: expired, with this reason. `at`: when it would have been due."""

    reason: str
    at: datetime

    @property
    def is_dropped(self) -> bool:
        """By the calendar or the campaign's choice, not by downtime."""
        return self.reason in (ZONE_PASSED, SKIPPED_DAY)


ZoneOutcome = Due | Unsent


def plan_zones(schedule: Schedule, zones: Iterable[str], now: datetime) -> dict[str, ZoneOutcome]:
    """What each zone of an audience that has just become known is in for."""
    return {zone: plan_zone(schedule, zone, now) for zone in zones}


def plan_zone(schedule: Schedule, zone: str, now: datetime) -> ZoneOutcome:
    # Zones are named by the engine, whose time-zone data may be newer: a name that is new must not lose its people.
    own = zone if is_zone(zone) else schedule.account_zone
    at = _due_at(schedule, schedule.zone or own)
    if isinstance(at, Unsent):
        return at
    due = Due(at, at + schedule.send_by)
    reason = missed_reason(due.at, due.send_by, schedule.catch_up, now)
    return Unsent(reason, due.at) if reason else due


def missed_reason(due_at: datetime, send_by: datetime, catch_up: timedelta, now: datetime) -> str:
    """Why a zone that is due cannot fire any more; "" when it can."""
    if now > due_at + max(catch_up, SHORTEST_CATCH_UP):
        return MISSED
    return DEADLINE if now >= send_by else ""


def _due_at(schedule: Schedule, zone: str) -> datetime | Unsent:
    if schedule.local is None:
        return schedule.scheduled_at
    instant = to_instant(schedule.local, zone)
    if instant.kind == "skipped":
        return Unsent(SKIPPED_DAY, instant.at)
    if instant.at >= schedule.scheduled_at:
        return instant.at
    if schedule.passed_zone == "send_now":
        return schedule.scheduled_at
    if schedule.passed_zone == "next_day":
        return _next_day(schedule.local, zone, schedule.scheduled_at).at
    return Unsent(ZONE_PASSED, instant.at)


def _next_day(local: datetime, zone: str, after: datetime) -> Instant:
    """The same local time on the first later day that exists and has not passed."""
    days = max(1, (after.replace(tzinfo=None) - local).days - 1)
    while True:
        instant = to_instant(local + days * _DAY, zone)
        if instant.kind != "skipped" and instant.at >= after:
            return instant
        days += 1
