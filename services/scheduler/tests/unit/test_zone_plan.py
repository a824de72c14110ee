"""When a run is due in a zone: every rule of semantics.md §4 with the clocks that break naive code."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from postrider.contracts.definitions import CampaignDefinition, What, When, Who
from postrider.scheduling.occurrences import Schedule, earliest_due, request_at, schedule_of
from postrider.scheduling.zone_plan import Due, Unsent, missed_reason, plan_zone, plan_zones

LONG_BEFORE = datetime(2026, 11, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def local(*parts: int) -> datetime:
    return datetime(*parts)  # type: ignore[arg-type]  # noqa: DTZ001


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]


NINE = local(2026, 12, 1, 9)


def schedule(
    at: datetime | None = NINE,
    zone: str | None = None,
    passed_zone: str = "drop",
    scheduled_at: datetime = LONG_BEFORE,
    send_by: timedelta = 4 * HOUR,
    catch_up: timedelta = HOUR,
) -> Schedule:
    return Schedule(at, zone, passed_zone, scheduled_at, send_by, catch_up)


def due_at(plan: Schedule, zone: str, now: datetime | None = None) -> datetime:
    outcome = plan_zone(plan, zone, now or plan.scheduled_at)
    assert isinstance(outcome, Due), outcome
    assert outcome.send_by == outcome.at + plan.send_by
    return outcome.at


@pytest.mark.parametrize(
    ("zone", "at"),
    [
        ("Pacific/Kiritimati", utc(2026, 11, 30, 19)),
        ("Pacific/Chatham", utc(2026, 11, 30, 19, 15)),
        ("Asia/Kathmandu", utc(2026, 12, 1, 3, 15)),
        ("Asia/Kolkata", utc(2026, 12, 1, 3, 30)),
        ("Europe/Berlin", utc(2026, 12, 1, 8)),
        ("UTC", utc(2026, 12, 1, 9)),
        ("America/New_York", utc(2026, 12, 1, 14)),
        ("Etc/GMT+12", utc(2026, 12, 1, 21)),
    ],
)
def test_each_zone_fires_at_its_own_instant(zone: str, at: datetime) -> None:
    assert due_at(schedule(), zone) == at


def test_in_the_account_zone_all_fire_at_one_instant() -> None:
    plan = schedule(zone="Europe/Berlin")
    outcomes = plan_zones(plan, ["Pacific/Kiritimati", "Etc/GMT+12", "Europe/Berlin"], LONG_BEFORE)
    assert {outcome.at for outcome in outcomes.values()} == {utc(2026, 12, 1, 8)}


def test_a_zone_that_the_data_here_does_not_know_counts_as_the_account_s() -> None:
    plan = replace(schedule(), account_zone="Europe/Berlin")
    assert due_at(plan, "America/Founded_Tomorrow") == due_at(plan, "Europe/Berlin") == utc(2026, 12, 1, 8)
    assert due_at(replace(plan, zone="Asia/Kolkata"), "America/Founded_Tomorrow") == utc(2026, 12, 1, 3, 30)


def test_now_is_due_when_it_was_scheduled_in_every_zone() -> None:
    plan = schedule(at=None, scheduled_at=utc(2026, 12, 1, 10))
    for zone in ("Pacific/Kiritimati", "Etc/GMT+12"):
        assert due_at(plan, zone, utc(2026, 12, 1, 10, 0, 7)) == utc(2026, 12, 1, 10)


def test_a_time_in_the_gap_moves_forward_by_the_gap() -> None:
    assert due_at(schedule(local(2026, 3, 29, 2, 30), scheduled_at=utc(2026, 3, 1)), "Europe/Berlin") == utc(
        2026, 3, 29, 1, 30
    )


def test_a_time_that_happens_twice_fires_the_first_time() -> None:
    assert due_at(schedule(local(2026, 10, 25, 2, 30), scheduled_at=utc(2026, 10, 1)), "Europe/Berlin") == utc(
        2026, 10, 25, 0, 30
    )


@pytest.mark.parametrize("passed_zone", ["drop", "next_day", "send_now"])
@pytest.mark.parametrize(
    ("day", "zone", "neighbour", "at"),
    [
        (local(2011, 12, 30, 9), "Pacific/Apia", "Pacific/Pago_Pago", utc(2011, 12, 30, 20)),
        (local(1993, 8, 21, 9), "Pacific/Kwajalein", "Pacific/Majuro", utc(1993, 8, 20, 21)),
    ],
)
def test_a_day_that_does_not_exist_is_skipped_and_recorded(
    passed_zone: str, day: datetime, zone: str, neighbour: str, at: datetime
) -> None:
    long_before = day.replace(day=1, tzinfo=UTC)
    plan = schedule(day, passed_zone=passed_zone, scheduled_at=long_before)
    outcome = plan_zone(plan, zone, long_before)
    assert isinstance(outcome, Unsent)
    assert (outcome.reason, outcome.is_dropped) == ("skipped_day", True)
    assert due_at(plan, neighbour) == at


SCHEDULED = utc(2026, 12, 1, 8, 30)
"""09:00 on the 1st has passed in Kolkata (03:30) and Berlin (08:00), not in New York (14:00)."""


def test_passed_drop() -> None:
    plan = schedule(passed_zone="drop", scheduled_at=SCHEDULED)
    assert plan_zone(plan, "Asia/Kolkata", SCHEDULED) == Unsent("zone_passed", utc(2026, 12, 1, 3, 30))
    assert due_at(plan, "America/New_York") == utc(2026, 12, 1, 14)


def test_passed_send_now() -> None:
    plan = schedule(passed_zone="send_now", scheduled_at=SCHEDULED)
    assert due_at(plan, "Asia/Kolkata", SCHEDULED + timedelta(minutes=1)) == SCHEDULED
    assert due_at(plan, "America/New_York") == utc(2026, 12, 1, 14)


def test_passed_next_day_moves_the_deadline_too() -> None:
    plan = schedule(passed_zone="next_day", scheduled_at=SCHEDULED)
    outcome = plan_zone(plan, "Asia/Kolkata", SCHEDULED)
    assert outcome == Due(utc(2026, 12, 2, 3, 30), utc(2026, 12, 2, 7, 30))
    assert due_at(plan, "America/New_York") == utc(2026, 12, 1, 14)


def test_next_day_across_a_clock_change_keeps_the_local_time() -> None:
    plan = schedule(local(2026, 3, 28, 9), passed_zone="next_day", scheduled_at=utc(2026, 3, 28, 12))
    assert due_at(plan, "Europe/Berlin") == utc(2026, 3, 29, 7)
    in_the_gap = schedule(local(2026, 3, 28, 2, 30), passed_zone="next_day", scheduled_at=utc(2026, 3, 28, 12))
    assert due_at(in_the_gap, "Europe/Berlin") == utc(2026, 3, 29, 1, 30)


def test_next_day_passes_over_a_day_that_does_not_exist() -> None:
    plan = schedule(local(2011, 12, 29, 9), passed_zone="next_day", scheduled_at=utc(2011, 12, 29, 22))
    assert due_at(plan, "Pacific/Apia") == utc(2011, 12, 30, 19)  # the 31st, in UTC+14


def test_next_day_may_be_the_second_when_one_has_passed_as_well() -> None:
    plan = schedule(local(2026, 12, 1, 0, 30), passed_zone="next_day", scheduled_at=utc(2026, 12, 1, 12))
    assert due_at(plan, "Pacific/Kiritimati") == utc(2026, 12, 2, 10, 30)


def test_passed_is_judged_when_it_was_scheduled_and_not_later() -> None:
    plan = schedule(passed_zone="drop", scheduled_at=utc(2026, 12, 1, 7, 59), catch_up=HOUR)
    assert due_at(plan, "Europe/Berlin", utc(2026, 12, 1, 8, 40)) == utc(2026, 12, 1, 8)


def test_the_very_instant_has_not_passed() -> None:
    assert due_at(schedule(scheduled_at=utc(2026, 12, 1, 8)), "Europe/Berlin") == utc(2026, 12, 1, 8)


@pytest.mark.parametrize(
    ("late", "reason"),
    [(timedelta(0), ""), (HOUR, ""), (HOUR + timedelta(microseconds=1), "missed"), (5 * HOUR, "missed")],
)
def test_missed_by_downtime_falls_under_catch_up(late: timedelta, reason: str) -> None:
    due = utc(2026, 12, 1, 8)
    assert missed_reason(due, due + 4 * HOUR, HOUR, due + late) == reason
    outcome = plan_zone(schedule(), "Europe/Berlin", due + late)
    assert outcome == (Unsent("missed", due) if reason else Due(due, due + 4 * HOUR))
    if isinstance(outcome, Unsent):
        assert not outcome.is_dropped


def test_a_deadline_shorter_than_catch_up_ends_it() -> None:
    due = utc(2026, 12, 1, 8)
    assert missed_reason(due, due + timedelta(minutes=10), HOUR, due + timedelta(minutes=9)) == ""
    assert missed_reason(due, due + timedelta(minutes=10), HOUR, due + timedelta(minutes=10)) == "deadline"


def test_the_ordinary_delay_is_no_downtime() -> None:
    due = utc(2026, 12, 1, 8)
    assert missed_reason(due, due + HOUR, timedelta(seconds=1), due + timedelta(seconds=4)) == ""
    assert missed_reason(due, due + HOUR, timedelta(seconds=1), due + timedelta(seconds=6)) == "missed"


def test_a_send_now_zone_missed_by_downtime_expires() -> None:
    plan = schedule(passed_zone="send_now", scheduled_at=SCHEDULED)
    assert plan_zone(plan, "Asia/Kolkata", SCHEDULED + 2 * HOUR) == Unsent("missed", SCHEDULED)


def test_the_audience_is_asked_for_ahead_of_the_first_zone_on_earth() -> None:
    lead = timedelta(seconds=60)
    assert request_at(schedule(), lead) == utc(2026, 11, 30, 18, 59)
    assert request_at(schedule(zone="Europe/Berlin"), lead) == utc(2026, 12, 1, 7, 59)
    assert request_at(schedule(scheduled_at=SCHEDULED), lead) == SCHEDULED
    assert request_at(schedule(at=None, scheduled_at=SCHEDULED), lead) == SCHEDULED


@given(
    offset=st.integers(-14 * 60, 36 * 60),
    zone=st.sampled_from(["Pacific/Kiritimati", "Asia/Kolkata", "Europe/Berlin", "America/St_Johns", "Etc/GMT+12"]),
    policy=st.sampled_from(["drop", "next_day", "send_now"]),
    at=st.datetimes(local(2026, 1, 1), local(2027, 12, 31)),
)
def test_no_zone_is_due_before_the_earliest_moment_or_before_it_was_scheduled(
    offset: int, zone: str, policy: str, at: datetime
) -> None:
    plan = schedule(at, passed_zone=policy, scheduled_at=at.replace(tzinfo=UTC) + timedelta(minutes=offset))
    outcome = plan_zone(plan, zone, plan.scheduled_at)
    if isinstance(outcome, Due):
        assert outcome.at >= max(earliest_due(plan), plan.scheduled_at)
        assert outcome.at - plan.scheduled_at <= timedelta(days=2)
    else:
        assert (policy, outcome.reason) == ("drop", "zone_passed")
        assert outcome.at < plan.scheduled_at


def test_a_definition_says_the_schedule() -> None:
    when = When(at="2026-12-01T09:00:00", time_zone="account", send_by_seconds=60, catch_up_seconds=30)
    campaign = CampaignDefinition(
        "cmp_1", 1, "scheduled", "one_time", "n", "promotional", when, Who(), 1, {"1": What("x")}
    )
    plan = schedule_of(campaign, "Europe/Berlin", LONG_BEFORE)
    assert (plan.local, plan.zone, plan.account_zone) == (NINE, "Europe/Berlin", "Europe/Berlin")
    named = msgspec.structs.replace(campaign, when=msgspec.structs.replace(when, time_zone="Asia/Kathmandu"))
    assert due_at(schedule_of(named, "Europe/Berlin", LONG_BEFORE), "America/Lima") == utc(2026, 12, 1, 3, 15)
    assert (plan.send_by, plan.catch_up) == (timedelta(seconds=60), timedelta(seconds=30))
