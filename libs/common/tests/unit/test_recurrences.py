"""Rules of days, against python-dateutil where both mean the same, and against an oracle that goes day by day."""

# ruff: noqa: DTZ001 - nominal times are local.

from __future__ import annotations

import random
from datetime import date, datetime, time
from itertools import islice

import pytest

from postrider.contracts.definitions import Recurrence
from postrider.scheduling.recurrences import RecurrenceError, read_recurrence, require_occurrence
from tests.support import time_oracle as oracle
from tests.support.other_calendars import compare_with_dateutil

ANCHOR = date(2026, 11, 25)


def days_of(rule: str, n: int = 6, anchor: date = ANCHOR, short_month: str = "skip") -> list[str]:
    pattern = read_recurrence(Recurrence(rule, ["09:00"], short_month=short_month))
    return [slot.date().isoformat() for slot in islice(pattern.slots(anchor), n)]


def test_what_recurs_on_the_7th_starts_on_the_next_7th_whatever_day_it_was_created() -> None:
    assert days_of("FREQ=MONTHLY;BYMONTHDAY=7", 2) == ["2026-12-07", "2027-01-07"]
    assert days_of("FREQ=MONTHLY;BYMONTHDAY=7", 1, date(2026, 12, 7)) == ["2026-12-07"]


def test_the_31st_is_the_last_day_or_no_day() -> None:
    rule = "FREQ=MONTHLY;BYMONTHDAY=31"
    assert days_of(rule, 3) == ["2026-12-31", "2027-01-31", "2027-03-31"]
    assert days_of(rule, 4, short_month="last_day") == ["2026-11-30", "2026-12-31", "2027-01-31", "2027-02-28"]
    assert days_of("FREQ=MONTHLY;BYMONTHDAY=30,31", 2, date(2027, 2, 1), "last_day") == ["2027-02-28", "2027-03-30"]
    assert days_of("FREQ=MONTHLY", 2, date(2026, 10, 31), "last_day") == ["2026-10-31", "2026-11-30"]


def test_29_february_is_the_28th_or_no_day() -> None:
    rule = "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29"
    assert days_of(rule, 2) == ["2028-02-29", "2032-02-29"]
    assert days_of(rule, 2, date(2097, 1, 1)) == ["2104-02-29", "2108-02-29"]
    assert days_of(rule, 3, short_month="last_day") == ["2027-02-28", "2028-02-29", "2029-02-28"]
    assert days_of("FREQ=YEARLY;BYYEARDAY=366", 2, short_month="last_day") == ["2026-12-31", "2027-12-31"]


def test_count_counts_what_remains_after_short_months_and_times() -> None:
    pattern = read_recurrence(Recurrence("FREQ=MONTHLY;BYMONTHDAY=31;COUNT=3", ["18:00", "09:00"]))
    assert [slot.isoformat() for slot in pattern.slots(ANCHOR)] == [
        "2026-12-31T09:00:00",
        "2026-12-31T18:00:00",
        "2027-01-31T09:00:00",
    ]
    later = pattern.slots(ANCHOR, datetime(2026, 12, 31, 12))
    assert [slot.isoformat() for slot in later] == ["2026-12-31T18:00:00", "2027-01-31T09:00:00"]


def test_what_had_passed_when_it_was_scheduled_does_not_count_but_from_a_start() -> None:
    noon = datetime(2026, 11, 25, 12)
    free = read_recurrence(Recurrence("FREQ=DAILY;COUNT=2", ["09:00"]))
    assert [slot.day for slot in free.slots(ANCHOR, None, lambda slot: slot < noon)] == [26, 27]
    bound = read_recurrence(Recurrence("FREQ=DAILY;COUNT=2", ["09:00"], start="2026-11-25"))
    assert [slot.day for slot in bound.slots(ANCHOR, None, lambda slot: slot < noon)] == [26]


def test_start_end_and_until_are_local_and_may_be_an_occurrence() -> None:
    pattern = read_recurrence(Recurrence("FREQ=DAILY", ["09:00", "18:00"], "2026-12-01T18:00:00", "2026-12-03T09:00"))
    assert [slot.isoformat() for slot in pattern.slots(date(2026, 12, 1))] == [
        "2026-12-01T18:00:00",
        "2026-12-02T09:00:00",
        "2026-12-02T18:00:00",
        "2026-12-03T09:00:00",
    ]
    assert days_of("FREQ=DAILY;UNTIL=20261126", 9) == ["2026-11-25", "2026-11-26"]
    assert days_of("FREQ=DAILY;UNTIL=20261126T085959", 9) == ["2026-11-25"]
    day_only = read_recurrence(Recurrence("FREQ=DAILY", ["23:59"], end="2026-11-26"))
    assert len(list(day_only.slots(ANCHOR))) == 2


@pytest.mark.parametrize(
    "rule",
    [
        "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=YEARLY;BYMONTH=4;BYMONTHDAY=31",
        "FREQ=MONTHLY;BYDAY=5MO;BYMONTHDAY=1",
        "FREQ=DAILY;INTERVAL=999999999;BYMONTH=2;BYMONTHDAY=1",
        "FREQ=YEARLY;INTERVAL=999999999;BYYEARDAY=1",
        "FREQ=DAILY;UNTIL=20261101",
        "FREQ=MONTHLY;INTERVAL=2;BYMONTH=2",
    ],
)
def test_a_rule_that_never_happens_is_refused_and_ends(rule: str) -> None:
    pattern = read_recurrence(Recurrence(rule, ["09:00"]))
    assert list(pattern.slots(ANCHOR)) == []
    with pytest.raises(RecurrenceError, match="never happens"):
        require_occurrence(pattern, ANCHOR)


