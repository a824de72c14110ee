"""Records as they arrive: names, marks, days of deduplication."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segment_engine.domain.arrivals import (
    FORWARDED,
    MAX_FOREIGN_HEADER_BYTES,
    Arrival,
    forwarded_headers,
    mark_of,
    message_id_of,
    read_arrival,
    read_mark,
)
from segment_engine.domain.dedup_keys import GRACE_DAYS, OLDER, dedup_day, message_hash
from segment_engine.loops.known_users import KnownUsers
from segment_engine.loops.placement import Placement

HORIZON = 30
NOW = datetime(2026, 12, 1, 9, tzinfo=UTC)
MS = round(NOW.timestamp() * 1000)
UNNAMED = b'{"type":"track","userId":"u-1","event":"Bought"}'


def read(value: bytes, headers: list[tuple[str, bytes]] | None = None, ms: int = MS) -> Arrival:
    arrival = read_arrival(value, ms, "events-1-7", headers or [])
    assert isinstance(arrival, Arrival)
    return arrival


def test_a_forwarded_record_keeps_the_name_and_the_time_of_the_first() -> None:
    first = read(UNNAMED)
    assert message_id_of(first) == "events-1-7"
    again = read_arrival(UNNAMED, MS + 90_000, "events-4-9", forwarded_headers([], first))
    assert isinstance(again, Arrival)
    assert again.forwarded
    assert message_id_of(again) == "events-1-7"
    assert again.event.received_at == first.event.received_at == again.event.at


def test_headers_travel_with_a_forwarded_record_unless_they_are_too_large() -> None:
    first = read(UNNAMED)
    mark = (FORWARDED, mark_of(first))
    foreign = ("trace", b"t" * (MAX_FOREIGN_HEADER_BYTES - 5))
    assert forwarded_headers([(FORWARDED, b"forged"), foreign], first) == (foreign, mark)
    assert forwarded_headers([foreign, ("x", None)], first) == (mark,)
    assert forwarded_headers([("x", None)], first) == (("x", b""), mark)


@pytest.mark.parametrize(
    "mark",
    [
        None, b"", b"t-1-2", b"@1", b"t-1-2@", b"t-1-2@-1", b"t-1-2@1e3", b"t-1-2@999999999999999", b"\xff@\xff",
        b"x@1", b"t\x00-1-2@1", b"t-1-2@1\n", b"t" * 300 + b"-1-2@1",
    ],
)  # fmt: skip
def test_a_mark_that_is_not_ours_is_none(mark: bytes | None) -> None:
    """Its origin names events, up to the ledger's key: nothing but a topic, a partition and an offset may be in it."""
    assert read_mark([("other", b"t-1-2@1"), (FORWARDED, mark)]) is None


@pytest.mark.parametrize("milliseconds", [0, 1, MS - 31 * 86_400_000, MS + 2 * 3_600_000, 99_999_999_999_999])
def test_a_mark_from_an_impossible_moment_is_nobodys(milliseconds: int) -> None:
    arrival = read(UNNAMED, [(FORWARDED, f"events-4-9@{milliseconds}".encode())])
    assert (arrival.forwarded, arrival.origin) == (False, "events-1-7")
    assert arrival.event.received_at == read(UNNAMED).event.received_at


def test_misplaced_is_what_the_default_partitioner_puts_elsewhere_unless_it_was_forwarded() -> None:
    placement = Placement(6)
    arrival = read(UNNAMED)
    home = placement.partition_of("u-1")
    assert [placement.is_misplaced(arrival, partition) for partition in range(6)] == [p != home for p in range(6)]
    forwarded = read(UNNAMED, [(FORWARDED, mark_of(arrival))])
    assert not any(placement.is_misplaced(forwarded, partition) for partition in range(6))


def test_hashes_are_keyed_and_keep_user_and_message_apart() -> None:
    assert message_hash(b"k" * 16, "u", "1m") != message_hash(b"k" * 16, "u1", "m")
    assert message_hash(b"k" * 16, "u", "m") != message_hash(b"l" * 16, "u", "m")
    assert -(2**63) <= message_hash(b"k" * 16, "é", "m") < 2**63


@pytest.mark.parametrize(
    ("age", "day", "everywhere"),
    [
        (0, date(2026, 12, 1), False),
        (30, date(2026, 11, 1), False),
        (31, OLDER, True),
        (37, OLDER, True),
        (38, OLDER, False),
        (-1, date(2026, 12, 2), True),
        (-7, date(2026, 12, 8), True),
        (-8, OLDER, False),
    ],
)
def test_the_day_that_remembers(age: int, day: date, everywhere: bool) -> None:
    assert dedup_day(NOW - timedelta(days=age), NOW, HORIZON) == (day, everywhere)


@given(
    age=st.floats(-60, 500),
    dated=st.booleans(),
    repeats=st.lists(st.floats(0, GRACE_DAYS), min_size=1, max_size=4),
)
def test_a_repeat_within_the_promised_days_is_always_found(age: float, dated: bool, repeats: list[float]) -> None:
    """Filed under (hash, day); a look-up finds the same day, or any day when it asks everywhere."""
    client_at = NOW - timedelta(days=age) if dated else None
    first, _ = dedup_day(client_at, NOW, HORIZON)
    for later in repeats:
        day, everywhere = dedup_day(client_at, NOW + timedelta(days=later), HORIZON)
        assert everywhere or day == first


def test_known_users_forget_the_oldest_when_full() -> None:
    known = KnownUsers(capacity=100)
    known.add(f"u-{number}" for number in range(100))
    assert known.unknown({"u-0", "u-99", "v"}) == {"v"}
    known.add(["v"])
    assert known.unknown({"u-0", "u-99", "v"}) == {"u-0"}
