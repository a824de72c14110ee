"""The next occurrence anywhere, 1990 to 2040, against an oracle that walks through time. Longer: make check-times."""

# ruff: noqa: DTZ001 - nominal times are local.

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from postrider.contracts.definitions import Recurrence, When
from postrider.scheduling.preview import next_occurrence
from postrider.zones import load_zone
from tests.support import time_oracle as oracle
from tests.support.time_cases import around_changes, disagreement, random_case

HARD_ZONES = [
    "America/New_York",
    "Europe/Berlin",
    "Europe/Dublin",
    "Africa/Casablanca",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Kwajalein",
    "Pacific/Kiritimati",
    "Pacific/Chatham",
    "Asia/Pyongyang",
    "Antarctica/Casey",
    "Antarctica/Troll",
    "America/St_Johns",
    "America/Caracas",
    "Etc/GMT+12",
    "Etc/GMT-14",
]


@pytest.mark.parametrize("seed", range(3))
def test_as_the_slow_oracle_says(seed: int) -> None:
    draw = random.Random(f"next occurrence {seed}")
    zones = [*HARD_ZONES, *draw.sample(oracle.all_zones(), 10)]
    for _ in range(400):
        assert disagreement(random_case(draw, zones)) == ""


@pytest.mark.parametrize("zone", ["Antarctica/Troll", "Australia/Lord_Howe", "Pacific/Apia", "Pacific/Kiritimati"])
def test_around_every_change_of_its_clocks_a_zone_does_as_the_slow_oracle_says(zone: str) -> None:
    answers, wrong = around_changes(random.Random(zone), zone)
    assert not wrong
    assert answers > 20


def test_the_oracle_itself_agrees_with_every_minute_of_a_day_when_the_clocks_change() -> None:
    for zone, day in [("Europe/Berlin", 25), ("Australia/Lord_Howe", 4)]:
        rules = load_zone(zone)
        begin = datetime(2026, 10, day - 1, tzinfo=UTC)
        seen: dict[datetime, list[datetime]] = {}
        for minute in range(3 * 24 * 60):
            at = begin + timedelta(minutes=minute)
            seen.setdefault(oracle.wall(at, rules), []).append(at)
        for minute in range(0, 24 * 60, 5):
            local = datetime(2026, 10, day) + timedelta(minutes=minute)
            happening = oracle.happens(local, zone)
            assert (local in seen) == (happening.kind != "gap")
            if local in seen:
                assert happening.at == seen[local][0]
                assert (happening.kind == "fold") == (len(seen[local]) == 2)


def test_a_later_slot_may_come_before_an_earlier_one_that_the_clocks_moved() -> None:
    when = When(time_zone="user", recurrence=Recurrence("FREQ=DAILY", ["02:30", "03:00"]))
    scheduled = datetime(2026, 3, 1, tzinfo=UTC)
    midnight = datetime(2026, 3, 28, 23, tzinfo=UTC)
    first = next_occurrence("recurring", when, "UTC", "Europe/Berlin", scheduled, midnight)
    assert first is not None
    assert (first.local.hour, first.at, first.kind) == (3, datetime(2026, 3, 29, 1, tzinfo=UTC), "normal")
    second = next_occurrence("recurring", when, "UTC", "Europe/Berlin", scheduled, first.at)
    assert second is not None
    assert (second.local.minute, second.at, second.kind) == (30, datetime(2026, 3, 29, 1, 30, tzinfo=UTC), "gap")
