"""Campaigns of every kind at random, and what is done to them: pauses, resumes, edits, stops, clones.

A plan says what it is of by plain values (`Dates`, `Rule`); the definitions that the code under test reads are made of
them here, and the oracle reads the plain values.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from typing import Any

import msgspec

from postrider.contracts.definitions import (
    CampaignDefinition,
    Limits,
    QuietHours,
    QuietWindow,
    Recurrence,
    Trigger,
    Unless,
    What,
    When,
    Who,
)
from postrider.zones import load_zone
from tests.simulation.world import DAY, DAYS, HOUR, MINUTE, MOST_WANTED, Event, World
from tests.support.time_oracle import Spec, changes, rule_text, wall

SCHEDULED = ("one_time", "multiple_dates", "recurring")
LIVE = ("live_action", "live_inaction", "live_date")
KINDS = (*SCHEDULED, *LIVE)
NAMED = ["Australia/Lord_Howe", "America/New_York", "Asia/Kolkata", "Pacific/Kiritimati", "Etc/GMT+12", "Europe/Dublin"]
SPECS: list[dict[str, Any]] = [
    {"FREQ": "DAILY", "INTERVAL": 3},
    {"FREQ": "DAILY"},
    {"FREQ": "WEEKLY", "INTERVAL": 2, "BYDAY": ["MO", "SA"]},
    {"FREQ": "WEEKLY", "BYDAY": ["SU"]},
    {"FREQ": "MONTHLY", "BYMONTHDAY": [1, 31]},
    {"FREQ": "MONTHLY", "BYMONTHDAY": [29]},
    {"FREQ": "MONTHLY", "BYDAY": ["-1FR"]},
    {"FREQ": "YEARLY", "BYMONTH": [2, 3, 10, 12], "BYMONTHDAY": [30]},
]


@dataclass(frozen=True)
class Rule:
    """The plain values of a recurrence."""

    spec: Spec
    times: tuple[time, ...]
    start: datetime | None
    end: datetime | None
    count: int | None
    last_day: bool

    def recurrence(self) -> Recurrence:
        text = rule_text(self.spec) + ("" if self.count is None else f";COUNT={self.count}")
        return Recurrence(
            text,
            [f"{at:%H:%M}" for at in self.times],
            None if self.start is None else self.start.isoformat(),
            None if self.end is None else self.end.isoformat(),
            "last_day" if self.last_day else "skip",
        )


@dataclass(frozen=True)
class Version:
    """A definition, and when it is published. `dates`: of one_time ([] is "now") and multiple_dates."""

    at: datetime
    definition: CampaignDefinition
    dates: tuple[datetime, ...] = ()
    rule: Rule | None = None

    @property
    def status(self) -> str:
        return self.definition.status


@dataclass
class Plan:
    """`group`: whom its rule is about. `events`: what its trigger waits for. `day_of`: the dates people have."""

    id: str
    kind: str
    group: int
    versions: list[Version]
    events: list[Event] = field(default_factory=list)
    day_of: dict[str, date] = field(default_factory=dict)

    @property
    def scheduled_at(self) -> datetime:
        return self.versions[0].at

    def version_at(self, at: datetime) -> Version | None:
        known = [version for version in self.versions if version.at <= at]
        return known[-1] if known else None


def make_plans(seed: int, count: int, world: World) -> list[Plan]:
    chance = random.Random(f"plans {seed}")
    found = [_plan(chance, number, KINDS[number % len(KINDS)], world) for number in range(count)]
    for number in range(count // 40):
        found.append(_clone(chance, number, chance.choice(found), world))
    return found


def _plan(chance: random.Random, number: int, kind: str, world: World) -> Plan:
    days = (world.until - world.start).days
    scheduled_at = world.start + timedelta(seconds=chance.randrange(days * 60_000), milliseconds=1)
    if kind in SCHEDULED:
        dates, rule, when = _schedule(chance, kind, scheduled_at, world)
        who = Who(rule=rule_of(group := chance.randrange(world.groups)), limits=_limits(chance, when.time_zone))
    else:
        dates, rule, group = (), None, chance.randrange(world.groups)
        when = _live_when(chance, kind, scheduled_at)
        who = Who(trigger=_trigger(chance, kind, number), limits=_limits(chance, "live"))
    who = _with_shares(chance, who)
    definition = CampaignDefinition(
        f"cmp_{number}", 1, "scheduled", kind, "n", chance.choice(["transactional", "promotional"]), when, who, 1,
        {"1": What("Hi")}, scheduled_at,
    )  # fmt: skip
    plan = Plan(definition.campaign_id, kind, group, [Version(scheduled_at, definition, dates, rule)])
    plan.versions += _happenings(chance, plan.versions[0], world)
    if kind == "live_date":
        plan.day_of = {
            person.user: (scheduled_at + timedelta(days=chance.randrange(-3, min(120, days)))).date()
            for person in world.group(group)
        }
    elif kind in LIVE:
        plan.events = list(_events(chance, plan, world))
    return plan


def _clone(chance: random.Random, number: int, of: Plan, world: World) -> Plan:
    """The same once more, at another moment: people and events are those of the original."""
    first = of.versions[0]
    at = min(world.until - DAY, first.at + timedelta(seconds=chance.randrange(86_400 * 20)))
    id = f"cmp_clone_{number}"
    definition = _changed(first.definition, campaign_id=id, scheduled_at=at)
    plan = replace(of, id=id, versions=[replace(first, at=at, definition=definition)])
    plan.versions += _happenings(chance, plan.versions[0], world)
    return plan


def rule_of(group: int) -> dict[str, Any]:
    return {"attribute": {"name": "groups", "op": "in", "value": [group]}}


def _with_shares(chance: random.Random, who: Who) -> Who:
    return msgspec.structs.replace(
        who,
        reach_percent=chance.choice([100.0, 100.0, 100.0, 60.0]),
        control_percent=chance.choice([0.0, 0.0, 0.0, 20.0]),
        ignore_frequency_caps=chance.random() < 0.3,
        min_gap_seconds=chance.choice([0, 0, 0, 36 * 3600]),
        safety_limit=chance.choice([None] * 9 + [6]) if who.rule is not None else None,
    )


def _limits(chance: random.Random, zone: str) -> Limits:
    # Of a live campaign few, so that slots which come back are wanted.
    total = chance.choice([None] * 5 + [5 if zone == "live" else 15])
    if zone in ("user", "best_time", "live"):
        return Limits(total=total, daily=chance.choice([None, None, None, 3]))
    return Limits(total=total, run=chance.choice([None, None, None, 5]))


def _quiet(chance: random.Random) -> QuietHours | None:
    """None: the account's."""
    kind = chance.choice(["account", "none", "own", "own"])
    if kind == "account":
        return None
    if kind == "none":
        return QuietHours([])
    windows = [_window(chance) for _ in range(chance.choice([1, 1, 2]))]
    return QuietHours(windows, chance.choice(["delay", "discard"]))


