"""A record's value is read the short way or the long way; whoever looks from outside cannot tell which."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from postrider.contracts.codec import Unreadable
from postrider.contracts.user_events import Ignored, UserEvent, parse, parse_bytes

NOW = datetime(2026, 12, 1, 9, tzinfo=UTC)
LONG = st.sampled_from(["x" * 120, "x" * 121, "x" * 256, "x" * 257, "x" * 512, "x" * 513, "ä" * 512, "ä" * 513])
TEXTS = st.one_of(st.text(max_size=6), LONG)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXTS)
VALUES = st.recursive(
    st.one_of(SCALARS, st.sampled_from([[1] * 100, [1] * 101])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=4,
)
TIMES = st.sampled_from([
    "2026-12-01T08:00:00Z", "2026-12-01T08:00:00.123456789+05:30", "2026-12-01 08:00", "2026-12-01", "20261201T080000Z",
    "2026-12-01T09:10:00Z", "1899-12-31T00:00:00Z", "0001-01-01T00:00:00+10:00", "yesterday", "", 5, None,
])  # fmt: skip
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["track", "track", "track", "identify", "page", "Track", None, 1]),
        "userId": st.one_of(st.sampled_from(["u", "", None, 7, True]), TEXTS),
        "messageId": st.one_of(st.sampled_from(["m", "", None, 7]), TEXTS),
        "event": st.one_of(st.sampled_from(["E", "", None, 7]), TEXTS),
        "anonymousId": st.sampled_from(["a", None]),
        "timestamp": TIMES,
        "originalTimestamp": TIMES,
        "properties": st.one_of(st.none(), st.just([1]), st.dictionaries(TEXTS, VALUES, max_size=4)),
        "traits": st.dictionaries(TEXTS, VALUES, max_size=2),
        "historic": st.sampled_from([True, False, None, 1, "true"]),
        "context": st.just({"library": {"name": "x"}}),
    },
)
GOOD: dict[str, Any] = {"type": "track", "userId": "u", "event": "E"}


def outcome(read: Any) -> UserEvent | Ignored | str:
    try:
        event: UserEvent | Ignored = read()
    except Unreadable as error:
        return error.reason
    return event


@given(BODIES)
@example(GOOD)
@example({**GOOD, "properties": {str(n): n for n in range(256)}})
@example({**GOOD, "properties": {str(n): n for n in range(257)}})
@example({"userId": "u", "event": "E", "messageId": "m"})
@example({**GOOD, "properties": {"nul": "\x00"}, "event": "\ud7ff"})
def test_both_ways_read_alike(body: dict[str, Any]) -> None:
    data = msgspec.json.encode(body)
    read = outcome(lambda: parse_bytes(data, NOW))
    assert read == outcome(lambda: parse(msgspec.json.decode(data), NOW))
    if isinstance(read, UserEvent):
        again = outcome(lambda: parse(msgspec.json.decode(data), NOW))
        assert repr(read) == repr(again)  # 1 is not True, 1 is not 1.0


def test_a_field_that_comes_twice_counts_as_it_came_last() -> None:
    twice = b'{"type":"identify","userId":"a","userId":"b","type":"track","event":"E","properties":{"p":1,"p":2}}'
    event = parse_bytes(twice, NOW)
    assert isinstance(event, UserEvent)
    assert (event.type, event.user_id, event.values) == ("track", "b", {"p": 2})


def test_times_of_a_clock_that_runs_ahead_are_clamped_and_kept() -> None:
    event = parse_bytes(msgspec.json.encode({**GOOD, "timestamp": "2026-12-01T11:00:00+01:00"}), NOW)
    assert isinstance(event, UserEvent)
    assert event.at == NOW + timedelta(minutes=5)
    assert event.client_at == NOW + timedelta(hours=1)
