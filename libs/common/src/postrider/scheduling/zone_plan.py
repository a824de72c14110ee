"""When an occurrence is due in each zone of its audience, and what becomes of a zone that was missed.

Source of the rules: semantics.md §4. "Passed" is judged by the moment the campaign was scheduled and follows
`passed_zone`; what is missed later, by downtime, falls under catch-up. Of several missed occurrences the newest fires.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta

from postrider.scheduling.occurrences import Schedule, latest_due
from postrider.scheduling.zone_slots import read_slot
from postrider.zones import Instant, Kind, is_zone, load_zone, to_instant

ZONE_PASSED = "zone_passed"
SKIPPED_DAY = "skipped_day"
CAMPAIGN_ENDED = "campaign_ended"
MISSED = "missed"
COALESCED = "coalesced"
DEADLINE = "deadline"
HELD_TOO_LONG = "campaign_paused"
"""Its deadline came in a pause; the dispatcher says the same of what it held."""

_DAY = timedelta(days=1)
_MINUTE = timedelta(minutes=1)
SHORTEST_CATCH_UP = timedelta(seconds=5)
"""The ordinary delay of a run that misses nothing; a shorter catch-up would expire runs that are on time."""


@dataclass(frozen=True, slots=True)
class Due:
    """`send_by` counts from `at`, the moved due of a `next_day` zone included, and ends with the campaign.

    `kind`: whether the clocks moved it. `following_at`: when the campaign's next occurrence is due here.
    """

    at: datetime
    send_by: datetime
    kind: Kind = "normal"
    following_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Unsent:
    """Nobody of the zone is texted: expired, with this reason. `at`: when it would have been due."""

    reason: str
    at: datetime

    @property
    def is_dropped(self) -> bool:
        """By the calendar or the campaign's choice, not by downtime."""
        return self.reason in (ZONE_PASSED, SKIPPED_DAY, CAMPAIGN_ENDED)


ZoneOutcome = Due | Unsent


def plan_zones(
    schedule: Schedule, slots: Iterable[str], now: datetime, resumed_at: datetime | None = None
) -> dict[str, ZoneOutcome]:
    """What each zone (slot) of an audience that has just become known is in for."""
    return {slot: plan_zone(schedule, slot, now, resumed_at) for slot in slots}


def plan_zone(schedule: Schedule, slot: str, now: datetime, resumed_at: datetime | None = None) -> ZoneOutcome:
    """`resumed_at`: the end of a pause, which held what came due before it; it is not missed by us."""
    due = due_in(schedule, slot)
    if isinstance(due, Unsent):
        return due
    if resumed_at is not None and due.send_by <= resumed_at:
        return Unsent(HELD_TOO_LONG, due.at)
    at = due.at if resumed_at is None else max(due.at, resumed_at)
    reason = missed_reason(at, due.send_by, schedule.catch_up, now, due.following_at)
    return Unsent(reason, due.at) if reason else due


def due_in(schedule: Schedule, slot: str) -> ZoneOutcome:
    """When a slot is due by the calendar, whatever the time is now. `slot`: see `zone_slots`."""
    own, at_time = read_slot(slot)
    zone = _zone_of(schedule, own)
    instant = _instant_in(schedule, zone, at_time)
    if isinstance(instant, Unsent):
        return instant
    at, send_by = instant.at, instant.at + schedule.send_by
    if schedule.start is not None and at.astimezone(load_zone(zone)).replace(tzinfo=None) < schedule.start:
        at = max(at, to_instant(schedule.start, zone).at)
        send_by = at + schedule.send_by
    end = _end_at(schedule, zone)
    if end is not None:
        if at >= end:
            return Unsent(CAMPAIGN_ENDED, at)
        send_by = min(send_by, end)
    return Due(at, send_by, instant.kind, _following_at(schedule, zone, at_time))


def end_at(schedule: Schedule, slot: str) -> datetime | None:
    """When the campaign ends in a slot: the cap of deadlines that quiet hours move."""
    return _end_at(schedule, _zone_of(schedule, read_slot(slot)[0]))