def _window(chance: random.Random) -> QuietWindow:
    start, hours = chance.randrange(24), chance.randrange(1, 14)
    days = chance.sample(DAYS, chance.randrange(1, 8))
    return QuietWindow(days, f"{start:02d}:15", f"{(start + hours) % 24:02d}:45")


def _schedule(
    chance: random.Random, kind: str, scheduled_at: datetime, world: World
) -> tuple[tuple[datetime, ...], Rule | None, When]:
    zone = chance.choice(["user", "user", "best_time", "account", chance.choice(NAMED)])
    naive = scheduled_at.replace(tzinfo=None, second=0, microsecond=0)
    first = naive + timedelta(minutes=chance.choice([chance.randrange(-10 * 60, 20 * 60), chance.randrange(1, 20_000)]))
    if chance.random() < 0.3:
        first = _about_a_change(chance, first, world)
    dates: tuple[datetime, ...] = ()
    rule: Rule | None = None
    more: dict[str, Any] = {}
    if kind == "one_time":
        dates = () if chance.random() < 0.1 else (first,)
        more["at"] = dates[0].isoformat() if dates else None
    elif kind == "multiple_dates":
        dates = tuple(sorted({first + timedelta(hours=7 * chance.randrange(120)) for _ in range(5)}))
        more["dates"] = [local.isoformat() for local in dates]
    else:
        rule = _rule(chance, first)
        more["recurrence"] = rule.recurrence()
    when = When(
        time_zone=zone,
        passed_zone=chance.choice(["drop", "next_day", "send_now"]),
        send_by_seconds=chance.choice([4, 8, 20]) * 3600,
        catch_up_seconds=chance.choice([1, 3, 12]) * 3600,
        quiet_hours=_quiet(chance),
        fallback_time="18:30" if zone == "best_time" else None,
        **more,
    )
    return dates, rule, when


def _about_a_change(chance: random.Random, first: datetime, world: World) -> datetime:
    """A local time at which clocks somewhere are about to jump, or have just done so; `first` when none do."""
    zone = chance.choice([*MOST_WANTED, world.account_zone, *NAMED])
    ahead = [at for at in changes(zone) if first < at.replace(tzinfo=None) < world.until.replace(tzinfo=None)]
    if not ahead:
        return first
    return wall(ahead[0] - MINUTE, load_zone(zone)).replace(second=0) + timedelta(minutes=chance.randrange(-65, 66))


def _rule(chance: random.Random, first: datetime) -> Rule:
    spec = chance.choice(SPECS)
    times = sorted(
        {time(chance.randrange(24), chance.choice([0, 15, 30, 59])) for _ in range(chance.choice([1, 1, 2]))}
    )
    start = first if chance.random() < 0.5 else None
    count = chance.choice([None, 6])
    lasts = 12 * DAY if spec == {"FREQ": "DAILY"} else 75 * DAY
    end = first + lasts if count is None or chance.random() < 0.5 else None
    return Rule(spec, tuple(times), start, end, count, chance.random() < 0.5)


