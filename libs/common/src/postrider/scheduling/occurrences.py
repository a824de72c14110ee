"""Which occurrences a campaign has, at which nominal local time, and when the first and the last zone can reach them.

Must not know audiences: what a zone makes of the local time is `zone_plan`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Final

import msgspec

from postrider.contracts.definitions import CampaignDefinition, When
from postrider.scheduling.recurrences import Pattern, read_recurrence, read_time
from postrider.zones import earliest_instant, is_past_everywhere, load_zone, to_instant

USER_ZONE = "user"
ACCOUNT_ZONE = "account"
BEST_TIME = "best_time"
ONE_TIME, MULTIPLE_DATES, RECURRING = "one_time", "multiple_dates", "recurring"
SCHEDULED_KINDS = frozenset({ONE_TIME, MULTIPLE_DATES, RECURRING})
ONCE = "once"

_DAY: Final = timedelta(days=1)
_SECOND: Final = timedelta(seconds=1)
_LAST_MINUTE: Final = time(23, 59)
_LAST_TO_SEE_A_DAY: Final = timedelta(hours=12)
_MOVED_BY_CLOCKS: Final = timedelta(hours=26)
"""By how much clocks that jump can put a local time behind a later one: a day that does not exist, and an hour."""
_LONGEST_MOVE: Final = timedelta(hours=50)
"""How long after scheduling `next_day` can be due: the next day's local time, a day that does not exist in between."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """When one occurrence is due. `local` None: now, that is at `scheduled_at`, or when an edit last changed the times.

    `zone` None: each person's own zone; otherwise the zone all of them are reckoned in. `account_zone` stands in for
    a person's zone that the time-zone data here does not have. `best_time`: of `local` only the day counts, the time is
    each person's own. `others`: ascending, the local times of the occurrences that clocks or a `next_day` may put at or
    behind this one: those of the day before, of two days after it, and the first later than that. `start`, `end`: local
    bounds of a recurrence; the minute that `end` names is still inside.
    """

    local: datetime | None
    zone: str | None
    passed_zone: str
    scheduled_at: datetime
    send_by: timedelta
    catch_up: timedelta
    account_zone: str = "UTC"
    best_time: bool = False
    others: tuple[datetime, ...] = ()
    start: datetime | None = None
    end: datetime | None = None

    @property
    def following(self) -> datetime | None:
        """The next nominal time."""
        return next((slot for slot in self.others if self.local is not None and slot > self.local), None)


@dataclass(frozen=True, slots=True)
class Occurrence:
    """`name` is part of the key of every send: `once`, or the nominal local time as ISO 8601 with seconds."""

    name: str
    schedule: Schedule


def is_scheduled(campaign: CampaignDefinition) -> bool:
    """Whether the campaign has runs. Live campaigns have none."""
    return campaign.kind in SCHEDULED_KINDS


def occurrences(
    kind: str, when: When, account_zone: str, scheduled_at: datetime, after: str | None = None
) -> Iterator[Occurrence]:
    """The occurrences of a campaign in the order of their local times, lazily; those behind the name `after`.

    Raises ValueError for a definition that means nothing. None at all for kinds that are not scheduled.
    """
    base = _base(when, account_zone, scheduled_at)
    if kind == ONE_TIME:
        if after is None:
            yield Occurrence(ONCE, replace(base, local=_local(when.at)))
        return
    behind = None if after is None else datetime.fromisoformat(after)
    low = None if behind is None else behind + _SECOND - _MOVED_BY_CLOCKS
    for slot, others in _with_others(_slots(kind, when, base, scheduled_at, low)):
        if behind is None or slot > behind:
            yield Occurrence(name_of(slot), replace(base, local=slot, others=others))


def schedule_of(
    campaign: CampaignDefinition, account_zone: str, scheduled_at: datetime, occurrence: str = ONCE
) -> Schedule:
    """The schedule of one occurrence by its name, also of one that an edit has since taken out of the plan.

    Cheap when repeated: each page of an audience asks again, and a rule may have to count from long ago.
    """
    when = msgspec.msgpack.encode(campaign.when)
    return _schedule_of(campaign.kind, when, account_zone, scheduled_at, occurrence)


@lru_cache(maxsize=1024)
def _schedule_of(kind: str, encoded: bytes, account_zone: str, scheduled_at: datetime, occurrence: str) -> Schedule:
    when = msgspec.msgpack.decode(encoded, type=When)
    base = _base(when, account_zone, scheduled_at)
    if kind not in (MULTIPLE_DATES, RECURRING):
        return replace(base, local=_local(when.at))
    local = datetime.fromisoformat(occurrence)
    others = []
    for slot in _slots(kind, when, base, scheduled_at, local - _MOVED_BY_CLOCKS):
        if slot != local:
            others.append(slot)
        if slot > local + _LONGEST_MOVE:
            break
    return replace(base, local=local, others=tuple(others))


def is_occurrence(campaign: CampaignDefinition, account_zone: str, scheduled_at: datetime, name: str) -> bool:
    """Whether the campaign, as it is now, has this occurrence: an edit may have taken it out."""
    if campaign.kind == ONE_TIME:
        return name == ONCE
    try:
        local = datetime.fromisoformat(name)
    except ValueError:
        return False
    if name_of(local) != name:
        return False
    base = _base(campaign.when, account_zone, scheduled_at)
    return next(_slots(campaign.kind, campaign.when, base, scheduled_at, local), None) == local


def name_of(slot: datetime) -> str:
    return slot.isoformat(timespec="seconds")


def slots_from(kind: str, when: When, account_zone: str, scheduled_at: datetime, low: datetime) -> Iterator[Occurrence]:
    """As `occurrences`, from the nominal time `low` on."""
    return occurrences(kind, when, account_zone, scheduled_at, name_of(low - _SECOND) if kind != ONE_TIME else None)


def earliest_due(schedule: Schedule) -> datetime:
    """No zone can be due before this. Zones that had passed when it was scheduled may be due at once."""
    if schedule.local is None:
        return schedule.scheduled_at
    if schedule.zone is None:
        local = datetime.combine(schedule.local, time.min) if schedule.best_time else schedule.local
        return max(earliest_instant(local), schedule.scheduled_at)
    return max(to_instant(schedule.local, schedule.zone).at, schedule.scheduled_at)


def latest_due(schedule: Schedule) -> datetime:
    """No zone can be due after this, quiet hours apart."""
    moved = schedule.scheduled_at + _LONGEST_MOVE
    if schedule.local is None:
        return moved if schedule.best_time else schedule.scheduled_at
    if schedule.zone is None:
        local = datetime.combine(schedule.local, _LAST_MINUTE) if schedule.best_time else schedule.local
        last = (local + _LAST_TO_SEE_A_DAY).replace(tzinfo=UTC)
    else:
        last = to_instant(schedule.local, schedule.zone).at
    may_have_passed = _first_reach(schedule) < schedule.scheduled_at and schedule.passed_zone == "next_day"
    return max(last, moved if may_have_passed else schedule.scheduled_at)


def request_at(schedule: Schedule, lead: timedelta) -> datetime:
    """When the audience is asked for: `lead` ahead of the first zone, and not before the campaign was scheduled."""
    return max(earliest_due(schedule) - lead, schedule.scheduled_at)


def anchor_of(pattern: Pattern, zone: str, scheduled_at: datetime) -> date:
    """DTSTART of a recurrence: the day of its start, else the day on which it was scheduled on that zone's calendar."""
    return pattern.start.date() if pattern.start is not None else scheduled_at.astimezone(load_zone(zone)).date()


