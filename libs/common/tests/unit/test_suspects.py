"""The search for a record that no handler takes: found by halving, given up alone, with all others handled in order."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postrider.kafka.suspects import ATTEMPTS, GIVEN_UP_IN_A_ROW, Suspects


def work_off(sizes: dict[str, int], poison: set[tuple[str, int]]) -> tuple[list[tuple[str, int]], set[tuple[str, int]]]:
    """A loop over heads, as ConsumerLoop has it: (handled in order, given up)."""
    suspects: Suspects[str] = Suspects()
    heads = dict.fromkeys(sizes, 0)
    handled: list[tuple[str, int]] = []
    given_up: set[tuple[str, int]] = set()
    for _ in range(10_000):
        counts = suspects.next() or {name: size - heads[name] for name, size in sizes.items() if heads[name] < size}
        if not counts:
            return handled, given_up
        records = [(name, heads[name] + n) for name, count in counts.items() for n in range(count)]
        if suspects.gives_up:
            assert not suspects.blames_the_handler
            given_up.update(records)
        elif poison.intersection(records):
            suspects.failed(counts)
            continue
        else:
            handled += records
        suspects.passed(handled=records[0] not in given_up)
        for name, count in counts.items():
            heads[name] += count
    raise AssertionError("no end")


@given(
    st.dictionaries(st.sampled_from("abcd"), st.integers(1, 40), min_size=1),
    st.sets(st.tuples(st.sampled_from("abcd"), st.integers(0, 39)), max_size=10),
)
def test_just_the_poison_is_given_up_and_the_rest_is_handled_in_order(
    sizes: dict[str, int], poison: set[tuple[str, int]]
) -> None:
    everything = {(name, n) for name, size in sizes.items() for n in range(size)}
    handled, given_up = work_off(sizes, poison)
    assert given_up == poison & everything
    assert sorted(handled) == sorted(everything - poison)
    for name, group in itertools.groupby(sorted(handled, key=lambda each: each[0]), key=lambda each: each[0]):
        numbers = [n for _, n in group]
        assert numbers == sorted(numbers), name


def test_a_record_is_tried_a_few_times_before_it_is_given_up() -> None:
    suspects: Suspects[str] = Suspects()
    for _ in range(ATTEMPTS):
        assert not suspects.gives_up
        suspects.failed({"a": 1})
    assert suspects.gives_up


def test_a_handler_that_fails_on_everything_is_to_blame() -> None:
    with pytest.raises(AssertionError, match="blames_the_handler"):
        work_off({"a": GIVEN_UP_IN_A_ROW + 1}, {("a", n) for n in range(GIVEN_UP_IN_A_ROW + 1)})


def test_after_a_rebalance_nothing_is_suspect() -> None:
    suspects: Suspects[str] = Suspects()
    suspects.failed({"a": 4})
    assert suspects.next() == {"a": 2}
    suspects.forget()
    assert suspects.next() is None
