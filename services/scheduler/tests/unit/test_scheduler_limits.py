"""Limits: exact whatever the order of batches, slots given back once, control and reach as verdicts."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta

import pytest

from postrider.contracts.definitions import Limits
from scheduler.domain.limits import (
    Counter,
    counting_day,
    excluded,
    give_back,
    is_unsafe,
    run_cut,
    take,
    take_both,
)


def test_first_come_first_served_and_never_more() -> None:
    first = take(Counter(), 10, 7, "daily")
    assert (first.n, first.counter, first.reason) == (7, Counter(7), "")
    second = take(first.counter, 10, 7, "daily")
    assert (second.n, second.counter, second.reason) == (3, Counter(10), "daily")
    third = take(second.counter, 10, 1, "daily")
    assert (third.n, third.counter) == (0, Counter(10))
    assert take(Counter(), None, 5, "daily").n == 5


def test_a_limit_that_was_lowered_below_what_is_taken_grants_nothing() -> None:
    assert take(Counter(8), 5, 3, "total").n == 0


def test_a_slot_given_back_is_taken_again() -> None:
    counter = give_back(Counter(10), 2)
    assert counter.held == 8
    assert take(counter, 10, 5, "total").n == 2
    with pytest.raises(ValueError, match="given back"):
        give_back(counter, 9)


def test_the_campaign_s_total_and_the_day_s_limit_are_taken_together() -> None:
    n, total, day, reason = take_both(Counter(95), Counter(0), Limits(total=100, daily=3), 10)
    assert (n, total, day, reason) == (3, Counter(98), Counter(3), "daily")
    n, total, day, reason = take_both(total, Counter(0), Limits(total=100, daily=3), 10)
    assert (n, total, day, reason) == (2, Counter(100), Counter(2), "total")
    n, total, day, reason = take_both(Counter(), Counter(), Limits(), 10)
    assert (n, reason) == (10, "")


def test_exact_in_any_order_of_batches_and_failures() -> None:
    draw = random.Random(6)
    for _ in range(200):
        limits = Limits(total=draw.randint(0, 60), daily=draw.randint(0, 25))
        total, days, sent = Counter(), {1: Counter(), 2: Counter()}, {1: 0, 2: 0}
        for _ in range(30):
            day = draw.choice([1, 2])
            n, total, days[day], _ = take_both(total, days[day], limits, draw.randint(1, 9))
            sent[day] += n
            failed = draw.randint(0, n) if draw.random() < 0.3 else 0
            total, days[day] = give_back(total, failed), give_back(days[day], failed)
            sent[day] -= failed
            assert limits.total is not None
            assert limits.daily is not None
            assert sum(sent.values()) == total.held <= limits.total
            assert all(sent[d] == days[d].held <= limits.daily for d in days)


@pytest.mark.parametrize(
    ("eligible", "limits", "taken", "n", "reason"),
    [
        (1000, Limits(), 0, 1000, ""),
        (1000, Limits(run=300), 0, 300, "run"),
        (200, Limits(run=300), 0, 200, ""),
        (1000, Limits(total=500), 450, 50, "total"),
        (1000, Limits(run=300, total=500), 450, 50, "total"),
        (1000, Limits(run=300, total=500), 100, 300, "run"),
        (1000, Limits(total=500), 500, 0, "total"),
    ],
)
def test_a_run_s_cut_is_the_smallest_of_its_limit_and_what_the_total_leaves(
    eligible: int, limits: Limits, taken: int, n: int, reason: str
) -> None:
    cut = run_cut(eligible, limits, Counter(taken))
    assert (cut.n, cut.counter, cut.reason) == (n, Counter(taken + n), reason)


def test_the_safety_check_stops_what_is_over_the_limit_only() -> None:
    assert [is_unsafe(n, 1000) for n in (0, 1000, 1001)] == [False, False, True]
    assert not is_unsafe(10**9, None)
    assert is_unsafe(1, 0)


def test_days_of_the_daily_limit_are_the_account_s() -> None:
    due = datetime(2026, 12, 1, 23, 30, tzinfo=UTC)
    assert counting_day(due, "Europe/Berlin") == date(2026, 12, 2)
    assert counting_day(due, "America/New_York") == date(2026, 12, 1)


@pytest.mark.parametrize(
    ("day", "first", "last"),
    [
        (date(2026, 10, 25), datetime(2026, 10, 24, 22, tzinfo=UTC), datetime(2026, 10, 25, 22, 59, 59, tzinfo=UTC)),
        (date(2026, 3, 29), datetime(2026, 3, 28, 23, tzinfo=UTC), datetime(2026, 3, 29, 21, 59, 59, tzinfo=UTC)),
    ],
)
def test_a_day_on_which_the_clocks_change_is_one_day(day: date, first: datetime, last: datetime) -> None:
    second = timedelta(seconds=1)
    assert counting_day(first, "Europe/Berlin") == counting_day(last, "Europe/Berlin") == day
    assert counting_day(first - second, "Europe/Berlin") < day < counting_day(last + second, "Europe/Berlin")


def test_control_comes_before_reach_and_is_the_same_for_every_campaign() -> None:
    users = [f"u-{n}" for n in range(4000)]
    one = {user: excluded(user, "cmp_1", 5, 10, 50, "run_1") for user in users}
    other = {user: excluded(user, "cmp_2", 5, 10, 50, "run_9") for user in users}
    account = {user for user, why in one.items() if why == ("control", "account")}
    assert account == {user for user, why in other.items() if why == ("control", "account")}
    assert 120 < len(account) < 280
    campaign = {user for user, why in one.items() if why == ("control", "campaign")}
    assert 280 < len(campaign) < 480
    assert campaign != {user for user, why in other.items() if why == ("control", "campaign")}
    assert 1500 < sum(why is None for why in one.values()) < 1950
    assert all(excluded(user, "cmp_1", 0, 0, 100, "run_1") is None for user in users)
