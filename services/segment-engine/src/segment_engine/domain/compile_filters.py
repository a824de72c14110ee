"""One filter → an SQL expression over a row's typed columns (`columns.Columns`), of events or of profiles alike.

The columns are never null, so SQL's third truth value cannot appear and a negative is NOT of its positive (T4).
"""

from __future__ import annotations

from collections.abc import Collection

from postrider.rules.live import COMPARISONS as LIVE_COMPARISONS
from postrider.rules.live import NEGATIVES
from postrider.rules.local_times import INFINITY, Span, span_of, stored_date_spans
from postrider.rules.tree import After, Before, Between, DateTest, Filter, Last, Next, NumberRange, Scalar
from segment_engine.domain.compile_params import Parameters

_COMPARISONS = {"lt": "<", "lte": "<=", "gt": ">", "gte": ">="}


class FilterCompiler:
    """`now`: microseconds, the moment of evaluation. `zone`: the account's.

    `listed`: names under which any row of the table may hold a list, None for any name. The column of lists costs as
    much as all others together, and most names never have one.
    """

    def __init__(self, parameters: Parameters, now: int, zone: str, listed: Collection[str] | None = None) -> None:
        self._bind = parameters.bind
        self._now = now
        self._zone = zone
        self._listed = listed

    def compile(self, test: Filter) -> str:
        positive = NEGATIVES.get(test.op)
        if positive:
            return f"NOT {self._positive(positive, test)}"
        return self._positive(test.op, test)

    def instants(self, expression: str, span: Span) -> str:
        """`expression`, microseconds, is inside the span."""
        low, high = span
        if low >= high:
            return "false"
        parts = []
        if low > -INFINITY:
            parts.append(f"{expression} >= {self._bind('Int64', low)}")
        if high < INFINITY:
            parts.append(f"{expression} < {self._bind('Int64', high)}")
        return f"({' AND '.join(parts)})" if parts else "true"

    def _positive(self, op: str, test: Filter) -> str:
        name = self._bind("String", test.name)
        listed = self._listed is None or test.name in self._listed
        value = test.value
        if op == "exists":
            columns = ("strs", "nums", "bools", "lists") if listed else ("strs", "nums", "bools")
            maps = [f"mapContains({column}, {name})" for column in columns]
            return f"({' OR '.join([*maps, f'has(others, {name})'])})"
        if isinstance(value, Last | Next | Between | Before | After):
            return self._dates(name, value, listed)
        if isinstance(value, NumberRange):
            low, high = self._bind("Float64", value.low), self._bind("Float64", value.high)
            of_nothing = value.low <= 0 <= value.high
            return self._numbers(name, f"{{x}} >= {low} AND {{x}} <= {high}", listed, of_nothing)
        if op == "starts_with":
            assert isinstance(value, str)
            prefix = self._bind("String", value)
            in_text = f"startsWith(strs[{name}], {prefix})"
            elements = f"arrayExists(x -> startsWith(x, {prefix}), {_list(name, 'strs')})"
            return f"({in_text} OR {elements})" if listed else f"({in_text})"
        if op in _COMPARISONS:
            assert isinstance(value, float)
            comparison = f"{{x}} {_COMPARISONS[op]} {self._bind('Float64', value)}"
            return self._numbers(name, comparison, listed, LIVE_COMPARISONS[op](0.0, value))
        values = value if isinstance(value, tuple) else (value,)
        texts = [item for item in values if isinstance(item, str)]
        numbers = [item for item in values if isinstance(item, float)]
        bools = [item for item in values if isinstance(item, bool)]
        if op == "contains":
            return self._contains(name, texts, numbers, bools, listed)
        assert op in ("eq", "in")
        return self._one_of(name, texts, numbers, bools, listed)

    def _one_of(self, name: str, texts: list[str], numbers: list[float], bools: list[bool], listed: bool) -> str:
        groups: list[tuple[str, str, list[Scalar]]] = [
            ("strs", "String", [*texts]), ("nums", "Float64", [*numbers]), ("bools", "Bool", [*bools]),
        ]  # fmt: skip
        parts = []
        for column, kind, items in groups:
            if not items:
                continue
            # A name that is not there reads as '', 0 or false: then presence must be asked for.
            present = f"mapContains({column}, {name}) AND " if any(not item for item in items) else ""
            if len(items) == 1:
                one = self._bind(kind, items[0])
                parts.append(f"({present}{column}[{name}] = {one})")
                if listed:
                    parts.append(f"has({_list(name, column)}, {one})")
            else:
                several = self._bind(f"Array({kind})", items)  # type: ignore[arg-type]  # one type by construction
                parts.append(f"({present}{column}[{name}] IN {several})")
                if listed:
                    parts.append(f"hasAny({_list(name, column)}, {several})")
        return f"({' OR '.join(parts)})"

    def _contains(self, name: str, texts: list[str], numbers: list[float], bools: list[bool], listed: bool) -> str:
        # Not one look for all of them (arrayAll): that copies every stored text as often as there are values.
        in_text = "false"
        if not numbers and not bools:
            in_text = " AND ".join(f"position(strs[{name}], {self._bind('String', text)}) > 0" for text in texts)
        if not listed:
            return f"({in_text})"
        elements = []
        if texts:
            elements.append(f"hasAll({_list(name, 'strs')}, {self._bind('Array(String)', texts)})")
        if numbers:
            elements.append(f"hasAll({_list(name, 'nums')}, {self._bind('Array(Float64)', numbers)})")
        if bools:
            elements.append(f"hasAll({_list(name, 'bools')}, {self._bind('Array(Bool)', bools)})")
        return f"({in_text} OR {' AND '.join(elements)})"

    def _numbers(self, name: str, comparison: str, listed: bool, of_nothing: bool) -> str:
        """`comparison` has {x} where the stored number goes. `of_nothing`: it holds for 0, which is what a name that is
        not there reads as; then presence must be asked for."""
        one = comparison.replace("{x}", f"nums[{name}]")
        if of_nothing:
            one = f"mapContains(nums, {name}) AND {one}"
        if not listed:
            return f"({one})"
        element = comparison.replace("{x}", "x")
        return f"(({one}) OR arrayExists(x -> {element}, {_list(name, 'nums')}))"

    def _dates(self, name: str, test: DateTest, listed: bool) -> str:
        spans = stored_date_spans(span_of(test, self._now, self._zone), self._zone)
        kinds = [(1, spans.moments), (2, spans.locals), (3, spans.days)]

        def inside(date: str) -> str:
            parts = [
                f"(tupleElement({date}, 'kind') = {kind} AND {self.instants(f'''tupleElement({date}, 'us')''', span)})"
                for kind, allowed in kinds
                for span in allowed
            ]
            return " OR ".join(parts) or "false"

        one = inside(f"dates[{name}]")
        return f"({one} OR arrayExists(d -> {inside('d')}, {_list(name, 'dates')}))" if listed else f"({one})"


def _list(name: str, kind: str) -> str:
    """The elements of one type of a stored list; none when there is no such list."""
    return f"tupleElement(lists[{name}], '{kind}')"
