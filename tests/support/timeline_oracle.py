"""What comes to one person of a campaign: which of its times are texted when, with what passed, ended, or was missed.

Plain reckoning by docs/scheduling.md over `time_oracle.happens`; shares nothing else with `postrider.scheduling`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, time, timedelta

from postrider.contracts.definitions import Recurrence, When
from postrider.scheduling.occurrences import occurrences
from postrider.scheduling.zone_plan import Unsent, due_in, missed_reason
from postrider.zones import load_zone
from tests.support import time_oracle as oracle
from tests.support.time_oracle import DAY, MINUTE, happens

Sent = tuple[datetime, datetime]
"""At, and the deadline."""


@dataclass(frozen=True)
class Timeline:
    """`slots`: nominal times, ascending. `down`: nobody is there from the first moment to the second."""

    kind: str
    when: When
    zone: str
    slots: list[datetime]
    end: datetime | None
    scheduled_at: datetime
    down: tuple[datetime, datetime] | None

    def fires_at(self, at: datetime) -> datetime:
        return self.down[1] if self.down is not None and self.down[0] <= at < self.down[1] else at


def said(timeline: Timeline) -> dict[datetime, Sent | str]:
    """Nominal time → when it is sent, or why not, by the code."""
    found: dict[datetime, Sent | str] = {}
    for occurrence in occurrences(timeline.kind, timeline.when, timeline.zone, timeline.scheduled_at):
        schedule = occurrence.schedule
        assert schedule.local is not None
        due = due_in(schedule, timeline.zone)
        if isinstance(due, Unsent):
            found[schedule.local] = due.reason
            continue
        now = timeline.fires_at(due.at)
        reason = missed_reason(due.at, due.send_by, schedule.catch_up, now, due.following_at)
        found[schedule.local] = reason or (due.at, due.send_by)
    return found


def right(timeline: Timeline) -> dict[datetime, Sent | str]:
    """The same by the oracle."""
    when = timeline.when
    found: dict[datetime, Sent | str] = {}
    due: dict[datetime, Sent] = {}
    last = None if timeline.end is None else happens(timeline.end.replace(second=0) + MINUTE, timeline.zone).at
    for slot in timeline.slots:
        at = _due(timeline, slot)
        if isinstance(at, str):
            found[slot] = at
        elif last is not None and at >= last:
            found[slot] = "campaign_ended"
        else:
            send_by = at + timedelta(seconds=when.send_by_seconds)
            due[slot] = at, send_by if last is None else min(send_by, last)
    for slot, (at, send_by) in due.items():
        now = timeline.fires_at(at)
        if now - at > timedelta(seconds=when.catch_up_seconds):
            found[slot] = "missed"
        elif any(_place(timeline, slot) < _place(timeline, other) and due[other][0] <= now for other in due):
            found[slot] = "coalesced"
        else:
            found[slot] = "deadline" if now >= send_by else (at, send_by)
    return found


def _place(timeline: Timeline, slot: datetime) -> Sent:
    return happens(slot, timeline.zone).at, slot


def _due(timeline: Timeline, slot: datetime) -> datetime | str:
    zone, scheduled_at = timeline.zone, timeline.scheduled_at
    happening = happens(slot, zone)
    if happening.kind == "skipped":
        return "skipped_day"
    if happening.at >= scheduled_at:
        return happening.at
    if timeline.when.passed_zone == "drop":
        return "zone_passed"
    if timeline.when.passed_zone == "send_now":
        return scheduled_at
    day = slot + DAY
    while happens(day, zone).kind == "skipped" or happens(day, zone).at < scheduled_at:
        day += DAY
    moved = happens(day, zone).at
    others = [other for other in timeline.slots if happens(other, zone).kind != "skipped"]
    comes_by_then = any(happening.at < happens(other, zone).at <= moved for other in others)
    return "zone_passed" if comes_by_then else moved


def random_timeline(draw: random.Random, zones: list[str]) -> Timeline:
    """Most of them around a change of the clocks."""
    zone = draw.choice(zones)
    near_utc = draw.choice(oracle.changes(zone)) + draw.randint(-30 * 60, 30 * 60) * MINUTE
    near = oracle.wall(near_utc, load_zone(zone)).replace(second=0)
    step = draw.choice([1, 15])
    times = sorted({near + step * draw.randint(-1_800 // step, 3_000 // step) * MINUTE for _ in range(6)})
    scheduled_at = near_utc + draw.randint(-4_000, 600) * MINUTE
    begin = near_utc + draw.randint(-600, 300) * MINUTE
    down = draw.choice([None, (begin, begin + draw.randint(1, 1_500) * MINUTE)])
    by = draw.choice(["user", zone])
    when = When(
        time_zone=by,
        passed_zone=draw.choice(["drop", "next_day", "send_now"]),
        send_by_seconds=60 * draw.choice([1, 30, 240, 3_000]),
        catch_up_seconds=60 * draw.choice([1, 60, 600, 10_000]),
        dates=[at.isoformat() for at in times],
    )
    if draw.random() < 0.5:
        return Timeline("multiple_dates", when, zone, times, None, scheduled_at, down)
    clocks = sorted({at.time() for at in times})
    start = datetime.combine(near.date() - 2 * DAY, time(draw.randrange(24)))
    end = start + draw.randint(0, 5 * 1_440) * MINUTE
    rule = Recurrence("FREQ=DAILY", [f"{at:%H:%M}" for at in clocks], start.isoformat(), end.isoformat())
    slots = [datetime.combine(start.date() + day * DAY, at) for day in range(7) for at in clocks]
    ahead = [slot for slot in slots if start <= slot <= end and not _is_over(slot, by, zone, scheduled_at)]
    return Timeline("recurring", _recurring(when, rule), zone, ahead, end, scheduled_at, down)


def _recurring(when: When, rule: Recurrence) -> When:
    fields = {name: getattr(when, name) for name in when.__struct_fields__}
    return When(**fields | {"dates": [], "recurrence": rule})


def _is_over(slot: datetime, by: str, zone: str, scheduled_at: datetime) -> bool:
    """For everybody: such an occurrence of a recurrence is none."""
    if by == "user":
        return happens(slot, "Etc/GMT+12").at < scheduled_at
    return happens(slot, zone).at < scheduled_at