def _base(when: When, account_zone: str, scheduled_at: datetime) -> Schedule:
    zone: str | None = when.time_zone
    if zone in (USER_ZONE, BEST_TIME):
        zone = None
    elif zone == ACCOUNT_ZONE:
        zone = account_zone
    pattern = None if when.recurrence is None else read_recurrence(when.recurrence)
    return Schedule(
        local=None,
        zone=zone,
        passed_zone=when.passed_zone,
        scheduled_at=scheduled_at if when.changed_at is None else max(scheduled_at, when.changed_at),
        send_by=timedelta(seconds=when.send_by_seconds),
        catch_up=timedelta(seconds=when.catch_up_seconds),
        account_zone=account_zone,
        best_time=when.time_zone == BEST_TIME,
        start=None if pattern is None else pattern.start,
        end=None if pattern is None else pattern.end,
    )


def _slots(kind: str, when: When, base: Schedule, scheduled_at: datetime, low: datetime | None) -> Iterator[datetime]:
    """Nominal local times, ascending, each once; at best time each day once: a person's time comes once a day.

    A recurrence counts from `scheduled_at` on, also when an edit came later and takes what had passed by then away.
    """
    if kind == MULTIPLE_DATES:
        dates = sorted({datetime.fromisoformat(text) for text in when.dates})
        if base.best_time:
            dates = [slot for at, slot in enumerate(dates) if at == 0 or dates[at - 1].date() != slot.date()]
        return (slot for slot in dates if low is None or slot >= low)
    if kind != RECURRING or when.recurrence is None:
        return iter(())
    pattern = read_recurrence(when.recurrence)
    if base.best_time:
        pattern = replace(pattern, times=pattern.times[:1])
    first = replace(base, scheduled_at=scheduled_at)
    anchor = anchor_of(pattern, base.zone or base.account_zone, scheduled_at)
    ahead = base.scheduled_at.astimezone(UTC).replace(tzinfo=None) - _LONGEST_MOVE
    slots = pattern.slots(anchor, ahead if low is None else max(low, ahead), lambda slot: _is_passed(first, slot))
    return (slot for slot in slots if not _is_passed(base, slot)) if when.changed_at is not None else slots


def _with_others(slots: Iterator[datetime]) -> Iterator[tuple[datetime, tuple[datetime, ...]]]:
    around: deque[datetime] = deque()
    at = 0
    while True:
        while not around or around[-1] <= around[min(at, len(around) - 1)] + _LONGEST_MOVE:
            slot = next(slots, None)
            if slot is None:
                break
            around.append(slot)
        if at == len(around):
            return
        own = around[at]
        while around[0] < own - _MOVED_BY_CLOCKS:
            around.popleft()
            at -= 1
        yield own, tuple(slot for slot in around if slot != own)
        at += 1


def _is_passed(base: Schedule, slot: datetime) -> bool:
    """Whether a slot of a recurrence was over for everybody when the campaign was scheduled."""
    if base.zone is not None:
        return to_instant(slot, base.zone).at < base.scheduled_at
    return is_past_everywhere(datetime.combine(slot, _LAST_MINUTE) if base.best_time else slot, base.scheduled_at)


def _first_reach(schedule: Schedule) -> datetime:
    """When the first zone on Earth reached it, before or after it was scheduled."""
    assert schedule.local is not None
    if schedule.zone is not None:
        return to_instant(schedule.local, schedule.zone).at
    return earliest_instant(datetime.combine(schedule.local, time.min) if schedule.best_time else schedule.local)


def _local(at: str | None) -> datetime | None:
    return None if at is None else datetime.fromisoformat(at)


def fallback_time_of(when: When) -> time:
    """When somebody without a best time is due: the campaign's fallback time, else noon."""
    return read_time(when.fallback_time) if when.fallback_time is not None else time(12)
