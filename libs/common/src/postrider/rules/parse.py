"""JSON → rule tree, or every reason why not, each with a JSON pointer (a 422 of the API; rules.md).

Safe for hostile input: depth, number of conditions and lengths are bounded before anything is built. Must not evaluate.
"""

from __future__ import annotations

from typing import Any, cast, get_args

from postrider.rules.tree import (
    DAYS,
    Aggregate,
    AggregateFunction,
    AllOf,
    AnyOf,
    Attribute,
    Day,
    Did,
    Filter,
    InSegment,
    Messaged,
    MessagedStatus,
    Not,
    NumberOp,
    NumberTest,
    Op,
    Rule,
    UserList,
)
from postrider.rules.values import (
    MAX_EVENT_CHARACTERS,
    MAX_ID_CHARACTERS,
    MAX_NAME_CHARACTERS,
    MISSING,
    Problems,
    escape,
    read_filter_value,
    read_number,
    read_number_range,
    read_text,
    read_window,
)

MAX_DEPTH = 50
MAX_CONDITIONS = 300
"""Conditions and filters inside `where`, counted together; groups are counted apart, by the same number.

What the event store needs to plan a statement grows faster than its conditions: 300 of any kind take about a second.
"""

CONDITIONS = ("did", "attribute", "in_segment", "messaged", "user_list")
GROUPS = ("all", "any", "not")

_DID = (
    "event", "where", "count", "window", "first_time", "last_time", "time_of_day", "days_of_week", "aggregate",
)  # fmt: skip
_OPS: tuple[str, ...] = get_args(Op)
_NUMBER_OPS: tuple[str, ...] = get_args(NumberOp)
_FUNCTIONS: tuple[str, ...] = get_args(AggregateFunction)
_STATUSES: tuple[str, ...] = get_args(MessagedStatus)


class RuleErrors(ValueError):
    """`problems`: (JSON pointer into what was given, message). Never empty, in the order of the document."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{pointer or '/'}: {message}" for pointer, message in problems))
        self.problems = problems


def parse_rule(body: object) -> Rule:
    """Raises `RuleErrors` with all problems at once.

    Pure: whether the segments, campaigns and lists that it names exist is the caller's question (`rules.naming`).
    """
    parser = _Parser()
    rule = parser.rule("", body, 1)
    if parser.problems.found or rule is None:
        raise RuleErrors(parser.problems.found)
    return rule


def parse_where(body: object) -> tuple[Filter, ...]:
    """The filters of a live campaign's trigger. Raises `RuleErrors`; pointers begin at the list."""
    parser = _Parser()
    where = parser.where("", body)
    if parser.problems.found:
        raise RuleErrors(parser.problems.found)
    return where


