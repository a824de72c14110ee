"""Parts per second: never more than the rate over time, and nobody starves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.domain.budget import SLICE_LASTS_SECONDS, UNLIMITED, Slice, ask, capacity, grant, refill, seconds_until


@given(
    rate=st.floats(0.2, 500),
    draws=st.lists(st.tuples(st.floats(0, 3), st.integers(1, 6)), min_size=1, max_size=60),
)
def test_the_rate_holds_over_any_time(rate: float, draws: list[tuple[float, int]]) -> None:
    tokens, elapsed, granted = 0.0, 0.0, 0
    for wait, parts in draws:
        elapsed += wait
        tokens = refill(tokens, wait, rate)
        n = grant(tokens, rate, parts, ask(rate, parts, 1_000))
        assert n == 0 or n >= parts
        tokens -= n
        granted += n
        longest = max(each for _, each in draws)
        assert granted <= rate * elapsed + capacity(rate) + longest


@given(rate=st.floats(0.2, 500), parts=st.integers(1, 10))
def test_waiting_as_long_as_told_is_enough(rate: float, parts: int) -> None:
    wait = seconds_until(0.0, rate, parts)
    assert grant(refill(0.0, wait * 1.001 + 1e-6, rate), rate, parts, parts) >= parts


def test_a_pause_saves_up_nothing() -> None:
    assert refill(0.0, 3600, 10) == capacity(10) == 2
    assert capacity(1000) == 101


def test_who_comes_a_little_late_each_time_loses_nothing() -> None:
    rate, tokens, granted, elapsed = 15.0, 0.0, 0, 0.0
    for _ in range(300):
        wait = seconds_until(tokens, rate, 1) + 0.05
        elapsed += wait
        tokens = refill(tokens, wait, rate)
        n = grant(tokens, rate, 1, ask(rate, 1, 100))
        tokens, granted = tokens - n, granted + n
    assert granted >= rate * elapsed - capacity(rate)


def test_a_slice_is_spent_and_lapses() -> None:
    held = Slice().add(5, now=10.0)
    assert held.spend(2, 10.5).available(10.5) == 3
    assert held.available(10.0 + SLICE_LASTS_SECONDS) == 0
    with pytest.raises(ValueError):
        held.spend(6, 10.1)


def test_no_limit_is_no_limit() -> None:
    assert UNLIMITED.spend(1_000, 0).available(0) is None


def test_one_asks_for_a_slice_but_always_for_the_next_text() -> None:
    assert ask(1000, 1, 5_000) == 100
    assert ask(1000, 1, 7) == 7
    assert ask(2, 3, 50) == 3
