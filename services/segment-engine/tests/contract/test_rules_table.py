"""rules.md, row by row: small fixed cases against the event store, and against live matching where a row allows it.

The account's zone is Europe/Paris: its clock jumps over 02:00 to 03:00 on 2026-03-29 and repeats it on 2025-10-26.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from postrider.rules import compile_where, parse_rule, parse_where
from segment_engine.domain.columns import EventRow, microseconds, profile_row, split
from segment_engine.event_store.port import EvaluationContext
from segment_engine.event_store.sql_store import SqlEventStore
from tests.support.event_stores import FAR_APART, opened

NOW = datetime(2026, 3, 5, 12, tzinfo=UTC)
ZONE = "Europe/Paris"
CONTEXT = EvaluationContext(NOW, ZONE)
MISSING = object()


@pytest_asyncio.fixture(scope="module", params=FAR_APART)
async def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[SqlEventStore]:
    async with opened(request.param, Path(tmp_path_factory.mktemp("table"))) as store:
        yield store


_N: Any = MISSING
# (row, operator and value, stored values that satisfy it, stored values that do not)
FILTERS: list[tuple[str, dict[str, Any], list[Any], list[Any]]] = [
    ("T3", {"op": "not_exists"}, [None, _N], ["", 0]),
    ("T4", {"op": "ne", "value": "a"}, [_N, None, 1, True, "b", [], ["b"], {}], ["a", ["b", "a"]]),
    ("T4", {"op": "not_in", "value": ["a", 1]}, [_N, None, "1", True, {}, []], ["a", 1, 1.0, ["x", 1]]),
    ("T4", {"op": "not_contains", "value": "a"}, [_N, None, 1, "b", ["ab"], {}], ["ba", ["a"]]),
    ("T5", {"op": "eq", "value": "a"}, ["a"], [_N, None, 1, True, {}, []]),
    ("T6", {"op": "eq", "value": 10}, [10], ["10", True]),
    ("T6", {"op": "eq", "value": True}, [True], ["true", 1, False]),
    ("T6", {"op": "eq", "value": 1}, [1, 1.0], [True, "1"]),
    ("T6", {"op": "eq", "value": False}, [False], [0, "", None, _N]),
    ("T6", {"op": "eq", "value": 0}, [0, -0.0], [False, "", None, _N]),
    ("T6", {"op": "lt", "value": 5}, [0], [False, "1", None, _N, []]),
    ("T7", {"op": "eq", "value": 9007199254740993}, [9007199254740992, 9007199254740993], [9007199254740994]),
    ("T7", {"op": "eq", "value": 10.0}, [10], []),
    ("T8", {"op": "eq", "value": "é"}, ["é"], ["e\u0301", "É", "e", " é"]),
    ("T8", {"op": "contains", "value": "%"}, ["5 %"], ["5", "_"]),
    ("T8", {"op": "contains", "value": "_\\'"}, ["a_\\'b"], ["a_'b"]),
    ("T8", {"op": "starts_with", "value": '*"'}, ['*"x'], ["x", '"*']),
    ("T10", {"op": "exists"}, ["", [], {}, 0, False, [None]], [None, _N]),
    ("T11", {"op": "gt", "value": 5}, [[1, 6]], [[1, "6"], [], [[6]], [None]]),
    ("T11", {"op": "between", "value": [2, 3]}, [[1, 2.5, 4]], [[1, 4]]),
    ("T11", {"op": "starts_with", "value": "a"}, [["b", "ab"]], [["ba"]]),
    ("T11", {"op": "before", "value": "2026-01-01"}, [["x", "2025-12-31"]], [["2026-01-01"]]),
    ("T12", {"op": "contains", "value": "a"}, ["bab", ["a"]], ["b", ["ab"], 1]),
    ("T12", {"op": "contains", "value": ["a", "b"]}, ["xbxa", ["b", "c", "a"]], ["a", ["a"]]),
    ("T12", {"op": "contains", "value": ["a", 1]}, [[1, "a"]], ["a1", ["a", "1"]]),
    ("T12", {"op": "contains", "value": 1}, [[1]], [1, "1", [True]]),
    ("T13", {"op": "contains", "value": "p"}, [], [{"p": "p"}, [{"p": "p"}]]),
    ("T13", {"op": "exists"}, [{"p": "p"}], []),
    ("T15", {"op": "lt", "value": 5}, [4.9], [5, 6]),
    ("T15", {"op": "lte", "value": 5}, [5], [5.1]),
    ("T15", {"op": "gt", "value": 5}, [5.1], [5]),
    ("T15", {"op": "gte", "value": 5}, [5], [4.9]),
    ("T15", {"op": "between", "value": [5, 6]}, [5, 6], [4.9, 6.1]),
    ("T19", {"op": "before", "value": "2026-03-05"}, ["2026-03-04T22:59:59.999999Z", "2026-03-04"], ["2026-03-05"]),
    ("T19", {"op": "after", "value": "2026-03-05"}, ["2026-03-06", "2026-03-05T23:00:00Z"], ["2026-03-05T22:59:59Z"]),
    (
        "T19",
        {"op": "between", "value": ["2026-03-05", "2026-03-05"]},
        ["2026-03-05", "2026-03-05T23:59:59.999999", "2026-03-04T23:00Z"],
        ["2026-03-06", "2026-03-04T22:59Z"],
    ),
    (
        "T20",
        {"op": "after", "value": "1990-01-01"},
        ["2026-03-05", "2026-03-05T10:00", "2026-03-05T10:00:00.123456789+05:30"],
        ["2026-02-30", "2026-03-05 10:00", "20260305", "March 5", 1774746000, "2026-03-05T10:00z", "2026-03-05T24:00"],
    ),
    ("T20", {"op": "eq", "value": "2026-03-05"}, ["2026-03-05"], ["2026-03-05T00:00"]),
    ("T20", {"op": "between", "value": ["2026-03-05T10:00:00.5Z", "2026-03-05T10:00:00.5Z"]},
     ["2026-03-05T10:00:00.500000999Z"], ["2026-03-05T10:00:00.500001Z"]),
    ("T20", {"op": "within", "value": {"last": "P1D"}}, ["2026-03-05T12:00Z", "2026-03-04T12:00Z"],
     ["2026-03-05T12:00:00.000001Z", "2026-03-04T11:59:59.999999Z"]),
    ("T20", {"op": "within", "value": {"next": "P1D"}}, ["2026-03-05T12:00Z", "2026-03-06T12:00Z", "2026-03-06"],
     ["2026-03-05T11:59Z", "2026-03-05"]),
    # 02:30 does not exist on that day: it is 03:30 summer time, which is after 03:15.
    ("T21", {"op": "after", "value": "2026-03-29T03:15"}, ["2026-03-29T02:30", "2026-03-29T03:30"],
     ["2026-03-29T03:10", "2026-03-29T02:10"]),
    # 02:30 is twice that day: the first, in summer time.
    ("T21", {"op": "before", "value": "2025-10-26T00:45Z"}, ["2025-10-26T02:30"], ["2025-10-26T02:50"]),
    ("T21", {"op": "before", "value": "2025-10-26T02:30"}, ["2025-10-26T00:29:59Z"], ["2025-10-26T00:30Z"]),
]  # fmt: skip


@pytest.mark.parametrize(("row", "test", "satisfy", "fail"), FILTERS)
async def test_row_of_filters(
    store: SqlEventStore, row: str, test: dict[str, Any], satisfy: list[Any], fail: list[Any]
) -> None:
    stored = {f"{row}-{i}": {} if value is MISSING else {"a.b": value} for i, value in enumerate([*satisfy, *fail])}
    version = microseconds(datetime.now(UTC))
    await store.upsert_profiles([profile_row(user_id, version, values) for user_id, values in stored.items()])
    expected = {f"{row}-{i}" for i in range(len(satisfy))}
    rule = parse_rule({"attribute": {"name": "a.b", **test}})
    assert await store.matching(rule, CONTEXT, list(stored)) == expected
    matches = compile_where(parse_where([{"property": "a.b", **test}]), ZONE, lambda: NOW)
    assert {user_id for user_id, values in stored.items() if matches(values)} == expected


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def e(when: str | datetime = NOW, message_id: str = "m", event: str = "E", **properties: Any) -> tuple[Any, ...]:
    return event, at(when) if isinstance(when, str) else when, message_id, properties


TICK = timedelta(microseconds=1)
WEEK = timedelta(days=7)
NOBODY: list[tuple[Any, ...]] = []
# (row, rule, histories that qualify, histories that do not)
HISTORIES: list[tuple[str, dict[str, Any], list[list[tuple[Any, ...]]], list[list[tuple[Any, ...]]]]] = [
    ("T1", {"all": []}, [NOBODY, [e()]], []),
    ("T2", {"not": {"all": []}}, [], [NOBODY, [e()]]),
    ("T2", {"not": {"did": {"event": "E"}}}, [NOBODY, [e(event="e")]], [[e()]]),
    ("T8", {"did": {"event": "É"}}, [[e(event="É")]], [[e(event="E\u0301")], [e(event="é")], NOBODY]),
    ("T9", {"did": {"event": "E", "where": [{"property": "a.b", "op": "eq", "value": 1}]}},
     [[("E", NOW, "m", {"a.b": 1})]], [[e(a={"b": 1})]]),
    ("T16", {"did": {"event": "E", "first_time": True, "window": {"last": "P7D"}}},
     [[e(NOW - WEEK), e()]], [[e(NOW - WEEK - TICK), e()], NOBODY]),
    ("T16", {"did": {"event": "E", "where": [{"property": "p", "op": "gt", "value": 0}], "first_time": True,
                     "window": {"last": "P7D"}}},
     [[e(NOW - 2 * WEEK, "a", p=0), e(NOW, "b", p=1)]], [[e(NOW - 2 * WEEK, "a", p=1), e(NOW, "b", p=1)]]),
    ("T16", {"did": {"event": "E", "window": {"last": "P7D"}, "count": {"op": "eq", "value": 1},
                     "aggregate": {"property": "p", "fn": "sum", "op": "eq", "value": 5}}},
     [[e(NOW - 2 * WEEK, "a", p=9), e(NOW, "b", p=5)]], [[e(NOW, "a", p=2), e(NOW, "b", p=3)]]),
    ("T17", {"did": {"event": "E", "window": {"last": "P7D"}}}, [[e(NOW)], [e(NOW - WEEK)]],
     [[e(NOW + TICK)], [e(NOW - WEEK - TICK)]]),
    ("T17", {"did": {"event": "E", "window": {"before": "2026-03-05T12:00:00Z"}}}, [[e(NOW - TICK)]], [[e(NOW)]]),
    ("T17", {"did": {"event": "E", "window": {"after": "2026-03-05T12:00:00Z"}}}, [[e(NOW + TICK)]], [[e(NOW)]]),
    ("T17", {"did": {"event": "E", "window": {"between": ["2026-03-05T12:00:00Z", "2026-03-05T12:00:00Z"]}}},
     [[e(NOW)]], [[e(NOW - TICK)], [e(NOW + TICK)]]),
    ("T18", {"did": {"event": "E", "window": {"last": "P1W"}}}, [[e(NOW - WEEK)]], [[e(NOW - WEEK - TICK)]]),
    ("T19", {"did": {"event": "E", "window": {"between": ["2026-03-29", "2026-03-29"]}}},
     [[e("2026-03-28T23:00Z")], [e("2026-03-29T21:59:59.999999Z")]],
     [[e("2026-03-28T22:59:59.999999Z")], [e("2026-03-29T22:00Z")]]),
    ("T19", {"did": {"event": "E", "window": {"after": "2026-03-29"}}},
     [[e("2026-03-29T22:00Z")]], [[e("2026-03-29T21:59:59.999999Z")]]),
    ("T22", {"did": {"event": "E", "time_of_day": ["09:00", "12:00"]}},
     [[e("2026-03-05T08:00Z")], [e("2026-07-05T07:00Z")]], [[e("2026-03-05T11:00Z")], [e("2026-03-05T07:59:59Z")]]),
    ("T22", {"did": {"event": "E", "time_of_day": ["22:00", "06:00"]}},
     [[e("2026-03-05T21:00Z")], [e("2026-03-05T04:59:59Z")]], [[e("2026-03-05T05:00Z")], [e("2026-03-05T20:59Z")]]),
    ("T22", {"did": {"event": "E", "time_of_day": ["02:00", "03:00"]}},
     [[e("2025-10-26T00:30Z")], [e("2025-10-26T01:30Z")]], [[e("2025-10-26T02:30Z")], [e("2026-03-29T01:30Z")]]),
    ("T23", {"did": {"event": "E", "days_of_week": ["sun"]}},
     [[e("2026-03-28T23:00Z")], [e("1969-07-20T20:17Z")]], [[e("2026-03-29T22:00Z")]]),
    ("T24", {"did": {"event": "E", "count": {"op": "lt", "value": 2}}}, [NOBODY, [e()]], [[e(), e(NOW, "n")]]),
    ("T24", {"did": {"event": "E", "count": {"op": "lte", "value": 0}}}, [NOBODY], [[e()]]),
    ("T24", {"did": {"event": "E", "count": {"op": "eq", "value": 0}}}, [NOBODY, [e(event="F")]], [[e()]]),
    ("T24", {"did": {"event": "E", "count": {"op": "ne", "value": 1}}}, [NOBODY, [e(), e(NOW, "n")]], [[e()]]),
    ("T24", {"did": {"event": "E", "count": {"op": "gte", "value": 0}}}, [NOBODY, [e()]], []),
    ("T24", {"did": {"event": "E", "count": {"op": "gt", "value": 10**30}}}, [], [NOBODY, [e()]]),
    ("T24", {"did": {"event": "E", "count": {"op": "between", "value": [0, 1]}}}, [NOBODY, [e()]],
     [[e(), e(NOW, "n")]]),
    ("T25", {"did": {"event": "E", "aggregate": {"property": "p", "fn": "sum", "op": "ne", "value": 5}}},
     [[e(p=1)], [e(p=1), e(NOW, "n", p="9")]], [NOBODY, [e()], [e(p="1")], [e(p=True)], [e(p=[1])], [e(p=None)]]),
    ("T25", {"did": {"event": "E", "count": {"op": "gte", "value": 0},
                     "aggregate": {"property": "p", "fn": "sum", "op": "eq", "value": 0}}},
     [[e(p=0)]], [NOBODY, [e()]]),
    ("T25", {"did": {"event": "E", "count": {"op": "eq", "value": 2},
                     "aggregate": {"property": "p", "fn": "avg", "op": "eq", "value": 4}}},
     [[e(p=4), e(NOW, "n", p="x")]], [[e(p=4)]]),
    ("T26", {"did": {"event": "E", "aggregate": {"property": "p", "fn": "sum", "op": "gt", "value": 100}}},
     [[e(p=100.001)]], [[e(NOW, "1", p=33.33), e(NOW, "2", p=33.33), e(NOW, "3", p=33.34)]]),
    ("T26", {"did": {"event": "E", "aggregate": {"property": "p", "fn": "sum", "op": "eq", "value": 0.3}}},
     [[e(NOW, "1", p=0.1), e(NOW, "2", p=0.2)]], [[e(p=0.3001)]]),
    ("T26", {"did": {"event": "E", "aggregate": {"property": "p", "fn": "max", "op": "gt", "value": 100}}},
     [[e(p=100.00000000001)]], [[e(p=100)]]),
    # A sum of doubles that leaves their range on its way is still a number.
    ("T26", {"did": {"event": "E", "aggregate": {"property": "p", "fn": "sum", "op": "eq", "value": 1e308}}},
     [[e(NOW, "1", p=1e308), e(NOW, "2", p=1e308), e(NOW, "3", p=-1e308)]], [[e(NOW, "1", p=1e308), e(p=1e308)]]),
    ("T26", {"did": {"event": "E", "aggregate": {"property": "p", "fn": "avg", "op": "ne", "value": 5}}},
     [[e(NOW, str(n), p=(-1) ** (n // 2) * 1.7e308) for n in range(4)], [e(p=4)]], [[e(p=5)]]),
    ("T26", {"did": {"event": "E", "aggregate": {"property": "p", "fn": "sum", "op": "gt", "value": 1.7e308}}},
     [[e(NOW, "1", p=1.7e308), e(NOW, "2", p=1.7e308)]], [[e(p=1.7e308)]]),
    ("T27", {"did": {"event": "E", "first_time": True,
                     "aggregate": {"property": "p", "fn": "min", "op": "eq", "value": 1}}},
     [[e(NOW, "a", p=1), e(NOW, "b", p=2)], [e(NOW, "Z", p=1), e(NOW, "a", p=2)]],
     [[e(NOW, "b", p=1), e(NOW, "a", p=2)]]),
    ("T27", {"did": {"event": "E", "last_time": True,
                     "aggregate": {"property": "p", "fn": "min", "op": "eq", "value": 1}}},
     [[e(NOW, "é", p=1), e(NOW, "z", p=2)]], [[e(NOW, "a", p=1), e(NOW, "b", p=2)], [e(NOW, "b")]]),
    ("T27", {"did": {"event": "E", "first_time": False, "last_time": False}}, [[e()]], [NOBODY]),
    ("T30", {"any": [{"did": {"event": "never"}}, {"did": {"event": "E", "where": [
        {"property": "never", "op": "exists"}]}}, {"attribute": {"name": "never", "op": "exists"}}]}, [], [[e()]]),
]  # fmt: skip


@pytest.mark.parametrize(("row", "rule", "qualify", "fail"), HISTORIES)
async def test_row_of_histories(
    store: SqlEventStore, row: str, rule: dict[str, Any], qualify: list[Any], fail: list[Any]
) -> None:
    version = microseconds(datetime.now(UTC))
    people = {f"{row}-{version}-{i}": history for i, history in enumerate([*qualify, *fail])}
    await store.upsert_profiles([profile_row(user_id, version, {}) for user_id in people])
    rows = [
        EventRow(user_id, event, microseconds(moment), microseconds(moment), message_id, *split(properties))
        for user_id, history in people.items()
        for event, moment, message_id, properties in history
    ]
    await store.insert_events(rows, f"{row}-{version}")
    expected = set(list(people)[: len(qualify)])
    assert await store.matching(parse_rule(rule), CONTEXT, list(people)) == expected


async def test_row_t31_reserved_traits_are_compared_as_kept(store: SqlEventStore) -> None:
    await store.upsert_profiles([profile_row("T31", 1, {"phone": "+919812345678"}, phone="+919812345678")])
    rule = parse_rule({"attribute": {"name": "phone", "op": "starts_with", "value": "+91"}})
    assert await store.matching(rule, CONTEXT, ["T31"]) == {"T31"}
