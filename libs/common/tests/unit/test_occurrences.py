"""Occurrences of every scheduled kind, and what zones make of them: end, coalescing, best time, preview."""

# ruff: noqa: DTZ001 - nominal times are local.

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from itertools import islice
from typing import Any

import pytest

from postrider.contracts.definitions import CampaignDefinition, Recurrence, What, When, Who
from postrider.scheduling.occurrences import (
    Schedule,
    earliest_due,
    is_occurrence,
    latest_due,
    occurrences,
    request_at,
    schedule_of,
)
from postrider.scheduling.preview import preview
from postrider.scheduling.zone_plan import (
    Due,
    Unsent,
    due_in,
    end_at,
    missed_everywhere_reason,
    missed_reason,
    plan_zone,
)
from postrider.scheduling.zone_slots import bucket_slot, fallback_slot, read_slot

HOUR = timedelta(hours=1)
SCHEDULED = datetime(2026, 11, 25, 12, tzinfo=UTC)
ZONES = ["Pacific/Kiritimati", "Pacific/Apia", "Asia/Kathmandu", "Europe/Berlin", "America/New_York", "Etc/GMT+12"]


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]


def campaign(kind: str, when: When) -> CampaignDefinition:
    return CampaignDefinition("cmp_1", 1, "scheduled", kind, "n", "promotional", when, Who(), 1, {"1": What("x")})


def daily(*times: str, zone: str = "user", rule: str = "FREQ=DAILY", **more: Any) -> When:
    bounds = {name: more.pop(name) for name in ("start", "end", "short_month") if name in more}
    return When(time_zone=zone, recurrence=Recurrence(rule, list(times), **bounds), **more)


def names(kind: str, when: When, n: int = 3, after: str | None = None, account: str = "UTC") -> list[str]:
    return [occurrence.name for occurrence in islice(occurrences(kind, when, account, SCHEDULED, after), n)]


def test_names_do_not_depend_on_zone_or_version() -> None:
    assert names("one_time", When(at="2026-12-01T09:00:00")) == ["once"]
    dates = When(dates=["2026-12-08T09:00:00", "2026-12-01T09:00:00", "2026-12-01T09:00:00"])
    assert names("multiple_dates", dates) == ["2026-12-01T09:00:00", "2026-12-08T09:00:00"]
    assert names("recurring", daily("09:00"), 2) == ["2026-11-25T09:00:00", "2026-11-26T09:00:00"]
    assert names("live_action", When()) == []


def test_going_on_after_a_name_gives_the_rest() -> None:
    when = daily("09:00", "18:00", rule="FREQ=DAILY;COUNT=5")
    every = names("recurring", when, 9)
    assert len(every) == 5
    for at, name in enumerate(every):
        assert names("recurring", when, 9, after=name) == every[at + 1 :]
    passed = daily("09:00", zone="Europe/Berlin", rule="FREQ=DAILY;COUNT=2")  # 13:00 there: the 25th does not count
    assert names("recurring", passed, 9) == ["2026-11-26T09:00:00", "2026-11-27T09:00:00"]
    assert names("recurring", passed, 9, after="2026-11-26T09:00:00") == ["2026-11-27T09:00:00"]
    dates = When(dates=["2026-12-01T09:00:00", "2026-12-08T09:00:00"])
    assert names("multiple_dates", dates, after="2026-12-01T09:00:00") == ["2026-12-08T09:00:00"]
    assert names("one_time", When(at="2026-12-01T09:00:00"), after="once") == []


def test_the_first_occurrence_is_the_first_that_is_still_ahead() -> None:
    """In a fixed zone by its clock; in people's own as long as it is ahead for anybody, at UTC−12."""
    assert names("recurring", daily("09:00", zone="Europe/Berlin"), 1) == ["2026-11-26T09:00:00"]
    assert names("recurring", daily("13:00", zone="Europe/Berlin"), 1) == ["2026-11-25T13:00:00"]
    assert names("recurring", daily("00:00"), 1) == ["2026-11-25T00:00:00"]
    late = [o.name for o in islice(occurrences("recurring", daily("00:00"), "UTC", SCHEDULED + HOUR), 1)]
    assert late == ["2026-11-26T00:00:00"]


