"""Who is left out is chance, the same chance for everybody: uniform, independent, reproducible. All seeds are fixed;
the bounds are four standard deviations of what true chance would give."""

from __future__ import annotations

import re
import uuid
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from math import sqrt
from pathlib import Path
from typing import Any

import pytest

from postrider.contracts.ids import run_id
from postrider.scheduling.shares import (
    WHOLE,
    account_control_seed,
    campaign_control_seed,
    is_in_share,
    ranked,
    reach_seed,
    share_of,
)
from scheduler.domain.limits import excluded
from scheduler.domain.runs import seed_of

RUNS = [run_id("cmp_1", f"2026-{number}") for number in range(1_500)]
PEOPLE = [f"u-{number}" for number in range(20_000)]


def is_like_chance(counts: Sequence[int], expected: float, variance: float | None = None) -> bool:
    """Pearson's statistic of the counts, which has `len - 1` degrees of freedom, against its own spread."""
    freedom = len(counts) - 1
    statistic = sum((n - expected) ** 2 for n in counts) / (variance or expected)
    return abs(statistic - freedom) < 4 * sqrt(2 * freedom)


def test_each_person_is_as_often_among_those_a_run_s_limit_takes() -> None:
    people, limit = PEOPLE[:200], 60
    taken = Counter(user for run in RUNS for user in ranked(seed_of(run), people)[:limit])
    part = limit / len(people)
    # Of people drawn without putting back: each a coin, together always the limit.
    variance = len(RUNS) * part * (1 - part) * len(people) / (len(people) - 1)
    assert is_like_chance([taken[user] for user in people], len(RUNS) * part, variance)


def test_each_place_in_the_order_is_as_likely_for_each_person() -> None:
    people = PEOPLE[:12]
    orders = [ranked(seed_of(run), people) for run in RUNS]
    places = Counter((user, place) for order in orders for place, user in enumerate(order))
    counts = [places[user, place] for user in people for place in range(12)]
    statistic = sum((n - len(RUNS) / 12) ** 2 for n in counts) / (len(RUNS) / 12)
    assert abs(statistic * 11 / 12 - 11 * 11) < 4 * sqrt(2 * 11 * 11)
    pairs = Counter((order[0], order[1]) for order in orders)
    assert is_like_chance([pairs[a, b] for a in people for b in people if a != b], len(RUNS) / 132)


@pytest.mark.parametrize(
    "people",
    [
        PEOPLE,
        [str(10**9 + number) for number in range(20_000)],
        [str(uuid.UUID(int=number)) for number in range(20_000)],
        [f"{'x' * (number % 7)}{number}@пример.example" for number in range(20_000)],
    ],
    ids=["counted", "numbers", "uuids", "addresses"],
)
@pytest.mark.parametrize("seed", [account_control_seed(), campaign_control_seed("cmp_1"), reach_seed(RUNS[0])])
def test_shares_are_uniform_whatever_ids_look_like(people: list[str], seed: str) -> None:
    hundredths = Counter(share_of(seed, user) * 100 // WHOLE for user in people)
    assert is_like_chance([hundredths[n] for n in range(100)], len(people) / 100)


def test_groups_reach_and_order_know_nothing_of_each_other() -> None:
    order = {user: place for place, user in enumerate(ranked(seed_of(RUNS[0]), PEOPLE))}
    columns: dict[str, list[float]] = {
        "account": [is_in_share(account_control_seed(), user, 5) for user in PEOPLE],
        "campaign": [is_in_share(campaign_control_seed("cmp_1"), user, 20) for user in PEOPLE],
        "another campaign": [is_in_share(campaign_control_seed("cmp_2"), user, 20) for user in PEOPLE],
        "reach": [is_in_share(reach_seed(RUNS[0]), user, 50) for user in PEOPLE],
        "reach of another run": [is_in_share(reach_seed(RUNS[1]), user, 50) for user in PEOPLE],
        "reach of a live campaign": [is_in_share(reach_seed("cmp_1"), user, 50) for user in PEOPLE],
        "order": [order[user] for user in PEOPLE],
    }
    names = list(columns)
    for index, one in enumerate(names):
        for other in names[index + 1 :]:
            assert abs(correlation(columns[one], columns[other])) < 4 / sqrt(len(PEOPLE)), (one, other)


def correlation(one: Sequence[float], other: Sequence[float]) -> float:
    mean, others_mean = sum(one) / len(one), sum(other) / len(other)
    both = sum((a - mean) * (b - others_mean) for a, b in zip(one, other, strict=True))
    return both / sqrt(sum((a - mean) ** 2 for a in one) * sum((b - others_mean) ** 2 for b in other))


def test_a_larger_percentage_keeps_the_people_of_a_smaller_one() -> None:
    groups = [
        {user for user in PEOPLE if is_in_share(campaign_control_seed("cmp_1"), user, percent)}
        for percent in (0, 2, 5, 99, 100)
    ]
    assert all(smaller < larger for smaller, larger in pairwise(groups))
    assert (len(groups[0]), len(groups[-1])) == (0, len(PEOPLE))


def test_what_the_documentation_prints_computes_the_same() -> None:
    page = (Path(__file__).parents[4] / "docs" / "scheduling.md").read_text()
    (printed,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(printed, names)
    shares: list[tuple[float, float, float]] = [(5, 12.5, 40), (0, 0, 100), (2, 99, 100), (0.01, 33.3333, 66.67)]
    for run in RUNS[:3]:
        for percents in shares:
            assert [names["left_out"](user, "cmp_1", run, *percents) for user in PEOPLE[:500]] == [
                excluded(user, "cmp_1", *percents, run) for user in PEOPLE[:500]
            ]
        assert names["in_order"](PEOPLE[:500], run) == ranked(seed_of(run), PEOPLE[:500])
