"""Campaigns of every scheduled kind at random, and who is due when by a slow reckoning of its own."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from postrider.contracts.definitions import (
    CampaignDefinition,
    Limits,
    QuietHours,
    QuietWindow,
    Recurrence,
    What,
    When,
    Who,
)
from postrider.zones import load_zone
from tests.support.time_oracle import happens, rule_text, slots

DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
SEND_BY = timedelta(hours=20)
Key = tuple[str, str, str]
"""Campaign, occurrence, user."""


@dataclass(frozen=True)
class Plan:
    """`nominal`: its local times, in order. `stopped_at`: nothing leaves after it."""

    definition: CampaignDefinition
    scheduled_at: datetime
    nominal: list[datetime]
    stopped_at: datetime | None

    def definitions(self) -> list[tuple[datetime, CampaignDefinition]]:
        found = [(self.scheduled_at, self.definition)]
        if self.stopped_at is not None:
            stopped = CampaignDefinition(
                **{name: getattr(self.definition, name) for name in self.definition.__struct_fields__}
                | {"status": "stopped", "version": 2}
            )
            found.append((self.stopped_at, stopped))
        return found


def plans(seed: int, count: int, start: datetime, until: datetime, account_zone: str) -> list[Plan]:
    chance = random.Random(seed)
    return [_plan(chance, number, start, until, account_zone) for number in range(count)]


def due(plan: Plan, people: dict[str, str], account_zone: str, until: datetime) -> dict[Key, datetime]:
    """Everybody who is to get a text, and when it may first leave; limits are left to the caller."""
    when, found = plan.definition.when, {}
    for local in plan.nominal:
        name = "once" if plan.definition.kind == "one_time" else local.isoformat(timespec="seconds")
        for user, own in people.items():
            zone = {"user": own, "account": account_zone}.get(when.time_zone, when.time_zone)
            happening = happens(local, zone)
            if happening.kind == "skipped" or happening.at < plan.scheduled_at or happening.at > until:
                continue
            if plan.stopped_at is not None and happening.at >= plan.stopped_at:
                continue
            leaves = _leaves(happening.at, own, when.quiet_hours)
            if leaves is not None:
                found[plan.definition.campaign_id, name, user] = leaves
    return found


def _leaves(at: datetime, zone: str, quiet: QuietHours | None) -> datetime | None:
    """The first minute outside the windows, looked for minute by minute; None: it is thrown away."""
    if quiet is None or not _is_quiet(at, zone, quiet):
        return at
    if quiet.on_hit == "discard":
        return None
    at = at.replace(second=0, microsecond=0)
    while _is_quiet(at, zone, quiet):
        at += MINUTE
    return at


def _is_quiet(at: datetime, zone: str, quiet: QuietHours) -> bool:
    local = at.astimezone(load_zone(zone)).replace(tzinfo=None)
    for window in quiet.windows:
        start, end = time.fromisoformat(window.start), time.fromisoformat(window.end)
        for day in (local.date() - DAY, local.date()):
            if DAYS[day.weekday()] not in window.days:
                continue
            begin = datetime.combine(day, start)
            stop = datetime.combine(day if end > start else day + DAY, end)
            if begin <= local < stop:
                return True
    return False


def _plan(chance: random.Random, number: int, start: datetime, until: datetime, account_zone: str) -> Plan:
    length = (until - start).days
    scheduled_at = start + timedelta(seconds=chance.randrange(length * 86_400 // 2), milliseconds=1)
    kind = chance.choice(["one_time", "multiple_dates", "recurring", "recurring"])
    zone = chance.choice(["user", "user", "account", "Australia/Lord_Howe", "America/New_York"])
    first = scheduled_at.replace(tzinfo=None, second=0, microsecond=0) + timedelta(
        days=chance.randrange(2, 20), minutes=chance.randrange(1_440)
    )
    more: dict[str, Any] = {}
    if kind == "one_time":
        nominal, more = [first], {"at": first.isoformat()}
    elif kind == "multiple_dates":
        nominal = sorted({first + timedelta(hours=31 * step) for step in chance.sample(range(60), 4)})
        more = {"dates": [local.isoformat() for local in nominal]}
    else:
        nominal, more = _recurring(chance, first, scheduled_at, until, zone, account_zone)
    quiet = chance.choice([None, None, "delay", "discard"])
    when = When(
        time_zone=zone,
        send_by_seconds=int(SEND_BY.total_seconds()),
        quiet_hours=None if quiet is None else QuietHours([_window(chance)], quiet),
        **more,
    )
    limits = Limits(run=chance.choice([None, None, 7]))
    stopped_at = None
    if chance.random() < 0.1:
        stopped_at = scheduled_at + timedelta(seconds=chance.randrange(length * 43_200), milliseconds=2)
    definition = CampaignDefinition(
        f"cmp_{number}", 1, "scheduled", kind, "n", "transactional", when, Who(rule={"all": []}, limits=limits), 1,
        {"1": What("Hi")}, scheduled_at,
    )  # fmt: skip
    return Plan(definition, scheduled_at, nominal, stopped_at)


def _recurring(
    chance: random.Random, first: datetime, scheduled_at: datetime, until: datetime, zone: str, account_zone: str
) -> tuple[list[datetime], dict[str, Any]]:
    spec: dict[str, Any] = chance.choice(
        [
            {"FREQ": "DAILY", "INTERVAL": chance.randrange(5, 40)},
            {"FREQ": "WEEKLY", "INTERVAL": chance.randrange(2, 5), "BYDAY": chance.sample(["MO", "WE", "SA"], 2)},
            {"FREQ": "MONTHLY", "BYMONTHDAY": [chance.choice([1, 7, 29, 31])]},
            {"FREQ": "MONTHLY", "BYDAY": ["-1FR"]},
        ]
    )
    at, last_day = first.time(), chance.random() < 0.5
    start = first if chance.random() < 0.5 else None
    clock = account_zone if zone in ("user", "account") else zone
    anchor: date = start.date() if start else scheduled_at.astimezone(load_zone(clock)).date()
    last = until.replace(tzinfo=None) + 2 * DAY
    nominal = [slot for slot in _until(slots(spec, [at], anchor, last_day), last) if start is None or slot >= start]
    short = "last_day" if last_day else "skip"
    recurrence = Recurrence(rule_text(spec), [f"{at:%H:%M}"], start.isoformat() if start else None, None, short)
    return nominal, {"recurrence": recurrence}


def _until(found: Iterator[datetime], last: datetime) -> Iterator[datetime]:
    for slot in found:
        if slot > last:
            return
        yield slot


def _window(chance: random.Random) -> QuietWindow:
    start, hours = chance.randrange(24), chance.randrange(1, 12)
    return QuietWindow(chance.sample(DAYS, chance.randrange(1, 8)), f"{start:02d}:15", f"{(start + hours) % 24:02d}:45")


def people(seed: int, count: int) -> dict[str, str]:
    zones = [
        "Pacific/Kiritimati", "Pacific/Apia", "Pacific/Chatham", "Australia/Lord_Howe", "Asia/Tokyo", "Asia/Kathmandu",
        "Asia/Kolkata", "Africa/Casablanca", "Europe/Paris", "America/St_Johns", "America/New_York", "America/Havana",
        "America/Los_Angeles", "Pacific/Pago_Pago", "Etc/GMT+12",
    ]  # fmt: skip
    chance = random.Random(seed)
    return {f"u{number}": chance.choice(zones) for number in range(count)}


NOON = datetime(2027, 1, 1, 12, tzinfo=UTC)
