"""Rule tree → the JSON of api.md "A rule", which parses to the same tree. Must not abbreviate or reorder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from postrider.rules.tree import (
    After,
    AllOf,
    AnyOf,
    Attribute,
    Before,
    Between,
    Did,
    Filter,
    FilterValue,
    InSegment,
    Last,
    Messaged,
    Next,
    Not,
    NumberRange,
    NumberTest,
    Rule,
    Scalar,
    UserList,
    Window,
)

_EXACT = 2.0**53


def to_json(rule: Rule) -> dict[str, Any]:
    if isinstance(rule, AllOf):
        return {"all": [to_json(inner) for inner in rule.rules]}
    if isinstance(rule, AnyOf):
        return {"any": [to_json(inner) for inner in rule.rules]}
    if isinstance(rule, Not):
        return {"not": to_json(rule.rule)}
    if isinstance(rule, Attribute):
        return {"attribute": _filter("name", rule.test)}
    if isinstance(rule, InSegment):
        return {"in_segment": rule.segment_id}
    if isinstance(rule, UserList):
        return {"user_list": rule.list_id}
    if isinstance(rule, Messaged):
        body: dict[str, Any] = {"campaign_id": rule.campaign_id, "status": rule.status}
        return {"messaged": {**body, "window": _window(rule.window)} if rule.window else body}
    return {"did": _did(rule)}


def where_to_json(where: Sequence[Filter]) -> list[dict[str, Any]]:
    return [_filter("property", test) for test in where]


def _did(did: Did) -> dict[str, Any]:
    body: dict[str, Any] = {"event": did.event}
    if did.where:
        body["where"] = where_to_json(did.where)
    if did.pick:
        body[f"{did.pick}_time"] = True
    if did.window:
        body["window"] = _window(did.window)
    if did.time_of_day:
        body["time_of_day"] = [f"{minutes // 60:02}:{minutes % 60:02}" for minutes in did.time_of_day]
    if did.days_of_week:
        body["days_of_week"] = list(did.days_of_week)
    if did.count:
        body["count"] = _number_test(did.count)
    if did.aggregate:
        body["aggregate"] = {
            "property": did.aggregate.property,
            "fn": did.aggregate.function,
            **_number_test(did.aggregate.test),
        }
    return body


def _filter(name_field: str, test: Filter) -> dict[str, Any]:
    body: dict[str, Any] = {name_field: test.name, "op": test.op}
    if test.op not in ("exists", "not_exists"):
        body["value"] = _within(test.value) if test.op == "within" else _value(test.value)
    return body


def _within(value: FilterValue) -> dict[str, Any]:
    if isinstance(value, Next):
        return {"next": value.duration.text}
    assert isinstance(value, Last | Between)
    return _window(value)


def _value(value: FilterValue) -> Any:
    if isinstance(value, tuple):
        return [_scalar(item) for item in value]
    if isinstance(value, NumberRange):
        return [_scalar(value.low), _scalar(value.high)]
    if isinstance(value, Between):
        return [value.low.text, value.high.text]
    if isinstance(value, Before | After):
        return value.date.text
    assert value is None or isinstance(value, str | float | bool)
    return None if value is None else _scalar(value)


def _scalar(value: Scalar) -> str | int | float | bool:
    if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT:
        return int(value)
    return value


def _number_test(test: NumberTest) -> dict[str, Any]:
    return {"op": test.op, "value": _value(test.value)}


def _window(window: Window) -> dict[str, Any]:
    if isinstance(window, Last):
        return {"last": window.duration.text}
    if isinstance(window, Between):
        return {"between": [window.low.text, window.high.text]}
    return {"before" if isinstance(window, Before) else "after": window.date.text}
