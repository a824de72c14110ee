"""Texts, parts and money of an estimate: exact, in decimals, nothing invented where nothing is known."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaign_api.domain.costs import cost_of, parts_of, texts_of
from campaign_api.domain.plans import Plan, Planned


def sample(size: int, *parts: int) -> dict[str, Any]:
    shown = {"min": min(parts), "max": max(parts), "total": sum(parts)} if parts else None
    return {"size": size, "rendered": len(parts), "failures": [], "parts": shown}


@pytest.mark.parametrize(
    ("reachable", "activity", "texts"),
    [
        (10, None, 10),
        (10, {"events": None, "people": None}, 10),
        (10, {"events": 0, "people": 0}, 10),
        (10, {"events": 30, "people": 20}, 15),
        (1, {"events": 3, "people": 2}, 2),
        (0, {"events": 3, "people": 2}, 0),
    ],
)
def test_a_live_campaign_texts_as_often_as_people_act(
    reachable: int, activity: dict[str, int | None] | None, texts: int
) -> None:
    assert texts_of({"reachable": reachable, "activity": activity}) == texts


def test_a_text_that_fails_costs_nothing() -> None:
    assert cost_of(sample(4, 1, 2), 1_000, "0.01") == {"price_per_part": "0.01", "total": "7.5000"}
    assert cost_of(sample(4), 1_000, "0.01") == {"price_per_part": "0.01", "total": "0.0000"}


def test_without_a_price_or_a_sample_nothing_is_invented() -> None:
    assert cost_of(sample(4, 1), 1_000, None) is None
    assert cost_of(sample(0), 1_000, "1") is None
    assert cost_of(None, 1_000, "1") is None
    assert parts_of(None) is None
    assert parts_of(sample(3)) is None
    assert parts_of(sample(3, 1, 2, 2)) == {"min": 1, "mean": 1.67, "max": 2}


@given(
    st.integers(0, 10**9),
    st.lists(st.integers(1, 30), min_size=1, max_size=200),
    st.decimals("0", "999999999", places=8, allow_nan=False),
)
def test_money_is_exact_to_a_hundredth_of_a_cent(texts: int, parts: list[int], price: Decimal) -> None:
    cost = cost_of(sample(len(parts), *parts), texts, f"{price:f}")
    assert cost is not None
    exact = price * texts * sum(parts) / len(parts)
    assert abs(Decimal(cost["total"]) - exact) <= max(Decimal("0.00005"), exact * Decimal("1e-24"))
    assert "E" not in cost["total"]


def test_limits_and_a_throttle_shape_what_goes_out() -> None:
    plan = Plan(most=100, safety_limit=500, throttle_per_minute=10, send_by=timedelta(minutes=9))
    assert plan.planned(600, 0) == Planned(texts=100, limited=500, capped=0)
    assert plan.exceeds_safety_limit(600)
    assert not plan.exceeds_safety_limit(500)
    assert (plan.minutes(100, 1), plan.is_cut(100, 1), plan.is_cut(90, 1)) == (10.0, True, False)
    assert Plan().planned(600, 0) == Planned(texts=600, limited=0, capped=0)
    assert (Plan().minutes(600, 1), Plan().is_cut(600, 1), Plan().exceeds_safety_limit(600)) == (None, False, False)


def test_the_slower_of_throttle_and_provider_says_how_long_it_takes() -> None:
    plan = Plan(throttle_per_minute=600, parts_per_second=2, send_by=timedelta(minutes=10))
    assert (plan.minutes(120, 1), plan.minutes(120, 2), plan.minutes(120, 0)) == (1.0, 2.0, 1.0)
    assert (plan.is_cut(1_200, 1), plan.is_cut(1_201, 1), plan.is_cut(601, 2)) == (False, True, True)
    assert Plan(throttle_per_minute=30, parts_per_second=2).minutes(120, 1) == 4.0


def test_a_live_campaign_has_no_length_and_is_cut_when_more_come_than_leave() -> None:
    plan = Plan(throttle_per_minute=1, send_by=timedelta(minutes=15), days=30)
    assert (plan.minutes(40_000, 1), plan.is_cut(40_000, 1), plan.is_cut(44_000, 1)) == (None, False, True)


def test_who_is_left_out_gets_no_text() -> None:
    assert texts_of({"reachable": 10, "control": 1, "not_in_reach": 4, "activity": None}) == 5


def test_caps_take_from_what_a_run_s_limit_leaves_and_cost_a_live_limit_nothing() -> None:
    assert Plan(most=100).planned(600, 0.25) == Planned(texts=75, limited=500, capped=25)
    assert Plan(most=100, days=30).planned(600, 0.25) == Planned(texts=100, limited=350, capped=150)
    assert Plan().planned(600, 0.25) == Planned(texts=450, limited=0, capped=150)
    assert Plan(most=100).planned(600, 1) == Planned(texts=0, limited=500, capped=100)
