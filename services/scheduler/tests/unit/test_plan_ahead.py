"""Which occurrence gets its run next: one ahead, what was missed, and what an edit puts in between or takes away."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from postrider.contracts.definitions import CampaignDefinition, Limits, Recurrence, What, When, Who
from postrider.scheduling.zone_plan import Due, Unsent, plan_zones
from scheduler.domain.plan import plan_ahead
from scheduler.domain.run_states import RunState
from scheduler.domain.runs import edited, new_run

LEAD = timedelta(minutes=1)
SCHEDULED = datetime(2026, 12, 1, 8, tzinfo=UTC)
HOUR = timedelta(hours=1)


def campaign(when: When, kind: str = "recurring", version: int = 1) -> CampaignDefinition:
    whats = {"1": What("Hi")}
    return CampaignDefinition(
        "cmp_1", version, "scheduled", kind, "n", "promotional", when, Who(), 1, whats, scheduled_at=SCHEDULED
    )


def daily(*times: str, zone: str = "account", changed_at: datetime | None = None, catch_up: int = 3600) -> When:
    rule = Recurrence("FREQ=DAILY", list(times))
    return When(time_zone=zone, recurrence=rule, changed_at=changed_at, catch_up_seconds=catch_up)


def dates(*at: str, zone: str = "account") -> When:
    return When(time_zone=zone, dates=list(at))


def planned(when: When, now: datetime, known: dict[str, str], kind: str = "recurring") -> dict[str, str]:
    states = {(name if name == "once" else f"2026-12-{name}:00"): RunState(state) for name, state in known.items()}
    runs = plan_ahead(campaign(when, kind), "UTC", LEAD, now, states)
    return {run.name.occurrence.removeprefix("2026-12-").removesuffix(":00"): run.state for run in runs}


def at(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 12, day, hour, minute, tzinfo=UTC)


def test_one_ahead_and_what_nobody_was_there_to_plan() -> None:
    assert planned(daily("09:00"), at(1, 8), {}) == {"01T09:00": "planned"}
    assert planned(daily("09:00"), at(1, 8), {"01T09:00": "planned"}) == {}
    assert planned(daily("09:00"), at(1, 9), {"01T09:00": "requested"}) == {"02T09:00": "planned"}
    assert planned(daily("09:00"), at(4, 9, 30), {"01T09:00": "expanded"}) == {
        "02T09:00": "expired", "03T09:00": "expired", "04T09:00": "planned"
    }  # fmt: skip
    assert planned(When(at="2026-12-03T09:00:00"), at(1, 8), {}, "one_time") == {"once": "planned"}
    assert planned(When(at="2026-12-03T09:00:00"), at(1, 8), {"once": "expanded"}, "one_time") == {}


def test_with_a_total_the_next_waits_for_the_audience_before_it() -> None:
    made = campaign(daily("09:00"))
    limited = msgspec.structs.replace(made, who=Who(limits=Limits(total=5)))
    for state, ahead in (("requested", []), ("running", ["2026-12-02T09:00:00"]), ("failed", ["2026-12-02T09:00:00"])):
        known = {"2026-12-01T09:00:00": RunState(state)}
        runs = plan_ahead(limited, "UTC", LEAD, at(1, 9), known)
        assert [run.name.occurrence for run in runs] == ahead, state
        assert [run.name.occurrence for run in plan_ahead(made, "UTC", LEAD, at(1, 9), known)] == [
            "2026-12-02T09:00:00"
        ]


def test_an_edit_that_adds_an_earlier_occurrence_is_not_forgotten() -> None:
    both = dates("2026-12-05T09:00:00", "2026-12-10T09:00:00")
    assert planned(both, at(2, 9), {"10T09:00": "planned"}, "multiple_dates") == {"05T09:00": "planned"}
    assert planned(both, at(5, 9), {"05T09:00": "requested", "10T09:00": "planned"}, "multiple_dates") == {}
    twice = daily("08:00", "09:00")
    assert planned(twice, at(1, 10), {"01T09:00": "expanded", "02T09:00": "planned"}) == {"02T08:00": "planned"}
    assert planned(twice, at(2, 8), {"02T08:00": "requested", "02T09:00": "planned"}) == {}


def test_also_before_one_whose_audience_is_being_asked_for() -> None:
    """In people's own zones that is more than a day ahead."""
    both = dates("2026-12-09T18:00:00", "2026-12-10T09:00:00", zone="user")
    assert planned(both, at(9, 12), {"10T09:00": "running"}, "multiple_dates") == {"09T18:00": "planned"}


def test_what_was_moved_while_it_was_being_sent_does_not_come_again() -> None:
    earlier = daily("08:45", zone="user", changed_at=at(1, 20))
    assert planned(earlier, at(1, 20), {"01T09:00": "expanded", "02T09:00": "running"}) == {"03T08:45": "planned"}


