"""An account and its people, made at random from a seed. Knows no campaign, and none of the code under test."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec

from postrider.contracts.definitions import AccountSettings, FrequencyCap, QuietHours, QuietWindow
from tests.support.time_oracle import all_zones

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
PER_GROUP = 12
ZONE_OF_COUNTRY = {
    "IN": "Asia/Kolkata", "FR": "Europe/Paris", "DE": "Europe/Berlin", "JP": "Asia/Tokyo", "NP": "Asia/Kathmandu",
}  # fmt: skip
"""Of countries with one clock; the United States have several."""
PHONES = [
    ("US", "+1212555"), ("US", "+1305555"), ("US", "+1850555"), ("US", "+1512555"), ("US", "+1213555"),
    ("US", "+1605555"), ("US", "+1800555"), ("IN", "+91987650"), ("FR", "+3361234"), ("DE", "+491511234"),
    ("JP", "+81901234"), ("NP", "+977984100"), ("DE", "+491601234"), ("DE", "+491701234"),
]  # fmt: skip
"""Four more digits make a valid number."""
BAD_ZONES = ["", "Mars/Olympus_Mons", "europe/berlin", "GMT+25"]
MOST_WANTED = [
    "Pacific/Kiritimati", "Pacific/Apia", "Pacific/Chatham", "Australia/Lord_Howe", "Asia/Kathmandu", "Europe/Paris",
    "America/St_Johns", "America/New_York", "America/Havana", "Africa/Casablanca", "Pacific/Pago_Pago", "Etc/GMT+12",
    "America/Los_Angeles", "Asia/Kolkata", "Antarctica/Troll", "Europe/Dublin",
]  # fmt: skip


@dataclass(frozen=True)
class Person:
    """`zones`: what they said their time zone is, and since when. `bucket`: the first hour of their most active two."""

    user: str
    phone: str
    country: str | None
    zones: tuple[tuple[datetime, str], ...]
    bucket: int | None
    has_consent: bool
    suppressed_at: datetime | None
    groups: frozenset[int]

    def zone_at(self, at: datetime, account_zone: str) -> str:
        """Their own when it is one, else that of their phone's country when it has one, else the account's."""
        said = [zone for since, zone in self.zones if since <= at][-1]
        return said if said in ZONES else ZONE_OF_COUNTRY.get(self.country or "", account_zone)

    def verdict_at(self, at: datetime) -> str:
        if not self.phone or not self.has_consent:
            return "unreachable"
        return "suppressed" if self.suppressed_at is not None and self.suppressed_at <= at else ""


@dataclass(frozen=True)
class Event:
    """`at`: the client's word; `received`: when it reached us."""

    id: str
    user: str
    name: str
    at: datetime
    received: datetime


ZONES = frozenset(all_zones())


@dataclass
class World:
    """`settings`: those of the account, and since when, in order. `down`: when no scheduler runs."""

    start: datetime
    until: datetime
    people: dict[str, Person]
    settings: list[tuple[datetime, AccountSettings]]
    down: list[tuple[datetime, datetime]]

    @property
    def groups(self) -> int:
        return max(2, len(self.people) // PER_GROUP)

    @property
    def account_zone(self) -> str:
        return self.settings[0][1].account_time_zone

    def settings_at(self, at: datetime) -> AccountSettings:
        return [settings for since, settings in self.settings if since <= at][-1]

    def is_down(self, at: datetime) -> bool:
        return any(begin <= at < end for begin, end in self.down)

    def group(self, number: int) -> list[Person]:
        return [person for person in self.people.values() if number in person.groups]


def make_world(seed: int, start: datetime, days: int, people: int, has_caps: bool = True) -> World:
    chance = random.Random(f"world {seed}")
    until = start + timedelta(days=days)
    settings = AccountSettings(
        version=1,
        account_time_zone=chance.choice(["America/Sao_Paulo", "Asia/Kolkata", "Europe/Paris", "America/New_York"]),
        quiet_hours=QuietHours([QuietWindow(DAYS[:5], "21:30", "07:15")], chance.choice(["delay", "discard"])),
        frequency_caps=[FrequencyCap(2, 1), FrequencyCap(5, 7)] if has_caps else [],
        min_gap_seconds=chance.choice([0, 1800]) if has_caps else 0,
        control_percent=chance.choice([0.0, 4.0]),
    )
    later = msgspec.structs.replace(
        settings,
        version=2,
        quiet_hours=QuietHours([QuietWindow(DAYS, "22:00", "06:30")], "delay"),
        frequency_caps=[FrequencyCap(3, 1), FrequencyCap(6, 10)] if has_caps else [],
    )
    changed = start + timedelta(seconds=chance.randrange(days * 86_400 // 3, days * 86_400 // 2))
    return World(
        start,
        until,
        {person.user: person for person in _people(chance, start, days, people)},
        [(datetime.min.replace(tzinfo=UTC), settings), (changed, later)],
        _downtimes(chance, start, days),
    )


def _downtimes(chance: random.Random, start: datetime, days: int) -> list[tuple[datetime, datetime]]:
    found: list[tuple[datetime, datetime]] = []
    at = start
    while True:
        at += timedelta(minutes=chance.randrange(2 * 1440, 25 * 1440))
        if at > start + timedelta(days=days):
            return found
        lasts = timedelta(minutes=chance.choice([7, 30, 90, 90, 300, 26 * 60, 4 * 1440]))
        found.append((at, at + lasts))
        at += lasts


def _people(chance: random.Random, start: datetime, days: int, count: int) -> list[Person]:
    """In every zone there is as long as there are enough of them, first those where clocks do strange things."""
    zones = MOST_WANTED + sorted(ZONES - set(MOST_WANTED))
    groups = max(2, count // PER_GROUP)
    found: list[Person] = []
    for number in range(count):
        country, prefix = chance.choice(PHONES)
        said: list[tuple[datetime, str]] = [(datetime.min.replace(tzinfo=UTC), zones[number % len(zones)])]
        if chance.random() < 0.1:
            said[0] = (said[0][0], chance.choice(BAD_ZONES))
        for _ in range(chance.choice([0, 0, 0, 1, 3])):
            moves_at = start + timedelta(seconds=chance.randrange(days * 86_400))
            said.append((moves_at, chance.choice([chance.choice(zones), chance.choice(MOST_WANTED), ""])))
        phone = f"{prefix}{number:04d}"
        if chance.random() < 0.03:
            phone, country = "", ""
        suppressed_at = start + timedelta(days=chance.randrange(days)) if chance.random() < 0.05 else None
        person = Person(
            f"u{number}", phone, country or None, tuple(sorted(said)), chance.choice([None, *range(0, 24, 2)]),
            chance.random() > 0.03, suppressed_at, frozenset(chance.sample(range(groups), chance.choice([1, 1, 2]))),
        )  # fmt: skip
        if found and found[-1].phone and chance.random() < 0.02:
            twin = found[-1]
            person = Person(
                person.user, twin.phone, twin.country, person.zones, person.bucket, twin.has_consent,
                twin.suppressed_at, twin.groups,
            )  # fmt: skip
        found.append(person)
    return found
