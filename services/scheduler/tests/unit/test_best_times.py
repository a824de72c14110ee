"""From the slot of a person's best time to the moment their text may leave: clocks that change, quiet hours."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from postrider.contracts import ids
from postrider.contracts.definitions import (
    AccountSettings,
    CampaignDefinition,
    QuietHours,
    QuietWindow,
    What,
    When,
    Who,
)
from postrider.scheduling.zone_plan import Due, end_at, plan_zones
from postrider.scheduling.zone_slots import read_slot
from scheduler.domain.gate import Books, Candidate, Leave, consider, decide, terms_of
from scheduler.domain.runs import new_run
from scheduler.domain.settled import Settled

EVERY_DAY = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
BEFORE = datetime(2026, 1, 1, tzinfo=UTC)
NEW_YORK, BERLIN, LORD_HOWE = "America/New_York", "Europe/Berlin", "Australia/Lord_Howe"


def utc(month: int, day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2026, month, day, hour, minute, tzinfo=UTC)


def decided(
    day: str, slot: str, quiet: tuple[str, str] | None = None, on_hit: str = "delay", send_by_seconds: int = 3600
) -> Leave | Settled:
    """What a person of that slot comes to in a campaign of that day."""
    windows = [QuietWindow(EVERY_DAY, *quiet)] if quiet else []
    campaign = CampaignDefinition(
        "cmp_1", 1, "running", "one_time", "n", "transactional",
        When(
            at=f"{day}T00:00:00", time_zone="best_time", fallback_time="09:30", send_by_seconds=send_by_seconds,
            quiet_hours=QuietHours(windows, on_hit),
        ),
        Who(rule={"all": []}), 1, {"1": What("Hi")}, BEFORE,
    )  # fmt: skip
    schedule = new_run(campaign, "UTC", timedelta(0), BEFORE).schedule
    due = plan_zones(schedule, [slot], BEFORE)[slot]
    assert isinstance(due, Due)
    own = read_slot(slot)[0]
    candidate = Candidate(ids.message_id("cmp_1", "once", "u"), "cmp_1", "u", own, "+4915112345678", "DE", due.at, 0)
    terms = terms_of(campaign, AccountSettings(), "UTC", end=end_at(schedule, slot))
    (outcome,) = decide([consider(candidate, terms, BEFORE)], Books())
    return outcome


@pytest.mark.parametrize(
    ("day", "slot", "at"),
    [
        ("2026-12-01", f"{BERLIN}#08", utc(12, 1, 7)),
        ("2026-12-01", f"{BERLIN}#0930", utc(12, 1, 8, 30)),
        ("2026-12-01", f"{NEW_YORK}#22", utc(12, 2, 3)),
        # A bucket that the clocks jump over begins when they have; one that comes twice, the first time.
        ("2026-03-08", f"{NEW_YORK}#02", utc(3, 8, 7)),
        ("2026-10-25", f"{BERLIN}#02", utc(10, 25, 0)),
        ("2026-10-25", f"{BERLIN}#04", utc(10, 25, 3)),
        # By half an hour.
        ("2026-10-04", f"{LORD_HOWE}#02", utc(10, 3, 15, 30)),
    ],
)
def test_a_text_is_due_when_its_person_s_bucket_begins(day: str, slot: str, at: datetime) -> None:
    outcome = decided(day, slot)
    assert isinstance(outcome, Leave)
    assert (outcome.due_at, outcome.send_by) == (at, at + timedelta(hours=1))


@pytest.mark.parametrize(
    ("day", "slot", "quiet", "at"),
    [
        ("2026-12-01", f"{BERLIN}#08", ("21:00", "09:30"), utc(12, 1, 9)),  # the bucket at 10, not 9:30
        ("2026-12-01", f"{BERLIN}#0930", ("21:00", "10:00"), utc(12, 1, 9)),
        ("2026-12-01", f"{BERLIN}#22", ("21:00", "09:30"), utc(12, 2, 9)),  # over midnight
        ("2026-12-01", f"{BERLIN}#20", ("21:00", "09:30"), utc(12, 1, 19)),
        ("2026-03-28", f"{BERLIN}#22", ("21:00", "01:30"), utc(3, 29, 1)),  # 2:00 becomes 3:00 that night
        ("2026-10-24", f"{BERLIN}#22", ("21:00", "01:30"), utc(10, 25, 0)),  # 2:00 comes twice
    ],
)
def test_in_quiet_hours_it_waits_for_the_next_bucket_that_is_allowed(
    day: str, slot: str, quiet: tuple[str, str], at: datetime
) -> None:
    outcome = decided(day, slot, quiet)
    assert isinstance(outcome, Leave)
    assert (outcome.due_at, outcome.send_by) == (at, at + timedelta(hours=1))
    assert all(outcome.due_at <= each.start < each.end <= outcome.send_by for each in outcome.intervals)


def test_discarded_it_is_not_sent() -> None:
    outcome = decided("2026-12-01", f"{BERLIN}#08", ("21:00", "09:30"), on_hit="discard")
    assert isinstance(outcome, Settled)
    assert outcome.status == "quiet_hours"
