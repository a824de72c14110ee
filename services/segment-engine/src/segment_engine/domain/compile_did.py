"""`did` → a semi-join of `user_id` with the aggregated events, or with its complement (rules.md T16 to T28)."""

from __future__ import annotations

from functools import lru_cache

from postrider.rules.dates import DAY, MINUTE
from postrider.rules.local_times import OffsetTable, offset_table, span_of
from postrider.rules.tree import DAYS, Aggregate, Did, NumberRange, NumberTest
from segment_engine.domain.compile_filters import FilterCompiler
from segment_engine.domain.compile_params import Parameters, render

_COMPARISONS = {"eq": "=", "ne": "!=", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
_LARGEST_COUNT = 1 << 62
_SCALE = 2.0**-64
"""Sums are taken of numbers this much smaller: exact (a power of two), and no sum of doubles overflows on its way."""


class DidCompiler:
    """`only`: a condition on `user_id` that spares reading other people's events."""

    def __init__(
        self, parameters: Parameters, filters: FilterCompiler, now: int, zone: str, only: str | None = None
    ) -> None:
        self._only = [only] if only else []
        self._bind = parameters.bind
        self._bind_text = parameters.bind_text
        self._filters = filters
        self._now = now
        self._zone = zone

    def compile(self, did: Did) -> str:
        """A truth value about `user_id`."""
        where = [self._filters.compile(test) for test in did.where]
        keys = [f"event = {self._bind('String', did.event)}", *self._only]
        if did.pick:
            return f"user_id IN ({self._picked(did, keys, where)})"
        keys += self._times(did, "at")
        if did.aggregate is None and did.count is None:
            return f"user_id IN (SELECT user_id FROM events {_selecting(keys, where)})"
        having = []
        if did.count is not None:
            having.append(self._count_test(did.count))
        if did.aggregate is not None:
            present = f"mapContains(nums, {self._bind('String', did.aggregate.property)})"
            if did.count is None:
                where.append(present)
            else:
                having.append(f"countIf({present}) > 0")
            having.append(self._aggregate_test(did.aggregate, *self._aggregated(did.aggregate, present)))
        grouped = f"SELECT user_id FROM events {_selecting(keys, where)} GROUP BY user_id HAVING "
        if did.aggregate is None and did.count is not None and _holds_for_none(did.count):
            # People without such events are in no group: leave out those whose count is wrong instead.
            return f"user_id NOT IN ({grouped}NOT ({' AND '.join(having)}))"
        return f"user_id IN ({grouped}{' AND '.join(having)})"

    def _picked(self, did: Did, keys: list[str], where: list[str]) -> str:
        selecting = _selecting(keys, where)
        if did.aggregate is None:
            kept = "min(at)" if did.pick == "first" else "max(at)"
            inner = f"SELECT user_id, {kept} AS kept FROM events {selecting} GROUP BY user_id"
            return f"SELECT user_id FROM ({inner}) WHERE {' AND '.join(self._times(did, 'kept')) or 'true'}"
        name = self._bind("String", did.aggregate.property)
        choose = "argMin" if did.pick == "first" else "argMax"
        kept = f"{choose}((at, mapContains(nums, {name}), nums[{name}]), (at, message_id))"
        inner = f"SELECT user_id, {kept} AS kept FROM events {selecting} GROUP BY user_id"
        tests = [*self._times(did, "kept.1"), "kept.2", self._aggregate_test(did.aggregate, "kept.3")]
        return f"SELECT user_id FROM ({inner}) WHERE {' AND '.join(tests)}"

    def _times(self, did: Did, at: str) -> list[str]:
        """Tests of one SELECT. What is needed twice has a name from its first place on."""
        tests = []
        if did.window is not None:
            tests.append(self._filters.instants(at, span_of(did.window, self._now, self._zone)))
        local = f"({self._local(at)} AS local_at)" if did.time_of_day or did.days_of_week else ""
        if did.time_of_day is not None:
            start, end = did.time_of_day
            minute = f"(intDiv(positiveModulo({local}, {DAY}), {MINUTE}) AS minute)"
            low, high = f"{minute} >= {self._bind('Int64', start)}", f"minute < {self._bind('Int64', end)}"
            tests.append(f"({low} {'AND' if start < end else 'OR'} {high})")
            local = "local_at"
        if did.days_of_week is not None:
            # 1970-01-01 was a Thursday.
            weekday = f"positiveModulo(intDiv({local} - positiveModulo(local_at, {DAY}), {DAY}) + 3, 7)"
            tests.append(f"{weekday} IN {self._bind('Array(Int64)', [DAYS.index(day) for day in did.days_of_week])}")
        return tests

    def _local(self, at: str) -> str:
        """What the clock of the account's zone reads at `at`, in microseconds: `OffsetTable`, arrays from 1."""
        table, first, transitions, offsets = _rendered_table(self._zone)
        if len(table.offsets) == 1:
            return f"({at} + {self._bind('Int64', table.offsets[0])})"
        start = self._bind("Int64", table.start)
        bucket = f"least(greatest(intDiv({at} - {start}, {table.width}), 0), {len(table.first) - 1})"
        place = f"({self._bind_text('Array(Int64)', first)}[{bucket} + 1] AS place)"
        changes = self._bind_text("Array(Int64)", transitions)
        later = "".join(f" + ({changes}[place + {j + 1}] <= {at})" for j in range(1, table.most + 1))
        return f"({at} + {self._bind_text('Array(Int64)', offsets)}[{place}{later} + 1])"

    def _count_test(self, test: NumberTest) -> str:
        if isinstance(test.value, NumberRange):
            low, high = self._count(test.value.low), self._count(test.value.high)
            return f"(count() >= {low} AND count() <= {high})"
        return f"count() {_COMPARISONS[test.op]} {self._count(test.value)}"

    def _count(self, value: float) -> str:
        return self._bind("UInt64", int(min(value, _LARGEST_COUNT)))

    def _aggregated(self, aggregate: Aggregate, present: str) -> tuple[str, float]:
        """The aggregate and by how much it is scaled. sumKahan: an order of adding cannot move the result past the
        tolerance of T26."""
        number = f"nums[{self._bind('String', aggregate.property)}]"
        if aggregate.function in ("min", "max"):
            return f"{aggregate.function}If({number}, {present})", 1.0
        total = f"sumKahanIf({number} * {self._bind('Float64', _SCALE)}, {present})"
        return (total if aggregate.function == "sum" else f"{total} / countIf({present})"), _SCALE

    def _aggregate_test(self, aggregate: Aggregate, number: str, scale: float = 1.0) -> str:
        test = aggregate.test
        if aggregate.function in ("min", "max"):
            if isinstance(test.value, NumberRange):
                return (
                    f"({self._exact(number, 'gte', test.value.low)} AND {self._exact(number, 'lte', test.value.high)})"
                )
            return self._exact(number, test.op, test.value)
        if isinstance(test.value, NumberRange):
            low = self._tolerant(number, "gte", test.value.low, scale)
            return f"({low} AND {self._tolerant(number, 'lte', test.value.high, scale)})"
        return self._tolerant(number, test.op, test.value, scale)

    def _exact(self, number: str, op: str, value: float) -> str:
        return f"{number} {_COMPARISONS[op]} {self._bind('Float64', value)}"

    def _tolerant(self, number: str, op: str, value: float, scale: float) -> str:
        """T26: a difference of at most 1e-9 · max(1, |value|) is equality. `number` is scaled, `value` is not."""
        difference = f"({number} - {self._bind('Float64', value * scale)})"
        tolerance = 1e-9 * max(1.0, abs(value)) * scale
        left, comparison, sign = {
            "eq": (f"abs({difference})", "<=", 1),
            "ne": (f"abs({difference})", ">", 1),
            "gt": (difference, ">", 1),
            "gte": (difference, ">=", -1),
            "lt": (difference, "<", -1),
            "lte": (difference, "<=", 1),
        }[op]
        return f"{left} {comparison} {self._bind('Float64', sign * tolerance)}"


def _selecting(keys: list[str], where: list[str]) -> str:
    """Events by what the table is ordered by, and of those alone the values: they are the large columns."""
    return f"PREWHERE {' AND '.join(keys)}{' WHERE ' if where else ''}{' AND '.join(where)}"


@lru_cache(maxsize=64)
def _rendered_table(zone: str) -> tuple[OffsetTable, str, str, str]:
    table = offset_table(zone)
    return table, render(table.first), render(table.transitions), render(table.offsets)


def _holds_for_none(test: NumberTest) -> bool:
    """Does a count of 0 satisfy the test (T24)?"""
    if isinstance(test.value, NumberRange):
        return test.value.low == 0
    return {
        "eq": test.value == 0,
        "ne": test.value != 0,
        "lt": test.value > 0,
        "lte": True,
        "gt": False,
        "gte": test.value == 0,
    }[test.op]
