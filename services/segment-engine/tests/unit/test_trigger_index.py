"""The index finds exactly what testing every trigger one by one finds, and asks few of them."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from postrider.rules import compile_where, parse_where
from segment_engine.domain.trigger_index import TriggerIndex

TEXTS = ["a", "b", "", "ä", "1"]
SCALARS = st.sampled_from([*TEXTS, 1, 1.0, 0, True, False, 2.5])
STORED = st.one_of(st.none(), SCALARS, st.lists(st.one_of(SCALARS, st.none()), max_size=4), st.just({"x": 1}))
VALUES = st.dictionaries(st.sampled_from(["p", "q", "r"]), STORED)
NAMES = st.sampled_from(["p", "q", "r"])
FILTERS = st.one_of(
    st.fixed_dictionaries({"property": NAMES, "op": st.sampled_from(["eq", "ne"]), "value": SCALARS}),
    st.fixed_dictionaries({
        "property": NAMES, "op": st.sampled_from(["in", "not_in"]), "value": st.lists(SCALARS, min_size=1, max_size=3)
    }),
    st.fixed_dictionaries({
        "property": NAMES, "op": st.sampled_from(["gt", "lte"]), "value": st.sampled_from([0, 1, 2.5])
    }),
    st.fixed_dictionaries({"property": NAMES, "op": st.sampled_from(["exists", "not_exists"])}),
)  # fmt: skip
WHERES = st.lists(FILTERS, max_size=3)


@given(st.lists(st.tuples(st.sampled_from(["E", "F"]), WHERES), max_size=12), VALUES, st.sampled_from(["E", "F", "G"]))
def test_finds_what_each_trigger_by_itself_says(
    triggers: list[tuple[str, list[dict[str, Any]]]], values: dict[str, Any], event: str
) -> None:
    index: TriggerIndex[int] = TriggerIndex("UTC")
    wanted = []
    for number, (name, where) in enumerate(triggers):
        index.add(name, parse_where(where), number)
        if name == event and compile_where(parse_where(where), "UTC")(values):
            wanted.append(number)
    assert sorted(index.find(event, values)) == wanted
    index.add(event, parse_where([]), -1)  # also one that comes after the first question
    assert sorted(index.find(event, values)) == [-1, *wanted]


def test_true_one_and_the_text_one_are_three_filters() -> None:
    index: TriggerIndex[str] = TriggerIndex("UTC")
    for name, value in {"bool": True, "number": 1, "text": "1"}.items():
        index.add("E", parse_where([{"property": "p", "op": "eq", "value": value}]), name)
    assert [index.find("E", {"p": stored}) for stored in (True, 1, 1.0, "1")] == [
        ["bool"], ["number"], ["number"], ["text"]
    ]  # fmt: skip


class Counting(dict[str, Any]):
    """Properties that count how often they are asked for."""

    asked = 0

    def get(self, key: str, default: Any = None) -> Any:
        self.asked += 1
        return super().get(key, default)


def test_a_thousand_triggers_that_ask_for_other_texts_are_not_asked() -> None:
    index: TriggerIndex[int] = TriggerIndex("UTC")
    for number in range(1_000):
        where = [
            {"property": "currency", "op": "eq", "value": "USD"},
            {"property": "sku", "op": "in", "value": [f"sku-{number}", f"spare-{number}"]},
        ]
        index.add("Order Completed", parse_where(where), number)
    values = Counting(currency="USD", sku="sku-7")
    assert index.find("Order Completed", values) == [7]
    assert values.asked < 10
    assert index.find("Order Completed", {"currency": "USD", "sku": ["spare-3", "sku-3", "sku-5", None]}) == [3, 5]


def test_equal_filters_are_one_test() -> None:
    index: TriggerIndex[int] = TriggerIndex("UTC")
    for number in range(1_000):
        index.add("E", parse_where([{"property": "amount", "op": "gt", "value": 50}]), number)
    values = Counting(amount=51)
    assert index.find("E", values) == list(range(1_000))
    assert values.asked == 1
