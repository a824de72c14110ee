"""The first reason that applies counts: a rank is fixed with the audience, so a run's limit comes before quiet hours;
a slot of the day or the total is taken by whoever may really be texted."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from postrider.contracts.definitions import (
    AccountSettings,
    CampaignDefinition,
    FrequencyCap,
    Limits,
    QuietHours,
    QuietWindow,
    Trigger,
    What,
    When,
    Who,
)
from scheduler.domain.gate import Books, Candidate, consider, decide, terms_of
from scheduler.domain.limits import Counter
from scheduler.domain.settled import Settled

DUE = datetime(2026, 12, 1, 23, 0, tzinfo=UTC)
NIGHT = QuietHours([QuietWindow(["mon", "tue", "wed", "thu", "fri", "sat", "sun"], "21:00", "09:00")], "discard")


def campaign(kind: str, quiet: bool, limits: Limits) -> CampaignDefinition:
    who = Who(rule={"all": []}, limits=limits) if kind == "one_time" else Who(trigger=Trigger("e"), limits=limits)
    return CampaignDefinition(
        campaign_id="cmp_1",
        version=1,
        status="running",
        kind=kind,
        name="n",
        message_class="transactional",
        when=When(send_by_seconds=900, quiet_hours=NIGHT if quiet else None),
        who=who,
        what_version=1,
        whats={"1": What("a")},
        scheduled_at=DUE,
    )


def decided(
    kind: str, *, quiet: bool = False, limits: Limits | None = None, rank: int | None = None, cut: int | None = None,
    taken: int = 0, settings: AccountSettings | None = None,
) -> object:  # fmt: skip
    made = campaign(kind, quiet, limits or Limits())
    terms = terms_of(made, settings or AccountSettings(), "UTC", cut)
    candidate = Candidate("m" * 32, "cmp_1", "u1", "UTC", "+12025550101", "US", DUE, rank)
    considered = consider(candidate, terms, DUE)
    books = Books({key: Counter(taken) for key in considered.counter_keys()}, {"u1": []})
    (outcome,) = decide([considered], books)
    return outcome


@pytest.mark.parametrize("quiet", [False, True])
def test_who_is_behind_the_cut_of_a_run_is_limited_also_at_night(quiet: bool) -> None:
    assert decided("one_time", quiet=quiet, limits=Limits(run=3), rank=3, cut=3) == Settled("limited", "run")


def test_the_limit_that_is_named_is_the_one_that_cut() -> None:
    assert decided("one_time", limits=Limits(run=5, total=3), rank=4, cut=3) == Settled("limited", "total")
    assert decided("one_time", limits=Limits(run=3, total=9), rank=5, cut=3) == Settled("limited", "run")


def test_a_text_in_quiet_hours_takes_no_slot_of_the_day() -> None:
    assert decided("live_action", quiet=True, limits=Limits(daily=1), taken=1) == Settled(
        "quiet_hours", "in_quiet_hours"
    )
    assert decided("live_action", limits=Limits(daily=1), taken=1) == Settled("limited", "daily")


def test_limits_come_before_caps() -> None:
    capped = AccountSettings(frequency_caps=[FrequencyCap(0, 1)])
    assert decided("live_action", settings=capped) == Settled("capped", "0_per_1_days")
    assert decided("live_action", settings=capped, limits=Limits(total=2), taken=2) == Settled("limited", "total")
