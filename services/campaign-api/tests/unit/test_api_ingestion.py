"""Bodies of ingestion → records: what spoils an item, what spoils a body, and what spoils neither."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaign_api.domain.ingestion import BadBody, Intake, read_batch, read_single
from postrider.contracts.user_events import parse_bytes

NOW = datetime(2026, 12, 1, 8, tzinfo=UTC)
GOOD = b'{"type":"track","userId":"u","messageId":"m","event":"E"}'


def batch(*items: bytes, rest: bytes = b"") -> Intake:
    return read_batch(b'{"batch":[' + b",".join(items) + b"]" + rest + b"}", NOW)


@pytest.mark.parametrize(
    ("poison", "message"),
    [
        (b"null", "must be an object"),
        (b'{"type":[],"userId":"u","event":"E"}', 'must be "track" or "identify"'),
        (b'{"type":"track","userId":"u","event":"\\ud800"}', "must not contain half of a surrogate pair"),
        (b'{"type":"track","userId":"u","event":"a\\u0000b"}', "must not contain NUL"),
        (b'{"type":"track","userId":"u","event":"\xff"}', "must not contain half of a surrogate pair"),
        (b'{"type":"track","userId":"u","event":"E","properties":{"n":1e400}}', "holds a number that is out of range"),
        (b'{"type":"track","userId":"u","event":"E","properties":{"n":NaN}}', "holds a number that is out of range"),
        (b'{"type":"identify","userId":"u","traits":{"n":[-Infinity]}}', "holds a number that is out of range"),
        (b"NaN", "must be an object"),
        (
            b'{"type":"track","userId":"u","event":"E","properties":{"n":' + b"9" * 5000 + b"}}",
            "holds a number that is out of range",
        ),
        (
            b'{"type":"track","userId":"u","event":"E","properties":{"n":' + b"[" * 50_000 + b"]" * 50_000 + b"}}",
            "is nested too deep",
        ),
        (
            b'{"type":"track","userId":"u","event":"E","properties":{'
            + b",".join(b'"k%d":"%s"' % (n, b"x" * 500) for n in range(100))
            + b"}}",
            "is larger than 32768 bytes",
        ),
    ],
    ids=[
        "null",
        "type",
        "surrogate",
        "nul",
        "not-utf8",
        "float",
        "nan",
        "infinity",
        "bare-nan",
        "integer",
        "nesting",
        "size",
    ],
)
def test_poison_in_one_item_leaves_its_neighbours_alone(poison: bytes, message: str) -> None:
    intake = batch(GOOD, poison, GOOD)
    assert len(intake.records) == 2
    (error,) = intake.errors
    assert error.pointer.startswith("/batch/1")
    assert error.message == message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"batch"',
        b'{"batch":{}}',
        b'{"historic":true}',
        b'{"batch":[],"historic":"yes"}',
        b'{"batch":[{"a":}]}',
        b'{"batch":[',
        b"[" * 100_000,
        b'{"batch":[' + b",".join([GOOD] * 1001) + b"]}",
        b'{"batch":[' + b",".join([b'"\\ud800"'] * 1001) + b"]}",
    ],
)
def test_what_is_no_batch_is_refused_as_a_whole(body: bytes) -> None:
    with pytest.raises(BadBody):
        read_batch(body, NOW)


def test_the_slow_path_finds_the_batch_whatever_stands_around_it() -> None:
    body = (
        b'{"sentAt":"x\\"batch\\": [","context":{"batch":[1,2]},"batch" : [ '
        + GOOD
        + b' , {"type":"track","userId":"u","event":"a,]}\\ud800"} ],"historic":true,"more":[1]}'
    )
    intake = read_batch(body, NOW)
    (record,) = intake.records
    assert json.loads(record[1])["historic"] is True
    assert [error.pointer for error in intake.errors] == ["/batch/1/event"]


def test_an_empty_batch_is_fine_on_both_paths() -> None:
    assert batch().records == []
    assert read_batch(b'{"x":"\\ud800","batch":[ ]}', NOW).records == []


def test_a_record_says_what_the_contract_knows_and_no_more() -> None:
    item = {
        "type": "track",
        "userId": 42,
        "event": "Added",
        "properties": {"amount": 59.9, "none": None},
        "timestamp": "2026-12-01T09:00:00+02:00",
        "originalTimestamp": "2020-01-01T00:00:00Z",
        "writeKey": "k",
        "integrations": {},
        "anonymousId": "a",
    }
    intake = batch(json.dumps(item).encode())
    ((user_id, value),) = intake.records
    message = json.loads(value)
    assert user_id == "42"
    assert message.pop("messageId")
    assert message == {
        "type": "track",
        "userId": "42",
        "event": "Added",
        "properties": {"amount": 59.9, "none": None},
        "timestamp": "2026-12-01T07:00:00Z",
    }
    event = parse_bytes(value, NOW)
    assert getattr(event, "at", None) == datetime(2026, 12, 1, 7, tzinfo=UTC)


@pytest.mark.parametrize("given", [None, "2030-01-01T02:00:00+02:00", "1999-01-01T00:00:00"])
def test_a_repeat_on_another_day_is_the_same_record(given: str | None) -> None:
    """Deduplication files a message under the client's own day: a time of ours would file the repeat elsewhere."""
    message = {"type": "track", "userId": "u", "messageId": "m", "event": "E", "timestamp": given}
    item = json.dumps(message).encode()
    first, repeat = (read_batch(b'{"batch":[' + item + b"]}", now).records for now in (NOW, NOW + timedelta(days=2)))
    assert first == repeat


def test_a_clock_that_is_fast_is_cut_to_five_minutes_by_who_reads_the_record() -> None:
    ((_, value),) = batch(b'{"type":"identify","userId":"u","timestamp":"2030-01-01T00:00:00Z"}').records
    event = parse_bytes(value, NOW)
    assert getattr(event, "at", None) == NOW + timedelta(minutes=5)


@pytest.mark.parametrize("end", [b"", b"\\"], ids=["open", "backslash"])
def test_a_text_without_an_end_is_read_once_and_not_once_from_each_of_its_quotes(end: bytes) -> None:
    """It would take hours, and the key that may send it stands in every web page."""
    with pytest.raises(BadBody):
        read_batch(b'{"batch":["' + b'\\"' * 2_000_000 + end, NOW)


def test_the_path_says_the_type_of_a_single_message() -> None:
    assert read_single(b'{"userId":"u","event":"E"}', NOW, "track").records
    assert read_single(b'{"anonymousId":"a","event":"E"}', NOW, "track").ignored == 1
    for body in (b'{"userId":"u","event":"E","type":"identify"}', b"[]", b"{", b'{"userId":"\\ud800","event":"E"}'):
        with pytest.raises(BadBody):
            read_single(body, NOW, "track")


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


FIELDS = ("userId", "messageId", "event", "properties", "traits", "context", "timestamp", "historic")
MESSAGES = st.fixed_dictionaries(
    {"type": st.just("track") | st.just("identify") | JSON}, optional=dict.fromkeys(FIELDS, JSON)
)


@given(st.lists(JSON | MESSAGES, max_size=5))
def test_every_item_is_accepted_ignored_or_named(items: list[Any]) -> None:
    intake = read_batch(json.dumps({"batch": items}).encode(), NOW)
    assert len(intake.records) + intake.ignored + len(intake.errors) == len(items)
    for _, value in intake.records:
        parse_bytes(value, NOW)
