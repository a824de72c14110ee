"""Local times to instants, against an oracle that walks along UTC and looks at the clock on the wall."""

# Local times are naive on purpose: that is what this module turns into instants.
# ruff: noqa: DTZ001

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postrider.zones import (
    Instant,
    earliest_instant,
    is_past_everywhere,
    is_zone,
    load_zone,
    local_day_bounds,
    single_zone_of,
    to_instant,
    zone_for_profile,
)

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)

# A day on which the clocks change, and the length of the change.
CHANGES = [
    ("America/New_York", date(2026, 3, 8)),
    ("America/New_York", date(2026, 11, 1)),
    ("Europe/Berlin", date(2026, 3, 29)),
    ("Europe/Berlin", date(2026, 10, 25)),
    ("Australia/Lord_Howe", date(2026, 4, 5)),
    ("Australia/Lord_Howe", date(2026, 10, 4)),
    ("America/Sao_Paulo", date(2018, 11, 4)),
    ("America/Sao_Paulo", date(2019, 2, 16)),
    ("America/St_Johns", date(2010, 3, 14)),
    ("America/St_Johns", date(2010, 11, 6)),
    ("Asia/Pyongyang", date(2015, 8, 14)),
    ("Asia/Kathmandu", date(1986, 1, 1)),
    ("Africa/Casablanca", date(2026, 2, 15)),
    ("Europe/Dublin", date(2026, 3, 29)),
    ("America/Toronto", date(1919, 3, 30)),
    ("Pacific/Apia", date(2011, 12, 30)),
    ("Pacific/Kwajalein", date(1993, 8, 21)),
    ("Pacific/Kiritimati", date(1994, 12, 31)),
    ("Asia/Kolkata", date(2026, 3, 8)),
]