def test_the_days_of_a_rule_are_counted_on_the_calendar_of_the_campaign_s_zone() -> None:
    when = daily("09:00", zone="account", rule="FREQ=DAILY;INTERVAL=3")
    assert names("recurring", when, 2, account="Pacific/Auckland") == ["2026-11-26T09:00:00", "2026-11-29T09:00:00"]
    assert names("recurring", when, 2, account="America/Los_Angeles") == ["2026-11-25T09:00:00", "2026-11-28T09:00:00"]


def test_a_start_of_long_ago_costs_nothing_and_counts() -> None:
    old = daily("09:00", rule="FREQ=DAILY;INTERVAL=2", start="1900-01-01")
    assert names("recurring", old, 2) == ["2026-11-26T09:00:00", "2026-11-28T09:00:00"]
    counted = daily("09:00", rule="FREQ=WEEKLY;BYDAY=WE;COUNT=3", start="2026-11-18")
    assert names("recurring", counted, 9) == ["2026-11-25T09:00:00", "2026-12-02T09:00:00"]


def test_a_schedule_is_found_again_by_its_name() -> None:
    defined = campaign("recurring", daily("09:00", "18:00", end="2026-11-27"))
    for occurrence in occurrences(defined.kind, defined.when, "UTC", SCHEDULED):
        assert schedule_of(defined, "UTC", SCHEDULED, occurrence.name) == occurrence.schedule
        assert is_occurrence(defined, "UTC", SCHEDULED, occurrence.name)
    assert not is_occurrence(defined, "UTC", SCHEDULED, "2026-11-26T10:00:00")
    for odd in ("once", "2026-11-26", "2026-11-26T09:00:00Z", "2026-11-26T09:00"):
        assert not is_occurrence(defined, "UTC", SCHEDULED, odd)
    assert is_occurrence(campaign("one_time", When()), "UTC", SCHEDULED, "once")


def test_nothing_is_sent_behind_the_end() -> None:
    when = daily("09:00", "20:00", end="2026-11-26T20:00", send_by_seconds=4 * 3600)
    plans = {o.name: o.schedule for o in occurrences("recurring", when, "UTC", SCHEDULED)}
    assert list(plans)[-1] == "2026-11-26T20:00:00"
    morning, evening = (due_in(plans[f"2026-11-26T{at}:00:00"], "Europe/Berlin") for at in ("09", "20"))
    assert isinstance(morning, Due)
    assert morning.send_by == utc(2026, 11, 26, 12)
    assert isinstance(evening, Due)
    assert evening.send_by == end_at(plans["2026-11-26T20:00:00"], "Europe/Berlin")
    assert end_at(replace(plans["2026-11-26T20:00:00"], end=None), "Europe/Berlin") is None
    assert evening.send_by - evening.at == timedelta(minutes=1)  # the minute that the end names is still inside


def test_next_day_gives_way_to_the_next_occurrence() -> None:
    """Else the people of a passed zone would get two texts at one moment."""
    passed = Schedule(datetime(2026, 11, 25, 9), None, "next_day", SCHEDULED, 4 * HOUR, HOUR)
    alone = due_in(passed, "Europe/Berlin")
    assert isinstance(alone, Due)
    assert alone.at == utc(2026, 11, 26, 8)
    for following in (datetime(2026, 11, 26, 9), datetime(2026, 11, 26, 8)):
        plan = Schedule(datetime(2026, 11, 25, 9), None, "next_day", SCHEDULED, 4 * HOUR, HOUR, others=(following,))
        assert due_in(plan, "Europe/Berlin") == Unsent("zone_passed", utc(2026, 11, 25, 8))
    weekly = Schedule(
        datetime(2026, 11, 25, 9), None, "next_day", SCHEDULED, HOUR, HOUR, others=(datetime(2026, 12, 2, 9),)
    )
    assert isinstance(due_in(weekly, "Europe/Berlin"), Due)


def test_of_several_missed_occurrences_the_newest_inside_its_catch_up_fires() -> None:
    when = daily("08:00", "09:00", "10:00", "11:00", zone="account", catch_up_seconds=2 * 3600)
    now = utc(2026, 11, 26, 10, 30)
    said = {}
    for occurrence in islice(occurrences("recurring", when, "UTC", SCHEDULED), 4):
        outcome = plan_zone(occurrence.schedule, "Europe/Berlin", now)
        said[occurrence.name] = outcome.reason if isinstance(outcome, Unsent) else "fires"
        assert missed_everywhere_reason(occurrence.schedule, now) == said[occurrence.name].replace("fires", "")
    assert said == {
        "2026-11-26T08:00:00": "missed",
        "2026-11-26T09:00:00": "coalesced",
        "2026-11-26T10:00:00": "fires",
        "2026-11-26T11:00:00": "fires",
    }


