"""Quiet hours against a brute force that looks at the clock on the wall, minute by minute."""

# ruff: noqa: DTZ001 - nominal times are local.

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest

from postrider.contracts.definitions import QuietHours, QuietWindow
from postrider.scheduling.quiet_hours import Allowed, QuietPlan, Refused, first_reading, last_reading
from postrider.zones import load_zone

EVERY_DAY = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
NO_QUIET = QuietHours()
NIGHT = QuietHours([QuietWindow(EVERY_DAY, "21:00", "09:00")])

CHANGES = [
    ("Europe/Berlin", date(2026, 3, 29)),
    ("Europe/Berlin", date(2026, 10, 25)),
    ("America/New_York", date(2026, 11, 1)),
    ("Australia/Lord_Howe", date(2026, 4, 5)),
    ("Australia/Lord_Howe", date(2026, 10, 4)),
    ("America/Sao_Paulo", date(2018, 11, 4)),
    ("America/Sao_Paulo", date(2019, 2, 16)),
    ("Asia/Pyongyang", date(2015, 8, 14)),
    ("Pacific/Apia", date(2011, 12, 30)),
    ("Pacific/Kwajalein", date(1993, 8, 21)),
    ("Asia/Kolkata", date(2026, 6, 1)),
    ("Asia/Kathmandu", date(2026, 6, 1)),
    ("Pacific/Kiritimati", date(2026, 6, 1)),
]


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]


def plan(quiet: QuietHours | None, account: QuietHours = NO_QUIET, message_class: str = "transactional") -> QuietPlan:
    return QuietPlan(quiet, account, message_class)


def decide(
    quiet: QuietHours, due: datetime, zone: str, send_by: timedelta = 4 * HOUR, end: datetime | None = None
) -> Allowed | Refused:
    return plan(quiet).decide(due, send_by, zone, "+491701234567", "DE", end)


def allowed(
    quiet: QuietHours, due: datetime, zone: str, send_by: timedelta = 4 * HOUR
) -> list[tuple[datetime, datetime]]:
    outcome = decide(quiet, due, zone, send_by)
    assert isinstance(outcome, Allowed), outcome
    return [(interval.start, interval.end) for interval in outcome.intervals]


def is_quiet_by_the_clock(quiet: QuietHours, shown: datetime) -> bool:
    """Looks at a reading of the clock, nothing else."""
    for window in quiet.windows:
        start, end = (int(text[:2]) * 60 + int(text[3:]) for text in (window.start, window.end))
        minute = shown.hour * 60 + shown.minute
        today, yesterday = EVERY_DAY[shown.weekday()], EVERY_DAY[shown.weekday() - 1]
        if end > start:
            if today in window.days and start <= minute < end:
                return True
        elif (today in window.days and minute >= start) or (yesterday in window.days and minute < end):
            return True
    return False


def random_windows(draw: random.Random) -> QuietHours:
    windows = []
    for _ in range(draw.randint(1, 3)):
        days = draw.sample(EVERY_DAY, draw.randint(1, 7))
        start, end = (
            f"{draw.choice([0, 1, 2, 3, 9, 21, 23])}".zfill(2) + draw.choice([":00", ":15", ":30"]) for _ in "ab"
        )
        windows.append(QuietWindow(days, start, end))
    return QuietHours(windows)


@pytest.mark.parametrize(("zone", "day"), CHANGES)
def test_never_in_quiet_hours_by_the_clock_on_the_wall(zone: str, day: date) -> None:
    """And never quiet without need: beyond the clock only inside an hour that comes twice, where a window runs on."""
    draw = random.Random(f"{zone}{day}")
    rules = load_zone(zone)
    begin = datetime(day.year, day.month, day.day, tzinfo=UTC) - 30 * HOUR
    minutes = [begin + number * MINUTE for number in range(60 * 60)]
    walls = [at.astimezone(rules) for at in minutes]
    for _ in range(4):
        quiet = random_windows(draw)
        open_stretches = allowed_over(quiet, begin, zone, 60 * HOUR)
        for at, shown in zip(minutes, walls, strict=True):
            is_open = any(start <= at < end for start, end in open_stretches)
            naive = shown.replace(tzinfo=None)
            if is_quiet_by_the_clock(quiet, naive):
                assert not is_open, (quiet, at, shown)
            elif not is_open:
                assert comes_twice_today(naive, rules), (quiet, at, shown)