def missed_reason(
    due_at: datetime, send_by: datetime, catch_up: timedelta, now: datetime, following_at: datetime | None = None
) -> str:
    """Why a zone that is due cannot fire any more; "" when it can."""
    if now > due_at + max(catch_up, SHORTEST_CATCH_UP):
        return MISSED
    if following_at is not None and now >= following_at:
        return COALESCED
    return DEADLINE if now >= send_by else ""


def missed_everywhere_reason(schedule: Schedule, now: datetime) -> str:
    """Why an occurrence can fire in no zone any more, so that it needs no audience; "" when it still may."""
    if now > latest_due(schedule) + max(schedule.catch_up, SHORTEST_CATCH_UP):
        return MISSED
    taken_over_at = _taken_over_everywhere_at(schedule)
    return COALESCED if taken_over_at is not None and now >= taken_over_at else ""


def _taken_over_everywhere_at(schedule: Schedule) -> datetime | None:
    if schedule.zone is not None:
        return _following_at(schedule, schedule.zone, None)
    return latest_due(replace(schedule, local=schedule.following)) if schedule.following is not None else None


def _end_at(schedule: Schedule, zone: str) -> datetime | None:
    if schedule.end is None:
        return None
    return to_instant(schedule.end.replace(second=0, microsecond=0) + _MINUTE, zone).at


def _zone_of(schedule: Schedule, own: str) -> str:
    # Zones are named by the engine, whose time-zone data may be newer: a name that is new must not lose its people.
    return schedule.zone or (own if is_zone(own) else schedule.account_zone)


def _instant_in(schedule: Schedule, zone: str, at_time: time | None) -> Instant | Unsent:
    if schedule.local is None:
        return _next_time(schedule.scheduled_at, zone, at_time)
    local = schedule.local if at_time is None else datetime.combine(schedule.local, at_time)
    instant = to_instant(local, zone)
    if instant.kind == "skipped":
        return Unsent(SKIPPED_DAY, instant.at)
    if instant.at >= schedule.scheduled_at:
        return instant
    if schedule.passed_zone == "send_now":
        return Instant(schedule.scheduled_at, "normal")
    if schedule.passed_zone == "next_day":
        moved = _next_day(local, zone, schedule.scheduled_at)
        following = _following_at(schedule, zone, at_time)
        # The next occurrence serves them: two texts at one moment, or in the wrong order, are nobody's wish.
        if following is None or moved.at < following:
            return moved
    return Unsent(ZONE_PASSED, instant.at)


def _next_time(now: datetime, zone: str, at_time: time | None) -> Instant:
    """ "Now": at once, or at best time when the clock next shows that time."""
    if at_time is None:
        return Instant(now, "normal")
    today = now.astimezone(load_zone(zone)).date()
    return _next_day(datetime.combine(today - 2 * _DAY, at_time), zone, now)


def _next_day(local: datetime, zone: str, after: datetime) -> Instant:
    """The same local time on the first later day that exists and has not passed."""
    days = max(1, (after.replace(tzinfo=None) - local).days - 1)
    while True:
        instant = to_instant(local + days * _DAY, zone)
        if instant.kind != "skipped" and instant.at >= after:
            return instant
        days += 1


def _following_at(schedule: Schedule, zone: str, at_time: time | None) -> datetime | None:
    """By the instants: where clocks jump, a later nominal time can come before an earlier one."""
    if schedule.local is None or not schedule.others:
        return None
    own_local, *locals = (
        local if at_time is None else datetime.combine(local, at_time) for local in (schedule.local, *schedule.others)
    )
    own = to_instant(own_local, zone)
    earlier, later = [at for at in locals if at < own_local], [at for at in locals if at > own_local]
    behind = []
    for local in later:
        instant = to_instant(local, zone)
        if instant.kind != "skipped" and instant.at >= own.at:
            behind.append(instant.at)
            if instant.kind != "gap":  # what is later by name and not moved is later by instant
                break
    if earlier and _offset(earlier[0], to_instant(earlier[0], zone)) != _offset(own_local, own):
        instants = (to_instant(local, zone) for local in earlier)
        behind += [instant.at for instant in instants if instant.kind == "gap" and instant.at > own.at]
    return min(behind, default=None)


def _offset(local: datetime, instant: Instant) -> timedelta:
    """By what the clock is ahead of UTC where it shows the time; of one that is moved, before the jump."""
    return local - instant.at.replace(tzinfo=None)