def test_a_rule_without_end_stops_at_the_end_of_the_calendar() -> None:
    pattern = read_recurrence(Recurrence("FREQ=DAILY;INTERVAL=999999999", ["09:00"]))
    assert len(list(pattern.slots(ANCHOR))) == 1
    yearly = read_recurrence(Recurrence("FREQ=YEARLY", ["09:00"]))
    assert list(yearly.slots(date(8990, 5, 1)))[-1].year == 8999


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("", "NAME=value"),
        ("FREQ=HOURLY", "FREQ must be"),
        ("FREQ=DAILY;BYHOUR=9", "`times`"),
        ("FREQ=DAILY;UNTIL=20261231T000000Z", "`end`"),
        ("FREQ=DAILY;UNTIL=20261331", "calendar"),
        ("FREQ=DAILY;UNTIL=soon", "local day"),
        ("FREQ=DAILY;COUNT=2;UNTIL=20261231", "exclude"),
        ("FREQ=DAILY;COUNT=0", "COUNT must be"),
        ("FREQ=DAILY;COUNT=10001", "`end`"),
        ("FREQ=DAILY;INTERVAL=-1", "INTERVAL must be"),
        ("FREQ=DAILY;INTERVAL=1;INTERVAL=2", "twice"),
        ("FREQ=DAILY;DTSTART=20261231", "`start`"),
        ("FREQ=DAILY;BYEASTER=1", "no part"),
        ("FREQ=WEEKLY;BYMONTHDAY=1", "WEEKLY"),
        ("FREQ=WEEKLY;BYDAY=1MO", "MONTHLY or YEARLY"),
        ("FREQ=MONTHLY;BYDAY=6MO", "sixth"),
        ("FREQ=MONTHLY;BYDAY=0MO", "cannot be 0"),
        ("FREQ=MONTHLY;BYDAY=XX", "weekdays"),
        ("FREQ=MONTHLY;BYMONTHDAY=32", "1 to 31"),
        ("FREQ=MONTHLY;BYMONTH=-1", "1 to 12"),
        ("FREQ=MONTHLY;BYYEARDAY=1", "YEARLY only"),
        ("FREQ=YEARLY;BYWEEKNO=1", "BYDAY"),
        ("FREQ=YEARLY;BYWEEKNO=1;BYDAY=1MO", "BYWEEKNO"),
        ("FREQ=MONTHLY;BYSETPOS=1", "another BY"),
        ("FREQ=WEEKLY;WKST=MON", "WKST"),
        ("FREQ=DAILY;" + "X" * 600, "500 characters"),
    ],
)
def test_what_a_rule_cannot_say_is_said_in_words(rule: str, said: str) -> None:
    with pytest.raises(RecurrenceError, match=said) as refused:
        read_recurrence(Recurrence(rule, ["09:00"]))
    assert refused.value.field == "rule"


@pytest.mark.parametrize(
    ("field", "recurrence"),
    [
        ("times", Recurrence("FREQ=DAILY", [])),
        ("times", Recurrence("FREQ=DAILY", ["24:00"])),
        ("times", Recurrence("FREQ=DAILY", [f"{n // 2:02d}:{n % 2 * 30:02d}" for n in range(25)])),
        ("start", Recurrence("FREQ=DAILY", ["09:00"], start="2026-12-01T09:00:00Z")),
        ("start", Recurrence("FREQ=DAILY", ["09:00"], start="2026-02-30")),
        ("start", Recurrence("FREQ=DAILY", ["09:00"], start="9500-01-01")),
        ("end", Recurrence("FREQ=DAILY", ["09:00"], start="2026-12-02", end="2026-12-01")),
        ("short_month", Recurrence("FREQ=DAILY", ["09:00"], short_month="first_day")),
    ],
)
def test_what_is_wrong_is_named_by_its_field(field: str, recurrence: Recurrence) -> None:
    with pytest.raises(RecurrenceError) as refused:
        read_recurrence(recurrence)
    assert refused.value.field == field


def test_a_rule_may_be_spelt_as_calendars_do() -> None:
    assert days_of("rrule:freq=weekly;byday=mo;", 1) == ["2026-11-30"]


def test_like_dateutil_where_both_mean_the_same() -> None:
    answers, wrong = compare_with_dateutil(random.Random(20261125), 400)
    assert not wrong
    assert answers > 10_000


@pytest.mark.parametrize("short_month", ["skip", "last_day"])
def test_like_an_oracle_that_goes_day_by_day(short_month: str) -> None:
    draw = random.Random(f"day by day {short_month}")
    for _ in range(25):
        spec = oracle.random_spec(draw)
        anchor = date(draw.randint(1990, 2036), draw.randint(1, 12), draw.randint(1, 28))
        text = oracle.rule_text(spec)
        low = datetime.combine(date(anchor.year + draw.choice([0, 0, 1, 2]), draw.randint(1, 12), 9), time(8))
        low = max(low, datetime.combine(anchor, time.min))
        until = datetime(low.year + 1, 6, 1)
        pattern = read_recurrence(Recurrence(text, ["09:00"], end=until.isoformat(), short_month=short_month))
        expected = []
        day = low.date()
        while day < until.date():
            if oracle.is_rule_day(spec, anchor, day, short_month == "last_day"):
                expected.append(datetime.combine(day, time(9)))
            day += oracle.DAY
        assert [slot for slot in pattern.slots(anchor, low) if slot < until] == expected, (text, anchor, low)