class _Parser:
    def __init__(self) -> None:
        self.problems = Problems()
        self._conditions = 0
        self._groups = 0

    def rule(self, pointer: str, body: object, depth: int) -> Rule | None:
        if depth > MAX_DEPTH:
            self.problems.add(pointer, f"is nested more than {MAX_DEPTH} deep")
            return None
        if not isinstance(body, dict):
            self.problems.add(pointer, "must be an object")
            return None
        if len(body) != 1:
            self.problems.add(pointer, f"must have exactly one key: {', '.join((*GROUPS, *CONDITIONS))}")
            return None
        ((key, part),) = body.items()
        inner = f"{pointer}/{escape(key)}"
        if key in GROUPS:
            self._groups += 1
            if self._groups > MAX_CONDITIONS:
                if self._groups == MAX_CONDITIONS + 1:
                    self.problems.add(inner, f"a rule has at most {MAX_CONDITIONS} groups")
                return None
            return self._group(key, inner, part, depth)
        if key not in CONDITIONS:
            self.problems.add(inner, f"is no kind of rule; known: {', '.join((*GROUPS, *CONDITIONS))}")
            return None
        return self._condition(key, inner, part) if self._room(inner) else None

    def _condition(self, key: str, pointer: str, part: object) -> Rule | None:
        if key == "did":
            return self._did(pointer, part)
        if key == "attribute":
            return self._attribute(pointer, part)
        if key == "messaged":
            return self._messaged(pointer, part)
        id = read_text(self.problems, pointer, part, MAX_ID_CHARACTERS)
        if id is None:
            return None
        return InSegment(id) if key == "in_segment" else UserList(id)

    def where(self, pointer: str, body: object) -> tuple[Filter, ...]:
        if not isinstance(body, list):
            self.problems.add(pointer, "must be a list of filters")
            return ()
        filters = []
        for i, item in enumerate(body):
            inner = f"{pointer}/{i}"
            if not self._room(inner):
                break
            filters.append(self._filter(inner, item, "property"))
        return tuple(item for item in filters if item is not None)

    def _room(self, pointer: str) -> bool:
        self._conditions += 1
        if self._conditions == MAX_CONDITIONS + 1:
            self.problems.add(pointer, f"a rule has at most {MAX_CONDITIONS} conditions, filters included")
        return self._conditions <= MAX_CONDITIONS

    def _group(self, key: str, pointer: str, part: object, depth: int) -> Rule | None:
        if key == "not":
            inner = self.rule(pointer, part, depth + 1)
            return None if inner is None else Not(inner)
        if not isinstance(part, list):
            self.problems.add(pointer, "must be a list of rules")
            return None
        if key == "any" and not part:
            self.problems.add(pointer, "must not be empty: nobody would qualify")
            return None
        rules = []
        for i, item in enumerate(part):
            if self._conditions > MAX_CONDITIONS or self._groups > MAX_CONDITIONS:
                return None
            rules.append(self.rule(f"{pointer}/{i}", item, depth + 1))
        known = tuple(rule for rule in rules if rule is not None)
        return AllOf(known) if key == "all" else AnyOf(known)

    def _attribute(self, pointer: str, body: object) -> Attribute | None:
        test = self._filter(pointer, body, "name")
        return None if test is None else Attribute(test)

    def _messaged(self, pointer: str, body: object) -> Messaged | None:
        part = self.problems.fields(pointer, body, ("campaign_id", "status", "window"), ("campaign_id", "status"))
        if part is None:
            return None
        id = read_text(self.problems, f"{pointer}/campaign_id", part["campaign_id"], MAX_ID_CHARACTERS)
        status = self._choice(f"{pointer}/status", part["status"], _STATUSES)
        window = read_window(self.problems, f"{pointer}/window", part["window"]) if "window" in part else None
        if id is None or status is None:
            return None
        return Messaged(id, cast(MessagedStatus, status), window)

    def _filter(self, pointer: str, body: object, name_field: str) -> Filter | None:
        part = self.problems.fields(pointer, body, (name_field, "op", "value"), (name_field, "op"))
        if part is None:
            return None
        name = read_text(self.problems, f"{pointer}/{name_field}", part[name_field], MAX_NAME_CHARACTERS, empty=True)
        op = self._choice(f"{pointer}/op", part["op"], _OPS)
        if op is None:
            return None
        fine, value = read_filter_value(self.problems, f"{pointer}/value", op, part.get("value", MISSING))
        if name is None or not fine:
            return None
        return Filter(name, cast(Op, op), value)

    def _did(self, pointer: str, body: object) -> Did | None:
        part = self.problems.fields(pointer, body, _DID, ("event",))
        if part is None:
            return None
        event = read_text(self.problems, f"{pointer}/event", part["event"], MAX_EVENT_CHARACTERS)
        first, last = (self._flag(pointer, part, name) for name in ("first_time", "last_time"))
        if first and last:
            self.problems.add(f"{pointer}/last_time", "first_time and last_time cannot both be true")
        if (first or last) and "count" in part:
            self.problems.add(f"{pointer}/count", "does not go with first_time or last_time: one event is kept")
        did = Did(
            event=event or "",
            where=self.where(f"{pointer}/where", part["where"]) if "where" in part else (),
            pick="first" if first else "last" if last else None,
            window=read_window(self.problems, f"{pointer}/window", part["window"]) if "window" in part else None,
            time_of_day=self._time_of_day(f"{pointer}/time_of_day", part),
            days_of_week=self._days_of_week(f"{pointer}/days_of_week", part),
            count=self._count(f"{pointer}/count", part["count"]) if "count" in part else None,
            aggregate=self._aggregate(f"{pointer}/aggregate", part["aggregate"]) if "aggregate" in part else None,
        )
        return None if event is None else did

    def _flag(self, pointer: str, part: dict[str, Any], name: str) -> bool:
        value = part.get(name, False)
        if not isinstance(value, bool):
            self.problems.add(f"{pointer}/{name}", "must be true or false")
            return False
        return value

    def _choice(self, pointer: str, value: object, known: tuple[str, ...]) -> str | None:
        if not isinstance(value, str) or value not in known:
            self.problems.add(pointer, f"must be one of: {', '.join(known)}")
            return None
        return value

    def _number_test(self, pointer: str, part: dict[str, Any]) -> NumberTest | None:
        op = self._choice(f"{pointer}/op", part["op"], _NUMBER_OPS)
        read = read_number_range if op == "between" else read_number
        value = None if op is None else read(self.problems, f"{pointer}/value", part["value"])
        return None if op is None or value is None else NumberTest(cast(NumberOp, op), value)

    def _count(self, pointer: str, body: object) -> NumberTest | None:
        part = self.problems.fields(pointer, body, ("op", "value"), ("op", "value"))
        test = None if part is None else self._number_test(pointer, part)
        if test is None:
            return None
        numbers = (test.value,) if isinstance(test.value, float) else (test.value.low, test.value.high)
        if any(number < 0 or not number.is_integer() for number in numbers):
            self.problems.add(f"{pointer}/value", "must be made of whole numbers from 0 on")
            return None
        return test

    def _aggregate(self, pointer: str, body: object) -> Aggregate | None:
        names = ("property", "fn", "op", "value")
        part = self.problems.fields(pointer, body, names, names)
        if part is None:
            return None
        name = read_text(self.problems, f"{pointer}/property", part["property"], MAX_NAME_CHARACTERS, empty=True)
        function = self._choice(f"{pointer}/fn", part["fn"], _FUNCTIONS)
        test = self._number_test(pointer, part)
        if name is None or function is None or test is None:
            return None
        return Aggregate(name, cast(AggregateFunction, function), test)

    def _time_of_day(self, pointer: str, part: dict[str, Any]) -> tuple[int, int] | None:
        if "time_of_day" not in part:
            return None
        value = part["time_of_day"]
        if not isinstance(value, list) or len(value) != 2:
            self.problems.add(pointer, 'must be a list of two times: ["HH:MM", "HH:MM"]')
            return None
        start, end = (self._minutes(f"{pointer}/{i}", item) for i, item in enumerate(value))
        if start is None or end is None:
            return None
        if start == end:
            self.problems.add(pointer, "must not begin and end at the same time")
            return None
        return start, end

    def _minutes(self, pointer: str, value: object) -> int | None:
        if isinstance(value, str) and len(value) == 5 and value[2] == ":" and value.isascii():
            hours, minutes = value[:2], value[3:]
            if hours.isdigit() and minutes.isdigit() and int(hours) < 24 and int(minutes) < 60:
                return int(hours) * 60 + int(minutes)
        self.problems.add(pointer, 'must be a time of day, "00:00" to "23:59"')
        return None

    def _days_of_week(self, pointer: str, part: dict[str, Any]) -> tuple[Day, ...] | None:
        if "days_of_week" not in part:
            return None
        value = part["days_of_week"]
        if not isinstance(value, list) or not value:
            self.problems.add(pointer, f"must be a list of one or more of: {', '.join(DAYS)}")
            return None
        if len(value) > 1_000:
            self.problems.add(pointer, "is too long")
            return None
        days = {self._choice(f"{pointer}/{i}", item, DAYS) for i, item in enumerate(value)}
        return None if None in days else tuple(day for day in DAYS if day in days)
