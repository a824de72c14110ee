"""Percentages by hash: uniform, stable, independent; random subsets of runs: uniform and reproducible."""

from __future__ import annotations

import pytest

from postrider.scheduling.shares import (
    WHOLE,
    account_control_seed,
    campaign_control_seed,
    is_in_share,
    ranked,
    reach_seed,
    share_of,
    threshold,
)

USERS = [f"u-{n}" for n in range(20_000)]


def chi_square(observed: list[int], expected: float) -> float:
    return sum((count - expected) ** 2 / expected for count in observed)


@pytest.mark.parametrize("seed", [account_control_seed(), campaign_control_seed("cmp_1"), reach_seed("run_1")])
def test_people_fall_uniformly(seed: str) -> None:
    counts = [0] * 100
    for user in USERS:
        counts[share_of(seed, user) * 100 // WHOLE] += 1
    # 99 degrees of freedom: beyond 149 is one in a thousand, and the seeds are fixed.
    assert chi_square(counts, len(USERS) / 100) < 149


@pytest.mark.parametrize("percent", [0.5, 2, 5, 33.3, 99])
def test_a_percentage_is_that_many(percent: float) -> None:
    chosen = sum(is_in_share(reach_seed("run_2"), user, percent) for user in USERS)
    expected = len(USERS) * percent / 100
    deviation = (expected * (1 - percent / 100)) ** 0.5
    assert abs(chosen - expected) < 4 * deviation


def test_none_and_all_are_exact() -> None:
    assert not any(is_in_share("s", user, 0) for user in USERS)
    assert all(is_in_share("s", user, 100) for user in USERS)
    assert (threshold(-1), threshold(0.0001), threshold(2.5), threshold(250)) == (0, 1, 25_000, WHOLE)


def test_the_same_person_falls_the_same_and_a_larger_percentage_keeps_the_smaller_s_people() -> None:
    small = {user for user in USERS if is_in_share(campaign_control_seed("cmp_1"), user, 5)}
    again = {user for user in USERS if is_in_share(campaign_control_seed("cmp_1"), user, 5)}
    large = {user for user in USERS if is_in_share(campaign_control_seed("cmp_1"), user, 20)}
    assert small == again
    assert small < large


def test_groups_are_independent_of_each_other() -> None:
    seeds = [
        account_control_seed(),
        campaign_control_seed("cmp_1"),
        campaign_control_seed("cmp_2"),
        reach_seed("cmp_1"),
    ]
    for at, one in enumerate(seeds):
        for other in seeds[at + 1 :]:
            table = [0, 0, 0, 0]
            for user in USERS:
                table[2 * is_in_share(one, user, 50) + is_in_share(other, user, 50)] += 1
            # 1 degree of freedom with fixed margins, 3 without: beyond 16.3 is one in a thousand.
            assert chi_square(table, len(USERS) / 4) < 16.3, (one, other)


def test_the_event_store_s_formula_gives_the_same() -> None:
    """Computed by chDB 4.4: see the docstring of postrider.scheduling.shares."""
    assert share_of("control:account", "u-42") == 540861


def test_over_many_runs_everybody_is_as_often_among_the_first() -> None:
    people = USERS[:60]
    chosen = dict.fromkeys(people, 0)
    runs, first = 2_000, 15
    for run in range(runs):
        for user in ranked(run, people)[:first]:
            chosen[user] += 1
    # A person is in or out of each run: variance runs·p·(1−p). 59 degrees of freedom: beyond 98.3 is one in a thousand.
    expected = runs * first / len(people)
    spread = sum((count - expected) ** 2 for count in chosen.values()) / (expected * (1 - first / len(people)))
    assert spread * (len(people) - 1) / len(people) < 98.3


def test_a_run_s_order_follows_from_its_seed_and_not_from_who_asks() -> None:
    assert ranked(7, USERS[:500]) == ranked(7, reversed(USERS[:500]))
    assert ranked(7, USERS[:500]) != ranked(8, USERS[:500])
    kept = [user for user in ranked(7, USERS[:500]) if user in set(USERS[:100])]
    assert kept == ranked(7, USERS[:100])  # who else is there changes no order