def _live_when(chance: random.Random, kind: str, scheduled_at: datetime) -> When:
    start = scheduled_at + timedelta(hours=chance.randrange(72)) if chance.random() < 0.3 else None
    end = scheduled_at + timedelta(hours=chance.randrange(100, 3000)) if chance.random() < 0.5 else None
    delay = chance.choice([0, 0, 20 * 60, 7 * 3600]) if kind == "live_action" else 0
    return When(
        send_by_seconds=chance.choice([2, 4, 12]) * 3600, quiet_hours=_quiet(chance), start=start, end=end,
        delay_seconds=delay,
    )  # fmt: skip


def _trigger(chance: random.Random, kind: str, number: int) -> Trigger:
    if kind == "live_action":
        return Trigger(event=f"A{number}")
    if kind == "live_inaction":
        within = chance.choice([60, 3600, 86_400, 5 * 86_400])
        return Trigger(event=f"A{number}", unless=Unless(f"B{number}"), within_seconds=within)
    at = chance.choice([None, "09:00", "02:30"])
    return Trigger(date_attribute=f"day_{number}", offset_seconds=chance.choice([-86_400, 0, 86_400]), at_local_time=at)


def _events(chance: random.Random, plan: Plan, world: World) -> Iterator[Event]:
    trigger = plan.versions[0].definition.who.trigger
    assert trigger is not None
    people = world.group(plan.group)
    span = int((world.until - plan.scheduled_at) / MINUTE)
    for number in range(chance.randrange(10, 40) if people else 0):
        person = chance.choice(people)
        at = plan.scheduled_at + chance.randrange(-600, min(span, 60_000)) * MINUTE + timedelta(seconds=number)
        late = chance.choice([timedelta(0)] * 6 + [HOUR, 6 * HOUR]) if trigger.unless is None else timedelta(0)
        yield Event(f"{plan.id}-a{number}", person.user, trigger.event, at, at + late)
        if trigger.unless is not None and chance.random() < 0.5:
            acted = at + timedelta(seconds=chance.randrange(2 * trigger.within_seconds) + 1)
            yield Event(f"{plan.id}-b{number}", person.user, trigger.unless.event, acted, acted)


def _happenings(chance: random.Random, first: Version, world: World) -> list[Version]:
    """What is done to a campaign, one thing after the other, each a version; the last one is a stop."""
    found: list[Version] = []
    latest, at = first, first.at
    wanted = chance.choice([[], [], [], ["pause"], ["pause", "pause"], ["edit"], ["pause", "edit"], ["stop"]])
    for what in wanted:
        at += timedelta(minutes=chance.choice([chance.randrange(1, 3_000), chance.randrange(1, 60_000)]))
        if what == "pause":
            found.append(latest := _next(latest, at, status="paused"))
            at += timedelta(minutes=chance.choice([20, 200, 700, chance.randrange(6_000)]))
            found.append(latest := _next(latest, at, status="running"))
        elif what == "stop":
            found.append(latest := _next(latest, at, status="stopped"))
        else:
            found.append(latest := _edit(chance, latest, at))
    found = [version for version in found if version.at < world.until]
    last = found[-1] if found else first
    return found if last.status == "stopped" else [*found, _next(last, world.until, status="stopped")]


def _edit(chance: random.Random, before: Version, at: datetime) -> Version:
    """Other times of the same days, other quiet hours, another text."""
    definition = before.definition
    whats = {**definition.whats, str(definition.what_version + 1): What("Hello")}
    edited = _next(before, at, what_version=definition.what_version + 1, whats=whats)
    when: dict[str, Any] = {"quiet_hours": _quiet(chance), "send_by_seconds": chance.choice([4, 8, 20]) * 3600}
    if before.rule is not None:
        rule = replace(before.rule, times=(time(chance.randrange(24), chance.choice([0, 15, 45])),), count=None)
        begun = at.replace(tzinfo=None, second=0, microsecond=0)
        rule = replace(rule, end=rule.end or max(begun, rule.start or begun) + 60 * DAY)
        edited = replace(edited, rule=rule)
        when |= {"recurrence": rule.recurrence(), "changed_at": at}
    elif before.dates and definition.kind == "one_time":
        moved = before.dates[0] + timedelta(minutes=chance.randrange(-300, 3_000))
        edited = replace(edited, dates=(moved,))
        when |= {"at": moved.isoformat(), "changed_at": at}
    changed = msgspec.structs.replace(definition.when, **when)
    return replace(edited, definition=_changed(edited.definition, when=changed))


def _next(before: Version, at: datetime, **changes: Any) -> Version:
    changes = {"version": before.definition.version + 1, **changes}
    return replace(before, at=at, definition=_changed(before.definition, **changes))


def _changed(definition: CampaignDefinition, **changes: Any) -> CampaignDefinition:
    return msgspec.structs.replace(definition, **changes)
