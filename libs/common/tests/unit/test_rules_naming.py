"""What rules name, and saved segments put in the place of their names: cycles, sizes, pointers (rules.md T29)."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postrider.rules import Mention, Rule, RuleErrors, names_in, parse_rule, resolve, to_json


def named(id: str) -> dict[str, Any]:
    return {"in_segment": id}


def attribute(name: str, *values: Any) -> dict[str, Any]:
    return {"attribute": {"name": name, "op": "in", "value": list(values or (1,))}}


def resolved(body: dict[str, Any], segments: dict[str, dict[str, Any]], own_id: str | None = None) -> dict[str, Any]:
    def saved(id: str) -> Rule | None:
        return parse_rule(segments[id]) if id in segments else None

    return to_json(resolve(parse_rule(body), saved, own_id=own_id))


def problems(
    body: dict[str, Any], segments: dict[str, dict[str, Any]], own_id: str | None = None
) -> list[tuple[str, str]]:
    with pytest.raises(RuleErrors) as errors:
        resolved(body, segments, own_id)
    return errors.value.problems


def test_mentions_come_in_the_order_of_the_document_with_their_pointers() -> None:
    body = {
        "all": [
            {"not": named("seg_1")},
            {"any": [{"user_list": "lst_1"}, {"messaged": {"campaign_id": "cmp_1", "status": "accepted"}}]},
            {"did": {"event": "in_segment"}},
        ]
    }
    assert list(names_in(parse_rule(body))) == [
        Mention("/all/0/not/in_segment", "segment", "seg_1"),
        Mention("/all/1/any/0/user_list", "user_list", "lst_1"),
        Mention("/all/1/any/1/messaged/campaign_id", "campaign", "cmp_1"),
    ]


def test_segments_are_put_in_wherever_they_are_named() -> None:
    segments: dict[str, dict[str, Any]] = {"a": {"any": [named("b"), attribute("x")]}, "b": {"not": attribute("y")}}
    body = {"all": [named("a"), {"not": named("b")}, attribute("z")]}
    b = {"not": attribute("y")}
    assert resolved(body, segments) == {"all": [{"any": [b, attribute("x")]}, {"not": b}, attribute("z")]}


@pytest.mark.parametrize(
    ("segments", "own_id", "pointer", "message"),
    [
        ({}, None, "/any/1/in_segment", "there is no such segment"),
        ({"a": named("gone")}, None, "/any/1/in_segment", "there is no such segment (named by a)"),
        ({"a": {"all": []}}, "a", "/any/1/in_segment", "leads back to itself: a → a"),
        ({"a": {"all": [named("b")]}, "b": {"not": named("self")}}, "self", "/any/1/in_segment",
         "leads back to itself: self → a → b → self"),
        ({"a": {"all": [named("b")]}, "b": {"not": named("a")}}, "self", "/any/1/in_segment",
         "leads back to itself: a → b → a"),
    ],
)  # fmt: skip
def test_what_cannot_be_put_in_is_refused_at_its_name(
    segments: dict[str, Any], own_id: str | None, pointer: str, message: str
) -> None:
    found = problems({"any": [attribute("x"), named("a")]}, segments, own_id)
    assert [(where, what) for where, what in found] == [(pointer, message)]


def test_every_name_that_cannot_be_put_in_has_its_problem() -> None:
    body = {"all": [named("gone"), named("fine"), {"not": named("loop")}]}
    found = problems(body, {"fine": {"all": []}, "loop": named("loop")})
    assert [pointer for pointer, _ in found] == ["/all/0/in_segment", "/all/2/not/in_segment"]


def test_a_segment_named_twice_is_no_cycle() -> None:
    segments: dict[str, dict[str, Any]] = {"a": {"all": [named("c"), named("c")]}, "b": named("c"), "c": attribute("x")}
    assert resolved({"any": [named("a"), named("b"), named("c")]}, segments, "self")


def test_limits_hold_with_the_segments_put_in() -> None:
    wide = {"any": [attribute(f"n{i}") for i in range(150)]}
    assert resolved({"all": [named("a"), named("a")]}, {"a": wide})
    assert problems({"all": [named("a"), named("a"), attribute("x")]}, {"a": wide}) == [
        ("", "with its segments it would have more than 300 conditions")
    ]
    long = attribute("n", *("x" * 500 for _ in range(1_000)))
    assert "characters" in problems({"all": [named("a")] * 5}, {"a": long})[0][1]
    deep = _under(attribute("x"), 30)
    assert resolved({"all": [named("a")]}, {"a": deep})
    (found,) = problems({"all": [named("a")]}, {"a": {"not": named("b")}, "b": _under(named("c"), 20), "c": deep})
    assert found[0] == "/all/0/in_segment"
    assert "50 levels" in found[1]


def _under(rule: dict[str, Any], levels: int) -> dict[str, Any]:
    for _ in range(levels):
        rule = {"not": rule}
    return rule


def test_segments_that_double_at_every_step_are_refused_without_being_written_out() -> None:
    segments: dict[str, Any] = {f"s{i}": {"all": [named(f"s{i + 1}")] * 2} for i in range(45)}
    segments["s45"] = attribute("x")
    assert problems(named("s0"), segments)[0][0] == "/in_segment"


def test_chains_of_segments_are_bounded_however_long_or_deep_each_is() -> None:
    chain: dict[str, Any] = {f"s{i}": named(f"s{i + 1}") for i in range(5_000)}
    assert "more than 50 deep" in problems(named("s0"), chain)[0][1]
    deep = {f"s{i}": _under(named(f"s{i + 1}"), 49) for i in range(5_000)}
    limit = sys.getrecursionlimit()
    assert "50 levels" in problems(named("s0"), deep)[0][1]
    assert sys.getrecursionlimit() == limit
    fine: dict[str, Any] = {f"s{i}": named(f"s{i + 1}") for i in range(49)} | {"s49": attribute("x")}
    assert resolved(named("s0"), fine) == attribute("x")


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from("abcd"), st.lists(st.sampled_from("abcde"), max_size=3), max_size=4))
def test_exactly_what_reaches_a_cycle_or_a_gap_is_refused(edges: dict[str, list[str]]) -> None:
    segments = {id: {"all": [named(to) for to in names]} for id, names in edges.items()}

    def sound(id: str, path: tuple[str, ...]) -> bool:
        return id in edges and id not in path and all(sound(to, (*path, id)) for to in edges[id])

    for id in "abcde":
        if sound(id, ()):
            resolved(named(id), segments)
        else:
            problems(named(id), segments)