@pytest.mark.parametrize("to", ["08:45", "09:10"])
def test_a_time_that_had_passed_when_it_was_edited_is_not_caught_up(to: str) -> None:
    """At 9:20 the day's text is out; tomorrow is what the edit means."""
    now = at(1, 9, 20)
    moved = daily(to, changed_at=now)
    assert planned(moved, now, {"01T09:00": "expanded"}) == {f"02T{to}": "planned"}
    added = daily("09:00", to, changed_at=now)
    first = min(to, "09:00")
    assert planned(added, now, {"01T09:00": "expanded"}) == {f"02T{first}": "planned"}
    never_missed = daily("09:00", to, changed_at=now, catch_up=7 * 86_400)
    assert planned(never_missed, at(1, 23), {"01T09:00": "expanded", "02T09:00": "planned"}) == (
        {"02T08:45": "planned"} if to == "08:45" else {}
    )


def test_an_edit_counts_on_from_the_first_occurrence() -> None:
    rule = Recurrence("FREQ=DAILY;INTERVAL=2;COUNT=3", ["09:00"])
    when = When(recurrence=rule, changed_at=at(2, 12))
    assert planned(when, at(2, 12), {"01T09:00": "expanded"}) == {"03T09:00": "planned"}
    assert planned(when, at(5, 9), {"05T09:00": "requested"}) == {}


def test_zones_that_had_passed_at_the_edit_go_by_passed_zone() -> None:
    now = at(5, 12)
    when = msgspec.structs.replace(dates("2026-12-05T15:00:00", zone="user"), changed_at=now)
    run = new_run(campaign(when, "multiple_dates"), "UTC", LEAD, now, "2026-12-05T15:00:00")
    outcomes = plan_zones(run.schedule, ["Asia/Tokyo", "Europe/Berlin"], now)
    assert outcomes["Asia/Tokyo"] == Unsent("zone_passed", at(5, 6))
    assert isinstance(outcomes["Europe/Berlin"], Due)


def test_what_a_pause_held_before_its_audience_was_known_has_until_its_deadline() -> None:
    resumed = at(1, 12)
    run = replace(new_run(campaign(daily("09:00")), "UTC", LEAD, at(1, 8), "2026-12-01T09:00:00"), resumed_at=resumed)
    assert run.missed_reason(resumed) == ""
    assert isinstance(plan_zones(run.schedule, ["UTC"], resumed, run.resumed_at)["UTC"], Due)
    assert plan_zones(run.schedule, ["UTC"], at(1, 13), at(1, 13))["UTC"] == Unsent("campaign_paused", at(1, 9))
    assert plan_zones(run.schedule, ["UTC"], resumed)["UTC"] == Unsent("missed", at(1, 9))


def test_what_a_pause_held_before_it_had_a_run_has_until_its_deadline() -> None:
    """One run is planned ahead, and none while the campaign is paused: three days later two more have come due."""
    when = msgspec.structs.replace(daily("09:00"), send_by_seconds=86_400)
    known = {"2026-12-01T09:00:00": RunState.EXPIRED}
    runs = plan_ahead(campaign(when), "UTC", LEAD, at(3, 15), known, resumed_at=at(3, 15))
    assert [(run.name.occurrence, run.state, run.reason) for run in runs] == [
        ("2026-12-02T09:00:00", "expired", "campaign_paused"),
        ("2026-12-03T09:00:00", "planned", ""),
    ]
    held = runs[-1]
    outcomes = plan_zones(held.schedule, ["UTC"], at(3, 15), held.resumed_at)
    assert isinstance(outcomes["UTC"], Due)


def test_what_an_edit_put_in_between_during_a_pause_has_until_its_deadline() -> None:
    known = {"2026-12-05T09:00:00": RunState.PLANNED}
    when = dates("2026-12-03T09:00:00", "2026-12-05T09:00:00")
    made = campaign(when, "multiple_dates")
    (between,) = plan_ahead(made, "UTC", LEAD, at(3, 11), known, resumed_at=at(3, 11))
    assert (between.name.occurrence, between.reason) == ("2026-12-03T09:00:00", "")
    assert isinstance(plan_zones(between.schedule, ["UTC"], at(3, 11), between.resumed_at)["UTC"], Due)
    assert plan_ahead(made, "UTC", LEAD, at(3, 11), known) == []


def test_new_time_zone_data_moves_the_request_of_a_planned_run() -> None:
    run = new_run(campaign(daily("09:00")), "UTC", LEAD, at(1, 8), "2026-12-01T09:00:00")
    by_old_data = replace(run, request_at=run.request_at + HOUR)
    assert edited(run, run.definition, "UTC", LEAD) is run
    assert edited(by_old_data, run.definition, "UTC", LEAD) == run