def test_each_zone_coalesces_for_itself() -> None:
    when = daily("09:00", "10:00", catch_up_seconds=12 * 3600)
    first = next(occurrences("recurring", when, "UTC", utc(2026, 11, 24, 0)))
    assert first.name == "2026-11-24T09:00:00"
    now = utc(2026, 11, 24, 9, 30)
    assert plan_zone(first.schedule, "Asia/Kolkata", now) == Unsent("coalesced", utc(2026, 11, 24, 3, 30))
    assert isinstance(plan_zone(first.schedule, "UTC", now), Due)
    assert missed_everywhere_reason(first.schedule, now) == ""
    india = due_in(first.schedule, "Asia/Kolkata")
    assert isinstance(india, Due)
    assert india.following_at == utc(2026, 11, 24, 4, 30)


def test_two_slots_at_one_moment_are_one_text() -> None:
    when = daily("02:30", "03:30", zone="Europe/Berlin")
    moved, usual = islice(occurrences("recurring", when, "UTC", utc(2027, 3, 28, 0)), 2)
    at = utc(2027, 3, 28, 1, 30)
    assert plan_zone(moved.schedule, "UTC", at) == Unsent("coalesced", at)
    fires = plan_zone(usual.schedule, "UTC", at)
    assert isinstance(fires, Due)
    assert fires.at == at


def plans_of(when: When, scheduled_at: datetime, n: int) -> dict[str, Schedule]:
    return {o.name[5:16]: o.schedule for o in islice(occurrences("recurring", when, "UTC", scheduled_at), n)}


def test_what_the_clocks_move_past_others_is_sent_too_and_in_its_new_place() -> None:
    """02:00 to 03:00 does not exist: 02:15 happens at 03:15, after 03:00 and on one moment with 03:15."""
    when = daily("02:00", "02:15", "02:45", "03:00", "03:15", zone="Europe/Berlin", catch_up_seconds=3600)
    plans = plans_of(when, utc(2027, 3, 28, 0), 5)
    dues = {name: due_in(plan, "Europe/Berlin") for name, plan in plans.items()}
    at_its_time = {name: plan_zone(plans[name], "UTC", due.at) for name, due in dues.items()}
    assert {
        name: outcome.reason if isinstance(outcome, Unsent) else outcome.at for name, outcome in at_its_time.items()
    } == {
        "03-28T02:00": "coalesced",
        "03-28T02:15": "coalesced",
        "03-28T02:45": utc(2027, 3, 28, 1, 45),
        "03-28T03:00": utc(2027, 3, 28, 1),
        "03-28T03:15": utc(2027, 3, 28, 1, 15),
    }
    assert missed_everywhere_reason(plans["03-28T02:45"], utc(2027, 3, 28, 1, 44)) == ""
    after_downtime = [name for name in plans if isinstance(plan_zone(plans[name], "UTC", utc(2027, 3, 28, 1, 50)), Due)]
    assert after_downtime == ["03-28T02:45"]
    shown = preview("recurring", when, "UTC", "UTC", utc(2027, 3, 28, 0), limit=5)
    assert [each.kind for each in shown] == ["expired", "expired", "gap", "normal", "normal"]


def test_next_day_sees_behind_a_day_that_does_not_exist() -> None:
    """The 29th was over in Samoa when it was scheduled; its next day that exists, the 31st, has one of its own."""
    when = daily("00:30", passed_zone="next_day")
    passed = plans_of(when, utc(2011, 12, 29, 11), 1)["12-29T00:30"]
    assert due_in(passed, "Pacific/Apia") == Unsent("zone_passed", utc(2011, 12, 29, 10, 30))


def test_a_start_on_a_day_that_does_not_exist_holds_nothing_up() -> None:
    when = daily("00:30", start="2011-12-30T02:00:00")
    plan = plans_of(when, utc(2011, 12, 28), 1)["12-31T00:30"]
    due = due_in(plan, "Pacific/Apia")
    assert isinstance(due, Due)
    assert due.at == utc(2011, 12, 30, 10, 30)


