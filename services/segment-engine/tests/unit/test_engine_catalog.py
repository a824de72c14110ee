"""What the catalogue counts: types apart, nothing lost between writes, bounded whatever is sent, nobody's data."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segment_engine.domain import catalog
from segment_engine.domain.catalog import MAX_EXAMPLES, MAX_PENDING, MAX_TAKEN, CatalogRow, Seen, is_telling
from segment_engine.domain.columns import EventRow, profile_row, split

HOUR = 3_600_000_000


def did(event: str, at: int, **properties: Any) -> EventRow:
    return EventRow("u", event, at, at, "m", *split(properties))


def by_name(rows: list[CatalogRow]) -> dict[tuple[str, str, str], CatalogRow]:
    return {(row.event, row.name, row.type): row for row in rows}


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5), st.sampled_from(["a", "b", "2026-03-01"]), st.just({"o": 1}),
    st.lists(st.integers(0, 2), max_size=2),
)  # fmt: skip
EVENTS = st.lists(
    st.tuples(st.sampled_from(["A", "B"]), st.integers(0, 5 * HOUR), st.dictionaries(st.sampled_from("xyz"), VALUES)),
    max_size=30,
)


@given(EVENTS, st.integers(1, 4))
def test_counts_and_times_are_those_of_the_events_however_they_are_cut(
    events: list[tuple[str, int, dict[str, Any]]], batches: int
) -> None:
    seen, rows = Seen(), []
    for start in range(batches):
        seen.events([did(event, at, **properties) for event, at, properties in events[start::batches]])
        taken = seen.take()
        seen.put_back(taken)
        rows += seen.take()
    counted: Counter[tuple[str, str]] = Counter()
    last: dict[tuple[str, str], int] = {}
    for row in rows:
        counted[row.event, row.name] += row.n
        last[row.event, row.name] = max(row.last_at, last.get((row.event, row.name), 0))
        assert len(set(row.examples)) == len(row.examples) <= MAX_EXAMPLES
    expected: Counter[tuple[str, str]] = Counter()
    expected_last: dict[tuple[str, str], int] = {}
    for event, at, properties in events:
        for name in ["", *(name for name, value in properties.items() if value is not None)]:
            expected[event, name] += 1
            expected_last[event, name] = max(at, expected_last.get((event, name), 0))
    assert counted == expected
    # Within a minute the last event of a batch stands for all.
    assert all(expected_last[key] <= at <= expected_last[key] + 60_000_000 for key, at in last.items())


def test_types_are_counted_apart_and_text_that_is_a_date_is_a_date() -> None:
    seen = Seen()
    seen.events([did("A", 1, x="2026-03-01"), did("A", 2, x="soon"), did("A", 3, x=4), did("A", 4, x={"y": 1})])
    rows = by_name(seen.take())
    assert {type: rows["A", "x", type].n for type in ("date", "text", "number", "object")} == {
        "date": 1, "text": 1, "number": 1, "object": 1,
    }  # fmt: skip
    assert rows["A", "x", "date"].examples == ['"2026-03-01"']
    assert rows["A", "x", "object"].examples == []


def test_news_are_told_once() -> None:
    seen = Seen()
    seen.events([did("A", 1, x=1)])
    assert seen.has_news
    seen.take()
    seen.events([did("A", 1, x=2)])
    assert not seen.has_news
    seen.events([did("A", 1, x="text")])
    assert seen.has_news
    assert seen.take()
    assert seen.take() == []


def test_a_flood_of_names_costs_bounded_memory_and_loses_no_count() -> None:
    seen = Seen()
    names = MAX_PENDING + 10_000
    for start in range(0, names, 250):
        seen.events([did("A", 1, useful=1, **{f"n{start + n}": 1 for n in range(250)})])
    rows = seen.take()
    assert len(rows) <= MAX_TAKEN + 3
    assert by_name(rows)["A", "useful", "number"].n == names // 250
    assert sum(row.n for row in rows if row.event == "A" and row.name != "") == names + names // 250
    assert {(row.kind, row.event, row.name) for row in rows if row.kind == catalog.LEFT_OUT} == {
        (catalog.LEFT_OUT, "A", catalog.PROPERTY)
    }


@pytest.mark.parametrize(
    ("name", "value", "telling"),
    [
        ("phone", "12", True), ("First_Name", "Ada", True), ("x", "ada@example.com", True),
        ("x", "+1 202 555 0142", True), ("x", "(202) 555-0142", True), ("x", ["ok", "ada@example.com"], True),
        ("x", "red", False), ("x", "SKU-1234", False), ("x", 2025550142.0, False), ("x", "2026-03-01", False),
        ("x", True, False), ("x", [1.0, "red"], False),
    ],
)  # fmt: skip
def test_what_tells_a_person_is_nobodys_example(name: str, value: object, telling: bool) -> None:
    assert is_telling(name, value) is telling


def test_traits_of_the_erased_are_not_counted() -> None:
    seen = Seen()
    seen.profiles([profile_row("a", 1, {"city": "Pune"}), profile_row("b", 2, {"city": "x"}, deleted=True)], 7)
    assert seen.take() == [CatalogRow("attribute", "", "city", "text", 1, 7, ['"Pune"'])]
