"""A rule as a tree of frozen dataclasses: what `parse` makes, and what the compiler and the live matcher read.

A tree is valid by construction through `parse_rule`. Must not evaluate anything. Meanings: rules.md, T1 to T31.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from postrider.rules.dates import Date, Duration

Op: TypeAlias = Literal[
    "eq", "ne", "in", "not_in", "contains", "not_contains", "starts_with", "exists", "not_exists",
    "lt", "lte", "gt", "gte", "between", "before", "after", "within",
]  # fmt: skip
NumberOp: TypeAlias = Literal["eq", "ne", "lt", "lte", "gt", "gte", "between"]
AggregateFunction: TypeAlias = Literal["sum", "avg", "min", "max"]
MessagedStatus: TypeAlias = Literal["accepted", "delivered", "clicked", "converted"]
Day: TypeAlias = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

Scalar: TypeAlias = str | float | bool


@dataclass(frozen=True, slots=True)
class Last:
    """From now − duration to now, both inside."""

    duration: Duration


@dataclass(frozen=True, slots=True)
class Next:
    """From now to now + duration, both inside. Only for dates in data."""

    duration: Duration


@dataclass(frozen=True, slots=True)
class Between:
    """From `low` to `high`, both inside; a day is the whole of it (T19)."""

    low: Date
    high: Date


@dataclass(frozen=True, slots=True)
class Before:
    date: Date


@dataclass(frozen=True, slots=True)
class After:
    date: Date


Window: TypeAlias = Last | Between | Before | After
DateTest: TypeAlias = Last | Next | Between | Before | After


@dataclass(frozen=True, slots=True)
class NumberRange:
    """Both ends inside."""

    low: float
    high: float


FilterValue: TypeAlias = Scalar | tuple[Scalar, ...] | NumberRange | DateTest | None


@dataclass(frozen=True, slots=True)
class Filter:
    """A test of one property or trait. The type of `value` follows `op` (T14).

    eq ne: Scalar · in not_in: tuple · contains not_contains: Scalar or tuple · starts_with: str · exists not_exists:
    None · lt lte gt gte: float · between: NumberRange or Between · before: Before · after: After · within: Last, Next
    or Between.
    """

    name: str
    op: Op
    value: FilterValue = None


@dataclass(frozen=True, slots=True)
class NumberTest:
    """`value` is a NumberRange exactly when `op` is between."""

    op: NumberOp
    value: float | NumberRange


@dataclass(frozen=True, slots=True)
class Aggregate:
    property: str
    function: AggregateFunction
    test: NumberTest


@dataclass(frozen=True, slots=True)
class Did:
    """Somebody did `event`; the parts apply in the order of T16. `start`, `end`: minutes of the day, [start, end)."""

    event: str
    where: tuple[Filter, ...] = ()
    pick: Literal["first", "last"] | None = None
    window: Window | None = None
    time_of_day: tuple[int, int] | None = None
    days_of_week: tuple[Day, ...] | None = None
    count: NumberTest | None = None
    aggregate: Aggregate | None = None


@dataclass(frozen=True, slots=True)
class Attribute:
    test: Filter


@dataclass(frozen=True, slots=True)
class InSegment:
    """A saved segment as it is when the rule is evaluated (T29). `resolve` puts its rule in its place."""

    segment_id: str


@dataclass(frozen=True, slots=True)
class Messaged:
    """A text of the campaign came so far for this person; `window` is about the moment at which it first did."""

    campaign_id: str
    status: MessagedStatus
    window: Window | None = None


@dataclass(frozen=True, slots=True)
class UserList:
    """The person's id is on an uploaded list."""

    list_id: str


@dataclass(frozen=True, slots=True)
class AllOf:
    """True when empty."""

    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Never empty."""

    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Not:
    rule: Rule


Rule: TypeAlias = AllOf | AnyOf | Not | Did | Attribute | InSegment | Messaged | UserList
