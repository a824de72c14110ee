"""What a rule may say, and where the pointer points when it may not (rules.md T2, T14, T18 to T27)."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest

from postrider.rules import RuleErrors, parse_rule, parse_where, rule_schema, to_json, where_schema

GOOD: list[dict[str, Any]] = [
    {"all": []},
    {"any": [{"all": []}]},
    {"not": {"did": {"event": "App Opened", "window": {"last": "P7D"}}}},
    {
        "did": {
            "event": "Order Completed",
            "where": [{"property": "amount", "op": "gt", "value": 50}, {"property": "sku", "op": "exists"}],
            "count": {"op": "between", "value": [0, 3]},
            "window": {"between": ["2026-03-01", "2026-03-05T10:00:00.5+05:30"]},
            "time_of_day": ["22:00", "06:00"],
            "days_of_week": ["mon", "sun"],
            "aggregate": {"property": "amount", "fn": "sum", "op": "gte", "value": 99.5},
        }
    },
    {"did": {"event": "E", "first_time": True, "window": {"before": "2026-03-01"}}},
    {"did": {"event": "E", "last_time": True, "window": {"after": "2026-03-01T00:00Z"}}},
    {"attribute": {"name": "", "op": "eq", "value": ""}},
    {"attribute": {"name": "a.b", "op": "ne", "value": False}},
    {"attribute": {"name": "city", "op": "not_in", "value": ["Pune", 1, True]}},
    {"attribute": {"name": "tags", "op": "contains", "value": ["a", 10]}},
    {"attribute": {"name": "tags", "op": "not_contains", "value": 10}},
    {"attribute": {"name": "name", "op": "starts_with", "value": "%"}},
    {"attribute": {"name": "born", "op": "between", "value": ["1990-01-01", "1990-01-01"]}},
    {"attribute": {"name": "age", "op": "between", "value": [1.5, 1.5]}},
    {"attribute": {"name": "born", "op": "before", "value": "2026-03-29T02:30"}},
    {"attribute": {"name": "trip", "op": "within", "value": {"next": "P2W"}}},
    {"attribute": {"name": "trip", "op": "within", "value": {"between": ["2026-01-01", "2026-02-01"]}}},
    {"attribute": {"name": "trip", "op": "not_exists"}},
    {"any": [{"in_segment": "seg_1"}, {"not": {"in_segment": "seg_2"}}]},
    {"user_list": "lst_1"},
    {"messaged": {"campaign_id": "cmp_1", "status": "accepted"}},
    {"messaged": {"campaign_id": "cmp_1", "status": "clicked", "window": {"last": "P14D"}}},
    {"messaged": {"campaign_id": "cmp_1", "status": "converted", "window": {"between": ["2026-03-01", "2026-03-05"]}}},
    {"not": {"messaged": {"campaign_id": "cmp_1", "status": "delivered", "window": {"after": "2026-03-01T10:00Z"}}}},
]


def did(**parts: Any) -> dict[str, Any]:
    return {"did": {"event": "E", **parts}}


def attribute(op: str, *value: Any) -> dict[str, Any]:
    return {"attribute": {"name": "n", "op": op, **({"value": value[0]} if value else {})}}


BAD: list[tuple[Any, str]] = [
    (None, ""),
    ([], ""),
    ({}, ""),
    ({"all": [], "any": []}, ""),
    ({"every": []}, "/every"),
    ({"all": {}}, "/all"),
    ({"any": []}, "/any"),
    ({"not": []}, "/not"),
    ({"all": [{"all": []}, 5]}, "/all/1"),
    ({"in_segment": ""}, "/in_segment"),
    ({"in_segment": ["seg_1"]}, "/in_segment"),
    ({"in_segment": "seg_\0"}, "/in_segment"),
    ({"user_list": None}, "/user_list"),
    ({"user_list": "x" * 65}, "/user_list"),
    ({"messaged": {}}, "/messaged"),
    ({"messaged": "cmp_1"}, "/messaged"),
    ({"messaged": {"campaign_id": "cmp_1"}}, "/messaged"),
    ({"messaged": {"campaign_id": 1, "status": "accepted"}}, "/messaged/campaign_id"),
    ({"messaged": {"campaign_id": "cmp_1", "status": "sent"}}, "/messaged/status"),
    ({"messaged": {"campaign_id": "cmp_1", "status": "accepted", "times": 2}}, "/messaged/times"),
    ({"messaged": {"campaign_id": "cmp_1", "status": "accepted", "window": {"next": "P1D"}}}, "/messaged/window/next"),
    ({"did": {}}, "/did"),
    ({"did": {"event": ""}}, "/did/event"),
    ({"did": {"event": 5}}, "/did/event"),
    ({"did": {"event": "a\0b"}}, "/did/event"),
    ({"did": {"event": "\ud800"}}, "/did/event"),
    ({"did": {"event": "x" * 513}}, "/did/event"),
    (did(often=1), "/did/often"),
    (did(window=None), "/did/window"),
    (did(window={}), "/did/window"),
    (did(window={"last": "P1D", "before": "2026-01-01"}), "/did/window"),
    (did(window={"next": "P1D"}), "/did/window/next"),
    (did(window={"last": "P1M"}), "/did/window/last"),
    (did(window={"last": "P1Y"}), "/did/window/last"),
    (did(window={"last": "PT0S"}), "/did/window/last"),
    (did(window={"last": "P0D"}), "/did/window/last"),
    (did(window={"last": "P1.5D"}), "/did/window/last"),
    (did(window={"last": "P"}), "/did/window/last"),
    (did(window={"last": "P1DT"}), "/did/window/last"),
    (did(window={"last": "-P1D"}), "/did/window/last"),
    (did(window={"last": "P99999999999999999D"}), "/did/window/last"),
    (did(window={"before": "2026-02-30"}), "/did/window/before"),
    (did(window={"before": "yesterday"}), "/did/window/before"),
    (did(window={"between": ["2026-03-02", "2026-03-01"]}), "/did/window/between"),
    (did(window={"between": ["2026-03-02T00:00:00Z", "2026-03-01T23:00:00Z"]}), "/did/window/between"),
    (did(window={"between": ["2026-03-02"]}), "/did/window/between"),
    (did(first_time=True, last_time=True), "/did/last_time"),
    (did(first_time=True, count={"op": "gte", "value": 1}), "/did/count"),
    (did(first_time="yes"), "/did/first_time"),
    (did(count={"op": "gte", "value": -1}), "/did/count/value"),
    (did(count={"op": "gte", "value": 1.5}), "/did/count/value"),
    (did(count={"op": "gte", "value": True}), "/did/count/value"),
    (did(count={"op": "in", "value": [1]}), "/did/count/op"),
    (did(count={"op": "between", "value": [3, 1]}), "/did/count/value"),
    (did(count={"value": 3}), "/did/count"),
    (did(time_of_day=["09:00", "09:00"]), "/did/time_of_day"),
    (did(time_of_day=["9:00", "10:00"]), "/did/time_of_day/0"),
    (did(time_of_day=["09:00", "24:00"]), "/did/time_of_day/1"),
    (did(time_of_day=["09:00"]), "/did/time_of_day"),
    (did(days_of_week=[]), "/did/days_of_week"),
    (did(days_of_week=["Mon"]), "/did/days_of_week/0"),
    (did(aggregate={"property": "p", "fn": "median", "op": "gt", "value": 1}), "/did/aggregate/fn"),
    (did(aggregate={"property": "p", "fn": "sum", "op": "gt", "value": "1"}), "/did/aggregate/value"),
    (did(aggregate={"fn": "sum", "op": "gt", "value": 1}), "/did/aggregate"),
    (did(where={}), "/did/where"),
    (did(where=[{"property": "p", "op": "like", "value": "x"}]), "/did/where/0/op"),
    (did(where=[{"name": "p", "op": "exists"}]), "/did/where/0/name"),
    (attribute("exists", None), "/attribute/value"),
    (attribute("eq"), "/attribute"),
    (attribute("eq", None), "/attribute/value"),
    (attribute("eq", ["a"]), "/attribute/value"),
    (attribute("eq", 10**400), "/attribute/value"),
    (attribute("eq", float("inf")), "/attribute/value"),
    (attribute("eq", float("nan")), "/attribute/value"),
    (attribute("in", "a"), "/attribute/value"),
    (attribute("in", []), "/attribute/value"),
    (attribute("in", ["a", None]), "/attribute/value/1"),
    (attribute("in", ["a"] * 10_001), "/attribute/value"),
    (attribute("contains", ""), "/attribute/value"),
    (attribute("contains", ["a", ""]), "/attribute/value/1"),
    (attribute("starts_with", ""), "/attribute/value"),
    (attribute("starts_with", 1), "/attribute/value"),
    (attribute("gt", "10"), "/attribute/value"),
    (attribute("gt", True), "/attribute/value"),
    (attribute("between", [2, 1]), "/attribute/value"),
    (attribute("between", [1, "2026-01-01"]), "/attribute/value"),
    (attribute("between", ["a", "b"]), "/attribute/value/0"),
    (attribute("before", "2026-01-01 10:00"), "/attribute/value"),
    (attribute("within", "P1D"), "/attribute/value"),
    (attribute("within", {"before": "2026-01-01"}), "/attribute/value/before"),
    (attribute("regex", "a"), "/attribute/op"),
]


@pytest.mark.parametrize("body", GOOD)
def test_a_good_rule_survives_printing_and_fits_the_schema(body: dict[str, Any]) -> None:
    rule = parse_rule(body)
    printed = to_json(rule)
    assert parse_rule(json.loads(json.dumps(printed))) == rule
    schema = _schema()
    schema.validate(body)
    schema.validate(printed)


@pytest.mark.parametrize(("body", "pointer"), BAD)
def test_a_bad_rule_is_refused_at_its_pointer(body: Any, pointer: str) -> None:
    with pytest.raises(RuleErrors) as errors:
        parse_rule(body)
    assert errors.value.problems[0][0] == pointer
    assert all(message for _, message in errors.value.problems)


def test_all_problems_are_named_at_once() -> None:
    body = {"all": [{"any": []}, did(count={"op": "gte", "value": -1}, days_of_week=[]), {"in_segment": 5}]}
    with pytest.raises(RuleErrors) as errors:
        parse_rule(body)
    assert {pointer for pointer, _ in errors.value.problems} == {
        "/all/0/any",
        "/all/1/did/count/value",
        "/all/1/did/days_of_week",
        "/all/2/in_segment",
    }


@pytest.mark.parametrize(("depth", "fine"), [(49, True), (50, False), (100_000, False)])
def test_depth_is_bounded_whatever_comes(depth: int, fine: bool) -> None:
    body: dict[str, Any] = {"all": []}
    for _ in range(depth):
        body = {"not": body}
    if fine:
        parse_rule(body)
        return
    with pytest.raises(RuleErrors, match="50 deep"):
        parse_rule(body)


def test_the_number_of_conditions_is_bounded() -> None:
    one = {"property": "p", "op": "exists"}
    parse_rule(did(where=[one] * 299))
    groups: dict[str, Any] = {"all": [{"all": []}] * 301}
    named = {"any": [{"in_segment": "s"}, {"user_list": "l"}, {"messaged": {"campaign_id": "c", "status": "clicked"}}]}
    for body in (did(where=[one] * 300), {"all": [did()] * 301}, {"all": [named] * 101}, groups):
        with pytest.raises(RuleErrors) as errors:
            parse_rule(body)
        assert len(errors.value.problems) == 1


def test_hostile_input_gets_a_bounded_answer() -> None:
    with pytest.raises(RuleErrors) as errors:
        parse_rule({"all": [5] * 100_000})
    assert len(errors.value.problems) == 100
    with pytest.raises(RuleErrors) as errors:
        parse_rule({"x" * 100_000 + "\ud800": 1})
    errors.value.problems[0][0].encode()
    assert len(errors.value.problems[0][0]) < 200


def test_the_filters_of_a_trigger() -> None:
    where = [{"property": "amount", "op": "gt", "value": 50}]
    assert parse_where(where)[0].value == 50.0
    _where_schema().validate(where)
    with pytest.raises(RuleErrors) as errors:
        parse_where([{"property": "amount", "op": "gt", "value": "50"}])
    assert errors.value.problems[0][0] == "/0/value"


@pytest.mark.parametrize(
    "body",
    [body for body, pointer in BAD if pointer in ("/any", "/did", "/did/count/op", "/attribute/op", "/did/window")],
)
def test_the_schema_refuses_what_it_can(body: Any) -> None:
    assert not _schema().is_valid(body)


def _schema() -> jsonschema_rs.Draft202012Validator:
    document = {"$ref": "#/$defs/Rule", "$defs": {"Rule": rule_schema("#/$defs/Rule")}}
    return jsonschema_rs.Draft202012Validator(document)


def _where_schema() -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(where_schema())