def wall(zone: str, start: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    """(UTC, wall clock) for every minute of [start, end)."""
    rules = load_zone(zone)
    count = (end - start) // MINUTE
    utc = [start + index * MINUTE for index in range(count)]
    return [(moment, moment.astimezone(rules).replace(tzinfo=None)) for moment in utc]


def oracle(local: datetime, walk: list[tuple[datetime, datetime]]) -> Instant:
    shown = [utc for utc, clock in walk if clock == local]
    if shown:
        return Instant(shown[0], "fold" if len(shown) > 1 else "normal")
    (before, left), (after, right) = next((a, b) for a, b in pairwise(walk) if a[1] < local < b[1])
    gap = (right - left) - (after - before)
    skipped = not any(clock.date() == local.date() for _, clock in walk)
    moved = next(utc for utc, clock in walk if clock == local + gap)
    return Instant(moved, "skipped" if skipped else "gap")


@pytest.mark.parametrize(("zone", "day"), CHANGES)
def test_every_local_minute_around_a_change(zone: str, day: date) -> None:
    middle = datetime.combine(day, time.min, UTC)
    walk = wall(zone, middle - 3 * DAY, middle + 4 * DAY)
    first = datetime.combine(day, time.min) - timedelta(hours=2)
    step = 7
    minutes = {index * step for index in range(28 * 60 // step)} | set(range(110, 260)) | set(range(60 * 24, 60 * 28))
    by_clock: dict[datetime, list[datetime]] = {}
    for utc, clock in walk:
        by_clock.setdefault(clock, []).append(utc)
    for index in sorted(minutes):
        local = first + index * MINUTE
        shown = by_clock.get(local)
        expected = Instant(shown[0], "fold" if len(shown) > 1 else "normal") if shown else oracle(local, walk)
        assert to_instant(local, zone) == expected, local


@pytest.mark.parametrize(("zone", "day"), CHANGES)
def test_days_partition_time_and_begin_when_the_wall_first_shows_them(zone: str, day: date) -> None:
    middle = datetime.combine(day, time.min, UTC)
    walk = wall(zone, middle - 3 * DAY, middle + 4 * DAY)
    for offset in (-1, 0, 1):
        one = day + offset * DAY
        start, end = local_day_bounds(one, zone)
        assert end == local_day_bounds(one + DAY, zone)[0]
        shown = [utc for utc, clock in walk if clock.date() == one]
        assert (shown[0] if shown else end) == start


def test_missing_days_are_skipped_and_empty() -> None:
    assert to_instant(datetime(2011, 12, 30, 9), "Pacific/Apia").kind == "skipped"
    start, end = local_day_bounds(date(2011, 12, 30), "Pacific/Apia")
    assert start == end == datetime(2011, 12, 30, 10, tzinfo=UTC)


def test_gap_and_fold_by_hand() -> None:
    assert to_instant(datetime(2026, 3, 8, 2, 30), "America/New_York") == Instant(
        datetime(2026, 3, 8, 7, 30, tzinfo=UTC), "gap"
    )
    assert to_instant(datetime(2026, 11, 1, 1, 30), "America/New_York") == Instant(
        datetime(2026, 11, 1, 5, 30, tzinfo=UTC), "fold"
    )


@settings(deadline=None)
@given(
    st.datetimes(datetime(1972, 1, 1), datetime(2037, 12, 1)),
    st.sampled_from(["America/New_York", "Asia/Tehran", "Pacific/Apia", "Europe/London", "Antarctica/Troll", "UTC"]),
)
def test_an_instant_shows_its_local_time_unless_in_a_gap(local: datetime, zone: str) -> None:
    instant = to_instant(local, zone)
    clock = instant.at.astimezone(load_zone(zone)).replace(tzinfo=None)
    assert (clock == local) == (instant.kind in ("normal", "fold"))
    assert earliest_instant(local) <= instant.at
    if is_past_everywhere(local, instant.at):
        raise AssertionError("no place is behind UTC-12")


@pytest.mark.parametrize("bad", [datetime(2026, 1, 1, tzinfo=UTC), datetime(1, 1, 1), datetime(9999, 12, 31)])
def test_impossible_local_times_are_refused(bad: datetime) -> None:
    with pytest.raises(ValueError):
        to_instant(bad, "UTC")


def test_the_world_s_edges() -> None:
    local = datetime(2026, 12, 1, 9)
    assert earliest_instant(local) == datetime(2026, 11, 30, 19, tzinfo=UTC)
    assert to_instant(local, "Pacific/Kiritimati").at == earliest_instant(local)
    last = to_instant(local, "Etc/GMT+12").at
    assert not is_past_everywhere(local, last)
    assert is_past_everywhere(local, last + timedelta(microseconds=1))


@pytest.mark.parametrize("name", ["Europe/Berlin", "Asia/Calcutta", "UTC", "Etc/GMT+5", "America/Indiana/Knox"])
def test_zones(name: str) -> None:
    assert is_zone(name)
    assert isinstance(load_zone(name), ZoneInfo)


@pytest.mark.parametrize(
    "name", ["", "europe/berlin", "Factory", "Europe", "../etc/passwd", "+05:30", None, 3, ["UTC"]]
)
def test_no_zones(name: object) -> None:
    assert not is_zone(name)
    if isinstance(name, str):
        with pytest.raises(ValueError):
            load_zone(name)


@pytest.mark.parametrize(
    ("country", "zone"),
    [
        *(("IN", "Asia/Kolkata"), ("in", "Asia/Kolkata"), ("DE", "Europe/Berlin"), ("GB", "Europe/London")),
        *(("US", None), ("CN", None), ("ES", None), ("ZZ", None), (None, None)),
    ],
)
def test_countries_with_one_zone(country: str | None, zone: str | None) -> None:
    assert single_zone_of(country) == zone


@pytest.mark.parametrize(
    ("time_zone", "country", "phone_country", "expected"),
    [
        ("Asia/Tokyo", "DE", "IN", "Asia/Tokyo"),
        ("Mars/Olympus", "DE", "IN", "Asia/Kolkata"),
        (None, "DE", "US", "UTC"),
        (None, "DE", None, "Europe/Berlin"),
        (7, None, None, "UTC"),
    ],
)
def test_the_zone_of_a_profile(
    time_zone: object, country: str | None, phone_country: str | None, expected: str
) -> None:
    assert zone_for_profile(time_zone, country, phone_country, "UTC") == expected