def test_a_missing_day_takes_over_from_nobody() -> None:
    when = daily("09:00", catch_up_seconds=3 * 86400)
    scheduled = utc(2011, 12, 28, 0)
    eve = next(o for o in occurrences("recurring", when, "UTC", scheduled) if o.name == "2011-12-29T09:00:00")
    for zone, following in {"Pacific/Apia": utc(2011, 12, 30, 19), "Pacific/Pago_Pago": utc(2011, 12, 30, 20)}.items():
        planned = due_in(eve.schedule, zone)
        assert isinstance(planned, Due)
        assert planned.following_at == following


def test_following_comes_after_catch_up_and_before_the_deadline() -> None:
    due, send_by = utc(2026, 12, 1, 9), utc(2026, 12, 1, 9, 30)
    later = utc(2026, 12, 1, 9, 40)
    assert missed_reason(due, send_by, HOUR, later, following_at=later) == "coalesced"
    assert missed_reason(due, send_by, HOUR, later, following_at=later + HOUR) == "deadline"
    assert missed_reason(due, send_by, HOUR, due + 2 * HOUR, following_at=later) == "missed"


@pytest.mark.parametrize("passed_zone", ["drop", "next_day", "send_now"])
@pytest.mark.parametrize("best_time", [False, True])
def test_every_zone_is_due_between_the_earliest_and_the_latest_moment(passed_zone: str, best_time: bool) -> None:
    for local in (None, datetime(2026, 11, 25, 1), datetime(2026, 11, 25, 23), datetime(2026, 12, 24, 12)):
        plan = Schedule(local, None, passed_zone, SCHEDULED, 4 * HOUR, HOUR, best_time=best_time)
        for zone in ZONES:
            slots = [bucket_slot(zone, hour) for hour in range(0, 24, 2)] if best_time else [zone]
            for slot in slots:
                outcome = due_in(plan, slot)
                if isinstance(outcome, Due):
                    assert earliest_due(plan) <= outcome.at <= latest_due(plan)
        assert missed_everywhere_reason(plan, latest_due(plan) + HOUR) == ""
        assert missed_everywhere_reason(plan, latest_due(plan) + HOUR + timedelta(seconds=1)) == "missed"


def test_at_best_time_only_the_day_of_the_date_counts() -> None:
    defined = campaign("one_time", When(at="2026-12-01T09:00:00", time_zone="best_time", fallback_time="18:30"))
    plan = schedule_of(defined, "UTC", SCHEDULED)
    assert request_at(plan, HOUR) == utc(2026, 11, 30, 9)  # an hour before midnight at UTC+14
    for slot, at in [
        (bucket_slot("Asia/Kolkata", 8), utc(2026, 12, 1, 2, 30)),
        (bucket_slot("Asia/Kolkata", 22), utc(2026, 12, 1, 16, 30)),
        (fallback_slot("Europe/Berlin", time(18, 30)), utc(2026, 12, 1, 17, 30)),
    ]:
        outcome = due_in(plan, slot)
        assert isinstance(outcome, Due)
        assert outcome.at == at
        assert outcome.send_by == at + 4 * HOUR


def test_now_at_best_time_is_when_the_clock_next_shows_it() -> None:
    plan = Schedule(None, None, "drop", SCHEDULED, 4 * HOUR, HOUR, best_time=True)
    for zone in ZONES:
        for hour in range(0, 24, 2):
            outcome = due_in(plan, bucket_slot(zone, hour))
            assert isinstance(outcome, Due)
            assert timedelta(0) <= outcome.at - SCHEDULED < timedelta(days=1)


def test_at_best_time_a_day_has_one_occurrence_and_none_before_the_start() -> None:
    when = daily("09:00", "18:00", zone="best_time", start="2026-12-01T10:00", end="2026-12-02")
    plans = list(occurrences("recurring", when, "UTC", SCHEDULED))
    assert [plan.name for plan in plans] == ["2026-12-02T09:00:00"]
    whole = daily("09:00", zone="best_time", start="2026-12-01T09:00", end="2026-12-02T21:00")
    first, last = occurrences("recurring", whole, "UTC", SCHEDULED)
    early = due_in(first.schedule, bucket_slot("UTC", 6))
    assert isinstance(early, Due)
    assert early.at == utc(2026, 12, 1, 9)
    assert due_in(last.schedule, bucket_slot("UTC", 22)) == Unsent("campaign_ended", utc(2026, 12, 2, 22))
    dates = When(time_zone="best_time", dates=["2026-12-01T09:00:00", "2026-12-01T18:00:00", "2026-12-02T09:00:00"])
    assert names("multiple_dates", dates) == ["2026-12-01T09:00:00", "2026-12-02T09:00:00"]