def comes_twice_today(naive: datetime, rules: object) -> bool:
    around = (naive + offset * MINUTE for offset in range(-120, 121, 15))
    return any(
        near.replace(tzinfo=rules, fold=0).utcoffset() != near.replace(tzinfo=rules, fold=1).utcoffset()  # type: ignore[arg-type]
        for near in around
    )


def allowed_over(quiet: QuietHours, begin: datetime, zone: str, length: timedelta) -> list[tuple[datetime, datetime]]:
    """What is open in a stretch of time; asked in pieces, each from the end of what the last one said."""
    found, at = [], begin
    while at < begin + length:
        outcome = decide(quiet, at, zone, length)
        if isinstance(outcome, Refused):
            break
        found += [(interval.start, interval.end) for interval in outcome.intervals]
        at = outcome.send_by
    return found


def test_over_midnight_and_back_on_the_next_morning() -> None:
    assert allowed(NIGHT, utc(2026, 12, 1, 23), "Europe/Berlin") == [(utc(2026, 12, 2, 8), utc(2026, 12, 2, 12))]
    assert allowed(NIGHT, utc(2026, 12, 1, 19), "Europe/Berlin", 16 * HOUR) == [
        (utc(2026, 12, 1, 19), utc(2026, 12, 1, 20)),
        (utc(2026, 12, 2, 8), utc(2026, 12, 2, 11)),
    ]


def test_the_boundaries_belong_to_the_day() -> None:
    assert allowed(NIGHT, utc(2026, 12, 1, 8), "Europe/Berlin")[0][0] == utc(2026, 12, 1, 8)
    assert allowed(NIGHT, utc(2026, 12, 1, 20), "Europe/Berlin")[0][0] == utc(2026, 12, 2, 8)


def test_each_weekday_has_its_own_windows() -> None:
    quiet = QuietHours([QuietWindow(["sat"], "00:00", "00:00"), QuietWindow(["fri", "sun"], "18:00", "00:00")])
    friday_evening = utc(2026, 11, 27, 19)
    assert allowed(quiet, friday_evening, "UTC")[0][0] == utc(2026, 11, 29, 0)
    assert allowed(quiet, utc(2026, 11, 29, 17), "UTC") == [(utc(2026, 11, 29, 17), utc(2026, 11, 29, 18))]
    assert allowed(quiet, utc(2026, 11, 30, 17), "UTC") == [(utc(2026, 11, 30, 17), utc(2026, 11, 30, 21))]


def test_windows_that_touch_are_one() -> None:
    quiet = QuietHours([QuietWindow(EVERY_DAY, "20:00", "00:00"), QuietWindow(EVERY_DAY, "00:00", "08:00")])
    assert allowed(quiet, utc(2026, 12, 1, 21), "UTC") == [(utc(2026, 12, 2, 8), utc(2026, 12, 2, 12))]
    sunday = utc(2026, 12, 6, 23, 30)  # over the end of a week
    assert allowed(quiet, sunday, "UTC") == [(utc(2026, 12, 7, 8), utc(2026, 12, 7, 12))]


def test_the_deadline_counts_from_the_moved_due_and_ends_with_the_campaign() -> None:
    due = utc(2026, 12, 1, 23)
    moved = decide(NIGHT, due, "Europe/Berlin", HOUR)
    assert isinstance(moved, Allowed)
    assert (moved.due_at, moved.send_by) == (utc(2026, 12, 2, 8), utc(2026, 12, 2, 9))
    capped = decide(NIGHT, due, "Europe/Berlin", HOUR, utc(2026, 12, 2, 8, 30))
    assert isinstance(capped, Allowed)
    assert capped.send_by == utc(2026, 12, 2, 8, 30)
    assert decide(NIGHT, due, "Europe/Berlin", HOUR, utc(2026, 12, 2, 8)) == Refused("expired", "campaign_ended")


def test_discard_drops_what_is_due_inside_and_keeps_the_rest_out() -> None:
    quiet = QuietHours(NIGHT.windows, "discard")
    assert decide(quiet, utc(2026, 12, 1, 23), "Europe/Berlin") == Refused("quiet_hours", "in_quiet_hours")
    assert allowed(quiet, utc(2026, 12, 1, 19), "Europe/Berlin") == [(utc(2026, 12, 1, 19), utc(2026, 12, 1, 20))]
    assert plan(quiet).on_hit == "discard"


