"""Dead letters: the limit, and a record that goes there and comes back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import pytest

from postrider.contracts.envelope import Envelope, envelope_of
from postrider.kafka.dead_letters import VALUE_BYTES, DeadLetterLimit, TooManyDeadLetters, dead_letter, original


@dataclass
class Record:
    """What the module reads of aiokafka's ConsumerRecord."""

    value: bytes | None
    key: bytes | None = b"u-1"
    topic: str = "postrider.user-events.v1"
    partition: int = 3
    offset: int = 42
    headers: tuple[tuple[str, bytes], ...] = field(default=())


def test_a_few_among_many_stop_nobody() -> None:
    limit = DeadLetterLimit(10)
    for second in range(120):
        limit.check(read=100, dead=40, now=second)
        limit.committed(100, 40, second)


def test_a_few_alone_stop_nobody() -> None:
    limit = DeadLetterLimit(10)
    limit.check(read=10, dead=10, now=0.0)


def test_more_than_the_limit_and_most_of_what_was_read_is_too_many() -> None:
    limit = DeadLetterLimit(10)
    limit.committed(8, 8, 0.0)
    with pytest.raises(TooManyDeadLetters, match="11 of 11 records"):
        limit.check(read=3, dead=3, now=59.0)


def test_the_minute_moves_on() -> None:
    limit = DeadLetterLimit(10)
    limit.committed(8, 8, 0.0)
    limit.check(read=3, dead=3, now=60.0)


def test_zero_is_no_limit() -> None:
    DeadLetterLimit(0).check(read=100_000, dead=100_000, now=0.0)


def test_a_letter_says_why_and_from_where_and_comes_back_as_it_was() -> None:
    headers = (("ce_id", b"x"), ("ce_type", b"send.requested"), ("ce_id", b"twice"))
    record = Record(b"{", headers=headers)
    letter = dead_letter(record, "not JSON", "t.dlq")
    told = dict(letter.headers)
    assert (told["reason"], told["topic"], told["partition"], told["offset"]) == (
        b"not JSON", b"postrider.user-events.v1", b"3", b"42",
    )  # fmt: skip
    back = original(Record(letter.value, letter.key, "t.dlq", 0, 7, letter.headers))
    assert (back.topic, back.key, back.value, back.headers) == (record.topic, record.key, record.value, headers)


def test_a_null_value_stays_null() -> None:
    letter = dead_letter(Record(None, None), "value is null", "t.dlq")
    back = original(Record(letter.value, letter.key, headers=letter.headers))
    assert (back.key, back.value) == (None, None)


def test_what_was_cut_is_not_replayed() -> None:
    letter = dead_letter(Record(b"x" * (VALUE_BYTES + 1)), "too large", "t.dlq")
    assert letter.value is not None
    assert len(letter.value) == VALUE_BYTES
    with pytest.raises(ValueError, match=f"cut from {len(b'u-1') + VALUE_BYTES + 1} bytes"):
        original(Record(letter.value, headers=letter.headers))


@pytest.mark.parametrize(
    "record",
    [
        Record(b"{}", key=b"k" * 30_000_000),
        Record(None, key=b"k" * 3_000_000),
        Record(b"{}", headers=(("h", b"x" * 30_000_000), ("ce_id", b"1"))),
        Record(b"x" * 30_000_000, key=b"k" * 30_000_000, headers=tuple((f"h{n}", b"v") for n in range(30_000))),
    ],
)
def test_whatever_a_compressed_batch_held_its_letter_fits_and_is_not_taken_for_whole(record: Record) -> None:
    letter = dead_letter(record, "larger than anything", "t.dlq")
    headers = sum(len(name) + len(value) for name, value in letter.headers)
    assert len(letter.key or b"") + len(letter.value or b"") + headers < 1_200_000
    letter.check_size()
    with pytest.raises(ValueError, match="cut from"):
        original(Record(letter.value, letter.key, headers=letter.headers))


def test_a_letter_that_somebody_else_wrote_is_told_and_not_stumbled_over() -> None:
    headers = cast("tuple[tuple[str, bytes], ...]", (("topic", None), ("cut_from_bytes", None), ("reason", None)))
    with pytest.raises(ValueError, match="which topic"):
        original(Record(b"{}", headers=headers))


def test_a_record_of_another_tool_is_not_replayed() -> None:
    with pytest.raises(ValueError, match="which topic"):
        original(Record(b"{}"))


def test_a_null_header_is_read_and_kept_as_an_empty_one() -> None:
    headers = cast("tuple[tuple[str, bytes], ...]", (("ce_type", None), ("ce_id", b"1")))
    assert envelope_of(headers) == Envelope("1", "", "")
    letter = dead_letter(Record(b"{", headers=headers), "unknown type", "t.dlq")
    assert dict(letter.headers)["original-ce_type"] == b""
