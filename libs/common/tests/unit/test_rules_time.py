"""Dates, durations and the line of time (rules.md T17 to T21), against zoneinfo used the slow way."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from postrider.rules.dates import DAY, DateKind, read_date, read_duration
from postrider.rules.local_times import instant_of, microseconds, offset_table, stored_date_spans
from postrider.zones import load_zone

_QUARTER = DAY // 96
ZONES = [
    "Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Asia/Beirut", "America/Sao_Paulo", "Pacific/Apia",
    "Africa/Casablanca", "Asia/Kolkata", "UTC", "America/Toronto", "Africa/Monrovia",
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-03-05T10:00:00Z", "2026-03-05T10:00:00"),
        ("2026-03-05T10:00+05:30", "2026-03-05T04:30:00"),
        ("2026-03-05T00:00:00.123456789-00:30", "2026-03-05T00:30:00.123456"),
        ("2026-03-05T10:00", "2026-03-05T09:00:00"),
        ("2026-03-05", "2026-03-04T23:00:00"),
        ("2026-03-29T02:30:00", "2026-03-29T01:30:00"),
        ("2026-10-25T02:30:00", "2026-10-25T00:30:00"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00"),
        ("9999-12-31T23:59:59.9Z", "9999-12-31T23:59:59.9"),
    ],
)
def test_a_date_is_a_moment_in_paris(text: str, moment: str) -> None:
    date = read_date(text)
    assert date is not None
    assert instant_of(date, "Europe/Paris") == microseconds(datetime.fromisoformat(moment).replace(tzinfo=UTC))


@pytest.mark.parametrize(
    "text",
    ["2026-02-30", "2026-3-05", "20260305", "2026-03-05T24:00", "2026-03-05T10", "2026-03-05 10:00",
     "2026-03-05T10:00z", "2026-03-05T10:00:60Z", "2026-03-05T10:00.5", "2026-03-05T10:00:00.",
     "2026-03-05T10:00:00.1234567890",
     "2026-03-05T10:00+0530", "2026-03-05T10:00+24:00", "2026-03-05T10:00+05:60", "2026-03-05Z", " 2026-03-05",
     "2026-03-05\n", "２０２６-03-05", "0000-01-01", "2026-W10-4", ""],
)  # fmt: skip
def test_other_spellings_are_no_dates(text: str) -> None:
    assert read_date(text) is None


def test_durations_are_exact() -> None:
    lengths = {text: read_duration(text) for text in ("P1D", "P2W", "PT90M", "P1DT1H1M1S", "PT36H")}
    assert {text: duration.us / DAY for text, duration in lengths.items() if duration} == {
        "P1D": 1,
        "P2W": 14,
        "PT90M": 1 / 16,
        "P1DT1H1M1S": 1 + 3661 / 86400,
        "PT36H": 1.5,
    }


@pytest.mark.parametrize(
    ("zone", "day", "begins"),
    [
        ("Asia/Beirut", "2025-03-30", "2025-03-29T22:00:00"),
        ("America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00:00"),
        ("America/Toronto", "1919-03-31", "1919-03-31T04:30:00"),
        ("Pacific/Apia", "2011-12-30", "2011-12-30T10:00:00"),
        ("Pacific/Apia", "2011-12-31", "2011-12-30T10:00:00"),
    ],
)
def test_a_day_begins_at_its_first_moment(zone: str, day: str, begins: str) -> None:
    date = read_date(day)
    assert date is not None
    assert instant_of(date, zone) == microseconds(datetime.fromisoformat(begins).replace(tzinfo=UTC))


@pytest.mark.parametrize("zone", ZONES)
def test_offsets_by_arithmetic_are_those_of_zoneinfo(zone: str) -> None:
    table = offset_table(zone)
    numbers = random.Random(7)
    start = microseconds(datetime(1901, 1, 1, tzinfo=UTC))
    end = microseconds(datetime(2099, 1, 1, tzinfo=UTC))
    instants = [numbers.randrange(start, end) for _ in range(2_000)]
    instants += [t + shift for t in table.transitions if start < t < end for shift in (-1, 0, 1)]
    for instant in instants:
        first = table.first[(instant - table.start) // table.width]
        i = first + sum(t <= instant for t in table.transitions[first + 1 : first + 1 + table.most])
        at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=instant)
        assert timedelta(microseconds=table.offsets[i]) == at.astimezone(load_zone(zone)).utcoffset()


@pytest.mark.parametrize("zone", ZONES)
def test_spans_of_stored_dates_are_the_inverse_of_their_instants(zone: str) -> None:
    numbers = random.Random(11)
    table = offset_table(zone)
    ends = [t for t in table.transitions[1:] if abs(t) < 1 << 60][-6:] or [
        microseconds(datetime(2026, 3, 29, tzinfo=UTC))
    ]
    for end in ends:
        for _ in range(12):
            step = numbers.choice([1, _QUARTER])
            low = end + numbers.randrange(-2 * DAY, 2 * DAY) // step * step
            high = low + numbers.choice([0, 1, 2 * _QUARTER, 4 * _QUARTER, DAY, 3 * DAY])
            spans = stored_date_spans((low, high), zone)
            for _ in range(20):
                near = numbers.choice([low, high, end]) + numbers.randrange(-DAY, DAY) // _QUARTER * _QUARTER
                local = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=near)).replace(tzinfo=None)
                for date in (read_date(local.isoformat(timespec="microseconds")), read_date(local.date().isoformat())):
                    assert date is not None
                    allowed = spans.days if date.kind is DateKind.DAY else spans.locals
                    inside = low <= instant_of(date, zone) < high
                    assert any(a <= date.us < b for a, b in allowed) == inside, (date, low, high)
