"""Rules become SQL whose text holds nothing of the user's, and rows become typed columns."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postrider.contracts.user_events import UserEvent
from postrider.rules import parse_rule
from segment_engine.domain.columns import event_row, from_microseconds, microseconds, split
from segment_engine.domain.compile_params import Parameters, render
from segment_engine.domain.compile_rule import compile_rule

NOW = datetime(2026, 3, 5, 12, 0, 0, 1, tzinfo=UTC)
_HOSTILE = "zq'); DROP TABLE events --"


def test_nothing_from_a_rule_reaches_the_text() -> None:
    body = {
        "all": [
            {
                "did": {
                    "event": _HOSTILE,
                    "where": [
                        {"property": _HOSTILE, "op": op, "value": value}
                        for op, value in (
                            ("eq", _HOSTILE),
                            ("in", [_HOSTILE, "zq", 7777.5, True]),
                            ("contains", [_HOSTILE, "zq"]),
                            ("starts_with", _HOSTILE),
                            ("gt", 7777.5),
                        )
                    ],
                    "aggregate": {"property": _HOSTILE, "fn": "sum", "op": "gt", "value": 7777.5},
                    "time_of_day": ["09:00", "10:00"],
                }
            },
            {"attribute": {"name": _HOSTILE, "op": "before", "value": "2026-03-05"}},
        ]
    }
    compiled = compile_rule(parse_rule(body), now=NOW, account_zone="Europe/Paris", user_ids=[_HOSTILE])
    assert "zq" not in compiled.sql
    assert "7777" not in compiled.sql
    used = set(re.findall(r"\{(p\d+):[A-Za-z0-9()]+\}", compiled.sql))
    assert used == set(compiled.params)


@given(st.text(st.characters(exclude_categories=["Cs"])))
@settings(max_examples=200, deadline=None)
def test_bound_text_is_one_line_without_tabs(text: str) -> None:
    for rendered in (render(text), render([text, text])):
        assert not set(rendered) & set("\t\n\r\0")


def test_half_a_surrogate_pair_is_never_bound() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        render("\ud800")
    with pytest.raises(ValueError, match="surrogates"):
        render(["\ud800"])


def test_equal_values_share_a_parameter_only_when_their_types_agree() -> None:
    parameters = Parameters()
    names = [parameters.bind(kind, value) for kind, value in (("Float64", 1.0), ("Float64", 1.0), ("String", "1.0"))]
    assert names == ["{p0:Float64}", "{p0:Float64}", "{p1:String}"]
    assert parameters.texts() == {"p0": "1.0", "p1": "1.0"}


def test_values_go_into_the_column_of_their_type() -> None:
    columns = split(
        {
            "text": "a",
            "number": 3,
            "large": 9007199254740993,
            "beyond": 10**400,
            "minus zero": -0.0,
            "flag": False,
            "null": None,
            "object": {"a": 1},
            "list": ["a", 1, True, None, {}, [], "2026-03-05"],
            "empty": [],
            "day": "2026-03-05",
            "local": "1970-01-01T00:01",
            "moment": "1970-01-01T01:00:00.0000019+01:00",
        }
    )
    assert columns.strs == {"text": "a", "day": "2026-03-05", "local": "1970-01-01T00:01"} | {
        "moment": "1970-01-01T01:00:00.0000019+01:00"
    }
    assert columns.nums == {"number": 3.0, "large": 9007199254740992.0, "minus zero": 0.0}
    assert str(columns.nums["minus zero"]) == "0.0"
    assert columns.bools == {"flag": False}
    day = microseconds(datetime(2026, 3, 5, tzinfo=UTC))
    assert columns.dates == {"day": (3, day), "local": (2, 60_000_000), "moment": (1, 1)}
    assert columns.lists == {"list": (["a", "2026-03-05"], [1.0], [True], [(3, day)]), "empty": ([], [], [], [])}
    assert columns.others == ["beyond", "object"]


def test_an_event_keeps_both_its_times_to_the_microsecond() -> None:
    event = UserEvent("track", "u", "", "E", NOW, NOW.replace(microsecond=2), {"p": 1}, False)
    row = event_row(event, "user-events-0-7")
    assert (row.user_id, row.event, row.message_id, row.nums) == ("u", "E", "user-events-0-7", {"p": 1.0})
    assert from_microseconds(row.at) == NOW
    assert row.received_at - row.at == 1