def test_slots_are_read_back() -> None:
    assert read_slot("Asia/Kolkata") == ("Asia/Kolkata", None)
    assert read_slot(bucket_slot("Etc/GMT+12", 0)) == ("Etc/GMT+12", time(0))
    assert read_slot(fallback_slot("UTC", time(9, 30))) == ("UTC", time(9, 30))
    with pytest.raises(ValueError, match="slot"):
        read_slot("UTC#noon")
    with pytest.raises(ValueError, match="bucket"):
        bucket_slot("UTC", 9)


def shown(kind: str, when: When, zone: str, now: datetime, **more: Any) -> list[tuple[str, str, str]]:
    return [
        (p.local.isoformat(timespec="minutes"), p.at.isoformat()[:16], p.kind)
        for p in preview(kind, when, "Europe/Berlin", zone, now, **more)
    ]


def test_preview_shows_gap_fold_and_a_missing_day() -> None:
    berlin = daily("02:30", zone="account")
    assert shown("recurring", berlin, "Europe/Berlin", utc(2026, 3, 28, 12), limit=2) == [
        ("2026-03-29T02:30", "2026-03-29T01:30", "gap"),
        ("2026-03-30T02:30", "2026-03-30T00:30", "normal"),
    ]
    assert shown("recurring", berlin, "Europe/Berlin", utc(2026, 10, 24, 12), limit=1) == [
        ("2026-10-25T02:30", "2026-10-25T00:30", "fold")
    ]
    assert [
        kind for _, _, kind in shown("recurring", daily("09:00"), "Pacific/Apia", utc(2011, 12, 29, 12), limit=3)
    ] == [
        "normal",
        "skipped",
        "normal",
    ]


def test_preview_shows_twenty_and_none_that_is_past() -> None:
    now = utc(2026, 11, 25, 12)
    seen = preview("recurring", daily("09:00"), "UTC", "Asia/Kolkata", now, scheduled_at=utc(2026, 1, 1))
    assert len(seen) == 20
    assert [p.at for p in seen] == [utc(2026, 11, 26, 3, 30) + n * timedelta(days=1) for n in range(20)]


def test_preview_of_a_draft_shows_what_its_zone_has_passed() -> None:
    now = utc(2026, 12, 1, 8, 30)
    date = When(at="2026-12-01T09:00:00", time_zone="user")
    assert shown("one_time", date, "Asia/Kolkata", now) == [("2026-12-01T09:00", "2026-12-01T03:30", "expired")]
    assert shown("one_time", date, "America/New_York", now) == [("2026-12-01T09:00", "2026-12-01T14:00", "normal")]
    moved = When(at="2026-12-01T09:00:00", time_zone="user", passed_zone="next_day")
    assert shown("one_time", moved, "Asia/Kolkata", now) == [("2026-12-01T09:00", "2026-12-02T03:30", "normal")]
    assert shown("one_time", date, "Asia/Kolkata", now, scheduled_at=utc(2026, 11, 1)) == []  # it was sent
    assert shown("one_time", When(at=None), "Asia/Kolkata", now) == [("2026-12-01T09:30", "2026-12-01T08:30", "normal")]
    best = When(at=None, time_zone="best_time", fallback_time="18:30")
    assert shown("one_time", best, "Asia/Kolkata", now) == [("2026-12-01T18:30", "2026-12-01T13:00", "normal")]
    assert shown("live_action", When(), "UTC", now) == []


def test_preview_at_best_time_is_of_people_without_one() -> None:
    when = When(dates=["2026-12-01T09:00:00"], time_zone="best_time", fallback_time="18:30")
    assert shown("multiple_dates", when, "Asia/Kolkata", SCHEDULED) == [
        ("2026-12-01T18:30", "2026-12-01T13:00", "normal")
    ]
