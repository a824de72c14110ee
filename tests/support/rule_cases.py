"""Random rules and people for hypothesis, made of few names and of values that like to collide or to be mistaken."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from tests.support.rule_oracle import DAYS, Happened, Person, Told

ZONES = ["Europe/Paris", "America/New_York", "Asia/Kolkata", "UTC", "Australia/Lord_Howe", "Asia/Beirut",
         "America/Santiago", "Africa/Casablanca", "Antarctica/Troll"]  # fmt: skip
EVENTS = ["E", "e", "Ordered ★", "E'; --"]
NAMES = ["p", "P", "a.b", "", "é'\\"]
CAMPAIGNS = ["cmp_1", "cmp_2", "cmp_'; --"]
LISTS = ["lst_1", "lst_2", "lst_3"]
SEGMENTS = ["seg_1", "seg_2", "seg_3"]
"""Each may name those after it, so that there is no cycle."""
_STATUSES = ["awaiting_receipt", "sent", "delivered", "undelivered", "pending", "rejected", "in_doubt", "unknown"]
# Europe's, America's, Lord Howe's, Lebanon's and (at midnight) Chile's changes of the clock, and an ordinary noon.
_MOMENTS = [
    datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2025, 10, 26, 1, tzinfo=UTC), datetime(2026, 3, 8, 7, tzinfo=UTC),
    datetime(2026, 4, 4, 15, tzinfo=UTC), datetime(2026, 3, 28, 22, tzinfo=UTC), datetime(2026, 3, 30, 12, tzinfo=UTC),
    datetime(2026, 9, 6, 4, tzinfo=UTC),
]  # fmt: skip
_SHIFTS = [
    timedelta(0), timedelta(microseconds=1), timedelta(microseconds=-1), timedelta(minutes=30), timedelta(hours=-1),
    timedelta(hours=1), timedelta(hours=23), timedelta(days=-1), timedelta(days=-7), timedelta(days=-30),
]  # fmt: skip
DATES = [
    "2026-03-29", "2026-03-28", "2026-03-30", "2025-10-26", "2026-03-08", "2026-03-29T02:30", "2026-03-29T03:15:00",
    "2026-03-29T00:30:00.5", "2025-10-26T02:30:00", "2026-03-08T02:59:59.999999", "2026-03-29T01:00:00Z",
    "2026-09-06", "2026-09-06T00:30",
    "2026-03-29T00:59:59.9999999Z", "2026-03-29T06:30+05:30", "2026-03-30T12:00:00-00:00", "2026-04-05T01:45",
]  # fmt: skip
_TEXTS = [
    "", "a", "A", "ab", "ba", "10", "true", "null", "é", "e\u0301", "%", "_", "*", "\\", "'", '"', "a\tb\n", " a",
    "2026-03-29T24:00:00", "2026-03-29T23:59:60Z", "2026-03-29T02:30+24:00", "2026-03-29T02:30.5", "\u0662026-03-29",
    "2026-02-30", "2026-3-29", "2026-03-29 02:30", "2026-03-29T02:30z", "1774746000", "a, b", "🙂", "[]", "\r",
]  # fmt: skip
_NUMBERS: list[int | float] = [
    0, -0.0, 1, 10, 10.0, 0.1, 33.33, 33.34, 100, 99.99999999999, -5, 9007199254740992, 9007199254740993, 1e300, 5e-324,
    -1e308,
]  # fmt: skip

moments = st.builds(lambda at, shift: at + shift, st.sampled_from(_MOMENTS), st.sampled_from(_SHIFTS))
texts = st.sampled_from(_TEXTS + DATES)
numbers = st.sampled_from(_NUMBERS)
scalars = st.one_of(texts, numbers, st.booleans())
stored = st.one_of(
    scalars,
    st.none(),
    st.sampled_from(DATES),
    st.just(10**400),
    st.lists(st.one_of(scalars, st.none(), st.just({"p": 1}), st.just(["a"])), max_size=3),
    st.just({"p": 1}),
    st.just({}),
)
values = st.dictionaries(st.sampled_from(NAMES), stored, max_size=4)
durations = st.sampled_from(["PT1S", "PT1H", "PT30M", "P1D", "P7D", "P1W", "P30D", "P1DT1H30M", "P400D"])


def _range(items: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(items, min_size=2, max_size=2).map(sorted)


# Two of one form, so that the text's order is the order of time.
_date_ranges = st.one_of(
    _range(st.sampled_from([d for d in DATES if len(d) == 10])),
    _range(
        st.sampled_from(["2025-10-26T02:30:00", "2026-03-29T00:30:00", "2026-03-29T02:30:00", "2026-03-29T03:15:00"])
    ),
    _range(st.sampled_from(["2025-10-26T00:30:00Z", "2026-03-29T00:59:59Z", "2026-03-29T01:00:00Z"])),
)
_last = st.builds(lambda d: {"last": d}, durations)
_between = st.builds(lambda r: {"between": r}, _date_ranges)
windows = st.one_of(
    _last,
    _between,
    st.builds(lambda kind, d: {kind: d}, st.sampled_from(["before", "after"]), st.sampled_from(DATES)),
)
_full = scalars.filter(lambda value: value != "")
_op_values: list[tuple[list[str], st.SearchStrategy[Any] | None]] = [
    (["eq", "ne"], scalars),
    (["in", "not_in"], st.lists(scalars, min_size=1, max_size=4)),
    (["contains", "not_contains"], st.one_of(_full, st.lists(_full, min_size=1, max_size=3))),
    (["starts_with"], texts.filter(bool)),
    (["exists", "not_exists"], None),
    (["lt", "lte", "gt", "gte"], numbers),
    (["between"], st.one_of(_range(numbers), _date_ranges)),
    (["before", "after"], st.sampled_from(DATES)),
    (["within"], st.one_of(_last, _between, st.builds(lambda d: {"next": d}, durations))),
]


def every_filter(name_field: str, name: str) -> Iterator[dict[str, Any]]:
    """Each operator with each of its values, alone and in lists of two."""
    text_pairs = [[a, b] for a, b in zip(_TEXTS, _TEXTS[7:] + _TEXTS[:7], strict=True)]
    mixed: list[list[Any]] = [[10, "10"], [True, "true"], [0, False], [1, True], [0.1, 33.33, 100], ["a", "b", 1]]
    scalars: list[Any] = [*_TEXTS, *_NUMBERS, True, False]
    full = [value for value in scalars if value != ""]
    lists = [*text_pairs, *mixed, *([value] for value in scalars)]
    ranges: list[list[Any]] = [[0, 10], [-5, 0], [33.33, 33.34], [10, 10], [9007199254740992, 1e300]]
    date_ranges = [["2026-03-29", "2026-03-29"], ["2025-10-26T02:30:00", "2026-03-29T02:30:00"]]
    relative = [{"last": "P7D"}, {"next": "PT1H"}, {"last": "P400D"}, *({"between": pair} for pair in date_ranges)]
    by_op: list[tuple[list[str], list[Any]]] = [
        (["eq", "ne"], scalars),
        (["in", "not_in"], lists),
        (["contains", "not_contains"], [*full, *([v for v in items if v != ""] or ["a"] for items in lists)]),
        (["starts_with"], [text for text in _TEXTS if text]),
        (["lt", "lte", "gt", "gte"], _NUMBERS),
        (["between"], [*ranges, *date_ranges]),
        (["before", "after"], DATES),
        (["within"], relative),
    ]
    for ops, of_op in by_op:
        for op in ops:
            yield from ({name_field: name, "op": op, "value": value} for value in of_op)
    yield from ({name_field: name, "op": op} for op in ("exists", "not_exists"))


def every_stored_value() -> list[Any]:
    """One of each kind, alone and in lists."""
    alone: list[Any] = [*_TEXTS, *DATES, *_NUMBERS, True, False]
    lists: list[Any] = [[value] for value in alone]
    pairs: list[Any] = [["a", "b"], [10, "10"], [0, 1], ["a", "b", 1], ["b", True], [0.1, 33.33, 100, 7]]
    return [*alone, *lists, *pairs, 10**400, [10**400, 1], [], [None], [["a"]], [{"p": 1}], {}, {"p": "a"}, None]


@st.composite
def filters(draw: st.DrawFn, name_field: str = "property") -> dict[str, Any]:
    ops, value = draw(st.sampled_from(_op_values))
    test = {name_field: draw(st.sampled_from(NAMES)), "op": draw(st.sampled_from(ops))}
    return test if value is None else {**test, "value": draw(value)}


def _number_tests(number: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    compare = st.sampled_from(["eq", "ne", "lt", "lte", "gt", "gte"])
    return st.one_of(
        st.builds(lambda op, value: {"op": op, "value": value}, compare, number),
        st.builds(lambda value: {"op": "between", "value": value}, _range(number)),
    )


@st.composite
def dids(draw: st.DrawFn) -> dict[str, Any]:
    body: dict[str, Any] = {"event": draw(st.sampled_from(EVENTS))}
    if draw(st.booleans()):
        body["where"] = draw(st.lists(filters(), max_size=2))
    pick = draw(st.sampled_from([None, None, "first_time", "last_time"]))
    if pick:
        body[pick] = True
    elif draw(st.booleans()):
        body["count"] = draw(_number_tests(st.integers(0, 4)))
    if draw(st.booleans()):
        body["window"] = draw(windows)
    if draw(st.integers(0, 3)) == 0:
        body["time_of_day"] = draw(
            st.lists(st.sampled_from(["00:00", "01:00", "02:30", "03:00", "12:00", "23:59"]), min_size=2, max_size=2,
                     unique=True)
        )  # fmt: skip
    if draw(st.integers(0, 3)) == 0:
        body["days_of_week"] = draw(st.lists(st.sampled_from(DAYS), min_size=1, max_size=4))
    if draw(st.integers(0, 2)) == 0:
        function = draw(st.sampled_from(["sum", "avg", "min", "max"]))
        test = draw(_number_tests(numbers))
        body["aggregate"] = {"property": draw(st.sampled_from(NAMES)), "fn": function, **test}
    return {"did": body}


@st.composite
def messaged(draw: st.DrawFn) -> dict[str, Any]:
    body: dict[str, Any] = {
        "campaign_id": draw(st.sampled_from(CAMPAIGNS)),
        "status": draw(st.sampled_from(["accepted", "accepted", "delivered", "delivered", "clicked", "converted"])),
    }
    if draw(st.booleans()):
        body["window"] = draw(windows)
    return {"messaged": body}


def rules_naming(segments: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    """Rules of every kind of condition that name none but these segments."""
    leaves = [
        dids(),
        dids(),
        filters("name").map(lambda test: {"attribute": test}),
        messaged(),
        st.sampled_from(LISTS).map(lambda id: {"user_list": id}),
    ]
    if segments:
        leaves.append(st.sampled_from(segments).map(lambda id: {"in_segment": id}))
    return st.recursive(
        st.one_of(leaves),
        lambda inner: st.one_of(
            st.builds(lambda r: {"all": r}, st.lists(inner, max_size=3)),
            st.builds(lambda r: {"any": r}, st.lists(inner, min_size=1, max_size=3)),
            st.builds(lambda r: {"not": r}, inner),
        ),
        max_leaves=4,
    )


rules = rules_naming(SEGMENTS)
saved_segments: st.SearchStrategy[dict[str, dict[str, Any]]] = st.fixed_dictionaries(
    {id: rules_naming(SEGMENTS[i + 1 :]) for i, id in enumerate(SEGMENTS)}
)


@st.composite
def people(draw: st.DrawFn) -> Person:
    times = draw(st.lists(moments, max_size=4))
    # Message ids in an order that is not that of time, so that a tie is decided by them.
    ids = draw(st.permutations([f"m{i}" for i in range(len(times))]))
    history = [
        Happened(draw(st.sampled_from(EVENTS[:2])), at, message_id, draw(values))
        for at, message_id in zip(times, ids, strict=True)
    ]
    texts = draw(
        st.lists(
            st.builds(
                Told, st.sampled_from(CAMPAIGNS), st.sampled_from(["t1", "t2"]), st.sampled_from(_STATUSES), moments
            ),
            max_size=4,
        )
    )
    return Person(draw(values), history, texts, draw(st.frozensets(st.sampled_from(LISTS))))
