"""Reading the small parts of a rule: texts, numbers, dates, and the value that an operator takes (rules.md T14).

Every reader reports what is wrong and returns None then; it never raises. Must not know the tree's groups.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, Final

from postrider.rules.dates import DAY, Date, DateKind, Duration, read_date, read_duration
from postrider.rules.tree import (
    After,
    Before,
    Between,
    DateTest,
    FilterValue,
    Last,
    Next,
    NumberRange,
    Scalar,
    Window,
)

MAX_NAME_CHARACTERS = 120
MAX_EVENT_CHARACTERS = 512
MAX_ID_CHARACTERS = 64
MAX_TEXT_CHARACTERS = 512
MAX_LIST_VALUES = 10_000
MAX_CONTAINED_VALUES = 100
"""Of a list that has to be contained whole: no stored list holds more."""

MISSING: Final = object()
"""Stands for a key that is not there, where null would be another matter."""

_DATE_FORM = 'must be a date: "YYYY-MM-DD" or "YYYY-MM-DDThh:mm[:ss[.ffffff]][Z|±hh:mm]", a moment that exists'
_DURATION_FORM = 'must be a duration of weeks ("P2W") or of days, hours, minutes and seconds ("P1DT2H"), above zero'


class Problems:
    """What is wrong with a rule, in the order found. After `LIMIT` problems nothing more is collected."""

    LIMIT = 100

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []

    def add(self, pointer: str, message: str) -> None:
        if len(self.found) < self.LIMIT:
            self.found.append((pointer, message))

    def fields(self, pointer: str, body: object, allowed: Collection[str], required: Collection[str]) -> Any:
        """The body as a dict when it is an object with all required and no unknown fields; else a problem and None."""
        if not isinstance(body, dict):
            self.add(pointer, "must be an object")
            return None
        fine = True
        for key in body:
            if key not in allowed:
                self.add(f"{pointer}/{escape(key)}", f"is not a known field here; known: {', '.join(allowed)}")
                fine = False
        for key in required:
            if key not in body:
                self.add(pointer, f'needs "{key}"')
                fine = False
        return body if fine else None


def escape(key: object) -> str:
    """A key as a step of a JSON pointer."""
    text = str(key).encode("utf-8", "replace").decode()
    return text[:MAX_NAME_CHARACTERS].replace("~", "~0").replace("/", "~1")


def read_text(problems: Problems, pointer: str, value: object, limit: int, *, empty: bool = False) -> str | None:
    if not isinstance(value, str):
        problems.add(pointer, "must be text")
        return None
    if not value and not empty:
        problems.add(pointer, "must not be empty")
        return None
    if len(value) > limit:
        problems.add(pointer, f"must not be longer than {limit} characters")
        return None
    if "\x00" in value:
        problems.add(pointer, "must not contain NUL")
        return None
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            problems.add(pointer, "must not contain half of a surrogate pair")
            return None
    return value


def read_number(problems: Problems, pointer: str, value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        problems.add(pointer, "must be a number")
        return None
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        problems.add(pointer, "must be a number that a 64-bit float can hold")
        return None
    return number + 0.0  # −0 becomes 0: sets of numbers would tell them apart


def read_scalar(problems: Problems, pointer: str, value: object, *, empty: bool) -> Scalar | None:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return read_text(problems, pointer, value, MAX_TEXT_CHARACTERS, empty=empty)
    if isinstance(value, int | float):
        return read_number(problems, pointer, value)
    problems.add(pointer, "must be text, a number, true or false")
    return None


def read_date_value(problems: Problems, pointer: str, value: object) -> Date | None:
    # read_date measures the whole text; a date has at most 35 characters.
    date = read_date(value) if isinstance(value, str) and len(value) <= 40 else None
    if date is None:
        problems.add(pointer, _DATE_FORM)
    return date


def read_duration_value(problems: Problems, pointer: str, value: object) -> Duration | None:
    duration = read_duration(value) if isinstance(value, str) and len(value) <= 100 else None
    if duration is None:
        problems.add(pointer, _DURATION_FORM + "; months, years and fractions have no exact length")
    return duration


def read_window(problems: Problems, pointer: str, value: object) -> Window | None:
    """A window of events: last, between, before or after."""
    test = _date_test(problems, pointer, value, ("last", "between", "before", "after"))
    assert test is None or isinstance(test, Last | Between | Before | After)
    return test


def read_filter_value(problems: Problems, pointer: str, op: str, value: object) -> tuple[bool, FilterValue]:
    """(fine, value). `value` is `MISSING` when the filter has none; `op` is a known operator."""
    if op in ("exists", "not_exists"):
        if value is not MISSING:
            problems.add(pointer, f'"{op}" takes no value')
        return value is MISSING, None
    if value is MISSING:
        problems.add(pointer.rpartition("/")[0], f'"{op}" needs "value"')
        return False, None
    read: FilterValue = None
    if op in ("eq", "ne"):
        read = read_scalar(problems, pointer, value, empty=True)
    elif op in ("in", "not_in"):
        read = _scalars(problems, pointer, value, empty=True)
    elif op in ("contains", "not_contains"):
        if isinstance(value, list):
            read = _scalars(problems, pointer, value, empty=False, most=MAX_CONTAINED_VALUES)
        else:
            read = read_scalar(problems, pointer, value, empty=False)
    elif op == "starts_with":
        read = read_text(problems, pointer, value, MAX_TEXT_CHARACTERS)
    elif op == "between":
        read = _between(problems, pointer, value)
    elif op in ("before", "after"):
        date = read_date_value(problems, pointer, value)
        read = None if date is None else Before(date) if op == "before" else After(date)
    elif op == "within":
        read = _date_test(problems, pointer, value, ("last", "next", "between"))
    else:
        read = read_number(problems, pointer, value)
    return read is not None, read


def read_number_range(problems: Problems, pointer: str, value: object) -> NumberRange | None:
    pair = _pair(problems, pointer, value)
    if pair is None:
        return None
    low, high = (read_number(problems, f"{pointer}/{i}", end) for i, end in enumerate(pair))
    if low is None or high is None:
        return None
    if low > high:
        problems.add(pointer, "must not begin above its end")
        return None
    return NumberRange(low, high)


def _scalars(
    problems: Problems, pointer: str, value: object, *, empty: bool, most: int = MAX_LIST_VALUES
) -> tuple[Scalar, ...] | None:
    if not isinstance(value, list):
        problems.add(pointer, "must be a list")
        return None
    if not 1 <= len(value) <= most:
        problems.add(pointer, f"must have 1 to {most} values")
        return None
    read = [read_scalar(problems, f"{pointer}/{i}", item, empty=empty) for i, item in enumerate(value)]
    scalars = tuple(item for item in read if item is not None)
    return scalars if len(scalars) == len(read) else None


def _pair(problems: Problems, pointer: str, value: object) -> tuple[object, object] | None:
    if not isinstance(value, list) or len(value) != 2:
        problems.add(pointer, "must be a list of two: [low, high]")
        return None
    return value[0], value[1]


def _between(problems: Problems, pointer: str, value: object) -> NumberRange | Between | None:
    pair = _pair(problems, pointer, value)
    if pair is None:
        return None
    if all(isinstance(end, str) for end in pair):
        return _date_range(problems, pointer, value)
    if any(isinstance(end, str) for end in pair):
        problems.add(pointer, "must be two numbers or two dates")
        return None
    return read_number_range(problems, pointer, value)


def _date_range(problems: Problems, pointer: str, value: object) -> Between | None:
    pair = _pair(problems, pointer, value)
    if pair is None:
        return None
    low, high = (read_date_value(problems, f"{pointer}/{i}", end) for i, end in enumerate(pair))
    if low is None or high is None:
        return None
    # A day and a local time lie on one clock; a moment may be up to a day away from that clock in some zone.
    end = high.us + (DAY - 1 if high.kind is DateKind.DAY else 0)
    mixed = (low.kind is DateKind.MOMENT) != (high.kind is DateKind.MOMENT)
    if low.us > end + (DAY if mixed else 0):
        problems.add(pointer, "must not begin after its end")
        return None
    return Between(low, high)


def _date_test(problems: Problems, pointer: str, value: object, kinds: tuple[str, ...]) -> DateTest | None:
    body = problems.fields(pointer, value, kinds, ())
    if body is None:
        return None
    if len(body) != 1:
        problems.add(pointer, f"must have exactly one of: {', '.join(kinds)}")
        return None
    ((kind, part),) = body.items()
    inner = f"{pointer}/{kind}"
    test: DateTest | None
    if kind in ("last", "next"):
        duration = read_duration_value(problems, inner, part)
        test = None if duration is None else Last(duration) if kind == "last" else Next(duration)
    elif kind == "between":
        test = _date_range(problems, inner, part)
    else:
        date = read_date_value(problems, inner, part)
        test = None if date is None else Before(date) if kind == "before" else After(date)
    return test
