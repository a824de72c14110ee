"""What a consumer holds between reading and working off: order, shares, planned ranges, bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from postrider.kafka.buffers import Buffer, Buffers, parts_of


@dataclass
class Entry:
    offset: int
    value: bytes | None = b"value"
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()


def entries(first: int, count: int, size: int = 5) -> list[Entry]:
    return [Entry(offset, bytes(size)) for offset in range(first, first + count)]


def holding(max_records: int = 100, max_bytes: int = 1_000_000, **partitions: list[Entry]) -> Buffers[str, Entry]:
    buffers: Buffers[str, Entry] = Buffers(max_records, max_bytes)
    for name, records in partitions.items():
        buffer: Buffer[Entry] = Buffer(1, records[0].offset)
        buffer.add(records)
        buffers.own(name, buffer)
    return buffers


def offsets(batch: dict[str, list[Entry]]) -> dict[str, list[int]]:
    return {partition: [entry.offset for entry in records] for partition, records in batch.items()}


def test_records_that_are_here_or_done_are_passed_over() -> None:
    buffer: Buffer[Entry] = Buffer(1, 10)
    buffer.add(entries(7, 5))
    buffer.add(entries(10, 4))
    assert [entry.offset for entry in buffer.records] == [10, 11, 12, 13]


def test_a_batch_stays_until_it_is_done_and_what_is_done_is_gone() -> None:
    buffers = holding(a=entries(0, 5))
    assert offsets(buffers.batch()) == offsets(buffers.batch()) == {"a": [0, 1, 2, 3, 4]}
    buffers["a"].done(3)
    assert buffers["a"].next_offset == 3
    assert buffers["a"].bytes == 10
    assert offsets(buffers.batch()) == {"a": [3, 4]}


def test_no_partition_waits_for_the_backlog_of_another() -> None:
    buffers = holding(9, long=entries(0, 100), short=entries(0, 2), middle=entries(0, 3))
    assert {name: len(records) for name, records in buffers.batch().items()} == {"short": 2, "middle": 3, "long": 4}


def test_a_planned_range_is_one_batch_whatever_its_size() -> None:
    buffers = holding(3, 10, a=entries(0, 8), b=entries(0, 8))
    buffers["a"].planned_to = 6
    batch = offsets(buffers.batch())
    assert batch["a"] == [0, 1, 2, 3, 4, 5]
    assert batch["b"] == [0, 1]


def test_a_planned_range_waits_for_its_end() -> None:
    buffers = holding(a=entries(0, 4))
    buffers["a"].planned_to = 6
    assert buffers.batch() == {}
    buffers["a"].add(entries(5, 1))  # 4 is a hole
    assert offsets(buffers.batch()) == {"a": [0, 1, 2, 3, 5]}


def test_a_batch_is_bounded_in_bytes() -> None:
    buffers = holding(100, 1_000, a=entries(0, 50, 300), b=entries(0, 50, 10))
    batch = buffers.batch()
    assert len(batch["b"]) == 50
    assert len(batch["a"]) == 1
    assert sum(len(entry.value or b"") for records in batch.values() for entry in records) <= 1_000
    assert offsets(holding(100, 1_000, a=entries(0, 50, 300)).batch()) == {"a": [0, 1, 2]}


def test_a_record_larger_than_a_batch_is_a_batch() -> None:
    buffers = holding(100, 1_000, a=entries(0, 3, 5_000))
    assert offsets(buffers.batch()) == {"a": [0]}


def test_keys_and_headers_count() -> None:
    buffers = holding(100, 100, a=[Entry(n, None, b"k" * 30, [("h", b"v" * 30)]) for n in range(5)])
    assert buffers["a"].bytes == 300
    assert offsets(buffers.batch()) == {"a": [0]}


def test_full_by_count_or_by_bytes() -> None:
    assert not holding(10, 1_000, a=entries(0, 9)).is_full
    assert holding(10, 1_000, a=entries(0, 5), b=entries(0, 5)).is_full
    assert holding(10, 1_000, a=entries(0, 2, 600)).is_full


def test_heads_are_told_by_count() -> None:
    buffers = holding(a=entries(0, 5), b=entries(7, 5))
    assert offsets(buffers.heads({"a": 2, "b": 1})) == {"a": [0, 1], "b": [7]}
    assert buffers.count == 10


def test_what_is_not_owned_is_nowhere() -> None:
    buffers = holding(a=entries(0, 5), b=entries(0, 5))
    buffers.disown("a")
    buffers.disown("a")
    assert buffers.get("a") is None
    assert list(buffers) == ["b"]
    buffers.clear()
    assert len(buffers) == 0


def test_parts_of_a_batch_are_about_the_same_size_and_share_no_partition() -> None:
    batch = holding(a=entries(0, 9), b=entries(0, 5), c=entries(0, 3), d=entries(0, 2)).batch()
    parts = parts_of(batch, 2)
    assert sorted(sum(map(len, part.values())) for part in parts) == [9, 10]
    assert parts[0].keys() & parts[1].keys() == set()
    assert {**parts[0], **parts[1]} == batch


def test_no_part_is_empty() -> None:
    assert parts_of(holding(a=entries(0, 3)).batch(), 2) == [{"a": entries(0, 3)}]
    assert parts_of({}, 2) == []
