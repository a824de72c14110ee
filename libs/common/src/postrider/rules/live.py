"""Filters as a function of an event's properties, for live matching: the same meanings as the compiled SQL (T4 to T15).

Must not read a clock by itself beyond the one it is given, and never touches history.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

from postrider.rules.dates import read_date
from postrider.rules.local_times import instant_of, microseconds, span_of
from postrider.rules.tree import After, Before, Between, Filter, Last, Next, NumberRange, Scalar

Matcher: TypeAlias = Callable[[Mapping[str, Any]], bool]
_Test: TypeAlias = Callable[[Any], bool]

NEGATIVES = {"ne": "eq", "not_in": "in", "not_contains": "contains", "not_exists": "exists"}
"""Each is the exact complement of its positive (T4)."""
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "lt": operator.lt, "lte": operator.le, "gt": operator.gt, "gte": operator.ge,
}  # fmt: skip


def _system_clock() -> datetime:
    return datetime.now(UTC)


def compile_where(
    filters: Sequence[Filter], account_zone: str, clock: Callable[[], datetime] = _system_clock
) -> Matcher:
    """A function of the properties (decoded JSON) that tells whether all filters hold; any JSON value is fine.

    `clock` is read at each call, and only by `within` last or next. Compile once for a campaign and a zone.
    """
    tests = tuple((test.name, _compile(test, account_zone, clock)) for test in filters)

    def matches(properties: Mapping[str, Any]) -> bool:
        stored = properties.get
        for name, test in tests:  # noqa: SIM110  # `all` of a generator takes three times as long
            if not test(stored(name)):
                return False
        return True

    return matches


def _compile(test: Filter, zone: str, clock: Callable[[], datetime]) -> _Test:
    positive = NEGATIVES.get(test.op)
    holds = _positive(positive or test.op, test, zone, clock)
    return (lambda stored: not holds(stored)) if positive else holds


def _positive(op: str, test: Filter, zone: str, clock: Callable[[], datetime]) -> _Test:
    """A test of a stored value; None is a missing one and passes no test (T3, T5)."""
    if op == "exists":
        return lambda stored: stored is not None
    if op == "contains":
        return _contains(_scalars(test))
    element = _element_test(op, test, zone, clock)
    return lambda stored: any(map(element, stored)) if type(stored) is list else element(stored)


def _element_test(op: str, test: Filter, zone: str, clock: Callable[[], datetime]) -> _Test:
    """A test of one stored value or of one element of a stored list: anything of another type fails."""
    value = test.value
    if isinstance(value, Last | Next | Between | Before | After):
        return _date_test(value, zone, clock)
    if isinstance(value, NumberRange):
        low, high = value.low, value.high
        return lambda stored: (number := _number(stored)) is not None and low <= number <= high
    if op == "starts_with":
        assert isinstance(value, str)
        prefix = value
        return lambda stored: type(stored) is str and stored.startswith(prefix)
    if op in ("eq", "in"):
        return _one_of(_scalars(test))
    assert isinstance(value, float)
    return _comparison(op, value)


def _comparison(op: str, value: float) -> _Test:
    compare = COMPARISONS[op]

    def holds(stored: Any) -> bool:
        if type(stored) is float:
            return compare(stored, value)
        return type(stored) is int and (number := _number(stored)) is not None and compare(number, value)

    return holds


def _number(stored: Any) -> float | None:
    """The double that a stored number is (T7); None for another type, and for what no double can hold."""
    if type(stored) is float:
        return stored
    if type(stored) is int:
        try:
            return float(stored)
        except OverflowError:
            return None
    return None


def _scalars(test: Filter) -> tuple[Scalar, ...]:
    if isinstance(test.value, tuple):
        return test.value
    assert isinstance(test.value, str | float | bool)
    return (test.value,)


def _one_of(values: Sequence[Scalar]) -> _Test:
    texts = frozenset(value for value in values if type(value) is str)
    numbers = frozenset(value for value in values if type(value) is float)
    bools = frozenset(value for value in values if type(value) is bool)

    def holds(stored: Any) -> bool:
        kind = type(stored)
        if kind is str:
            return stored in texts
        if kind is bool:
            return stored in bools
        return _number(stored) in numbers

    return holds


def _contains(values: Sequence[Scalar]) -> _Test:
    texts = [value for value in values if type(value) is str]
    only_texts = len(texts) == len(values)
    elements = [_one_of((value,)) for value in values]

    def holds(stored: Any) -> bool:
        if type(stored) is str:
            return only_texts and all(text in stored for text in texts)
        return type(stored) is list and all(any(map(element, stored)) for element in elements)

    return holds


def _date_test(test: Last | Next | Between | Before | After, zone: str, clock: Callable[[], datetime]) -> _Test:
    moving = isinstance(test, Last | Next)
    fixed = None if moving else span_of(test, 0, zone)

    def holds(stored: Any) -> bool:
        if type(stored) is not str or (date := read_date(stored)) is None:
            return False
        low, high = fixed or span_of(test, microseconds(clock()), zone)
        return low <= instant_of(date, zone) < high

    return holds