def test_a_campaign_s_quiet_hours_replace_the_account_s() -> None:
    due = utc(2026, 12, 1, 23)
    for chosen, at in [(None, 8), (QuietHours([QuietWindow(EVERY_DAY, "21:00", "10:00")]), 9)]:
        outcome = plan(chosen, NIGHT).decide(due, HOUR, "Europe/Berlin", "+49", "DE")
        assert isinstance(outcome, Allowed)
        assert outcome.due_at == utc(2026, 12, 2, at)
    free = plan(NO_QUIET, NIGHT).decide(due, HOUR, "Europe/Berlin", "+49", "DE")
    assert isinstance(free, Allowed)
    assert free.due_at == due


def test_quiet_all_week_is_said_and_not_searched_for_ever() -> None:
    always = QuietHours([QuietWindow(EVERY_DAY, "00:00", "00:00")])
    assert decide(always, utc(2026, 12, 1, 23), "Europe/Berlin") == Refused("quiet_hours", "never_allowed")


def test_a_deadline_of_weeks_has_a_stretch_for_each_day() -> None:
    stretches = allowed(NIGHT, utc(2026, 12, 1, 12), "UTC", 30 * DAY)
    assert len(stretches) == 31
    assert all(later[0] - earlier[1] == 12 * HOUR for earlier, later in pairwise(stretches))


def test_at_best_time_a_delay_ends_where_a_bucket_begins() -> None:
    quiet = QuietHours([QuietWindow(EVERY_DAY, "21:00", "09:30")])
    due = utc(2026, 12, 1, 21)  # 22:00 in Berlin
    to_bucket = plan(quiet).decide(due, HOUR, "Europe/Berlin", "+49", "DE", to_bucket=True)
    assert isinstance(to_bucket, Allowed)
    assert to_bucket.due_at == utc(2026, 12, 2, 9)  # 10:00
    outside = plan(quiet).decide(utc(2026, 12, 1, 9, 30), HOUR, "Europe/Berlin", "+49", "DE", to_bucket=True)
    assert isinstance(outside, Allowed)
    assert outside.due_at == utc(2026, 12, 1, 9, 30)
    until_ten = QuietHours([QuietWindow(EVERY_DAY, "21:00", "10:00")])
    at_once = plan(until_ten).decide(due, HOUR, "Europe/Berlin", "+49", "DE", to_bucket=True)
    assert isinstance(at_once, Allowed)
    assert at_once.due_at == utc(2026, 12, 2, 9)
    narrow = QuietHours([QuietWindow(EVERY_DAY, "21:30", "20:30")])
    without = plan(narrow).decide(due, HOUR, "Europe/Berlin", "+49", "DE", to_bucket=True)
    assert isinstance(without, Allowed)
    assert without.due_at == utc(2026, 12, 2, 19, 30)  # no bucket begins in the one open hour


def test_a_zone_that_the_data_does_not_have_counts_as_the_account_s() -> None:
    quiet = QuietPlan(NIGHT, NO_QUIET, "transactional", "Europe/Berlin")
    known = quiet.decide(utc(2026, 12, 1, 23), HOUR, "Europe/Berlin", "+49", "DE")
    assert quiet.decide(utc(2026, 12, 1, 23), HOUR, "America/Founded_Tomorrow", "+49", "DE") == known


@pytest.mark.parametrize(
    "window",
    [
        QuietWindow([], "21:00", "09:00"),
        QuietWindow(["monday"], "21:00", "09:00"),
        QuietWindow(["mon"], "9:00", "21:00"),
        QuietWindow(["mon"], "09:00", "24:00"),
    ],
)
def test_a_window_that_means_nothing_is_refused(window: QuietWindow) -> None:
    with pytest.raises(ValueError, match="must"):
        plan(QuietHours([window]))
    with pytest.raises(ValueError, match="on_hit"):
        plan(QuietHours(on_hit="later"))


def test_first_and_last_readings() -> None:
    gap = datetime(2026, 3, 29, 2, 30)
    assert first_reading(gap, "Europe/Berlin") == last_reading(gap, "Europe/Berlin") == utc(2026, 3, 29, 1)
    fold = datetime(2026, 10, 25, 2, 30)
    assert (first_reading(fold, "Europe/Berlin"), last_reading(fold, "Europe/Berlin")) == (
        utc(2026, 10, 25, 0, 30),
        utc(2026, 10, 25, 1, 30),
    )
    missing = datetime(2011, 12, 30, 21)
    assert first_reading(missing, "Pacific/Apia") == last_reading(missing, "Pacific/Apia") == utc(2011, 12, 30, 10)
