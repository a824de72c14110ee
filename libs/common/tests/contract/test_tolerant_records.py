"""Header names that are not UTF-8 stop no reader, in batches of every kind of compression aiokafka has here."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from aiokafka.record.memory_records import MemoryRecords

from postrider.kafka.tolerant_records import TolerantRecords

PLAIN, GZIP = 0, 1
PLACEHOLDER, BAD = "~~~~", b"\xff\xfea\xc3"


def batch(first: int, headers: list[list[tuple[str, bytes | None]]], compression: int = PLAIN) -> bytes:
    builder = _DefaultRecordBatchBuilderPy(2, compression, True, -1, -1, -1, 1_000_000)
    for number, each in enumerate(headers):
        builder.append(number, 1_700_000_000_000, f"k{number}".encode(), f"v{number}".encode(), each)
    built = bytearray(builder.build())
    built[0:8] = first.to_bytes(8, "big")
    return bytes(built)


def bad(first: int) -> bytes:
    """Three records, the second with a name that is not UTF-8 (the builder takes text alone)."""
    return batch(first, [[], [("a", b"1"), (PLACEHOLDER, b"2")], [("ü", None)]]).replace(PLACEHOLDER.encode(), BAD)


def read(data: bytes, kind: Any = TolerantRecords) -> list[tuple[int, bytes, list[tuple[str, bytes | None]]]]:
    records, found = kind(data), []
    while records.has_next():
        found += [(each.offset, each.value, list(each.headers)) for each in records.next_batch()]
    return found


def gzipped(plain: bytes) -> bytes:
    """The same batch, compressed by hand: attributes at 21, records from 61."""
    records = gzip.compress(plain[61:])
    head = bytearray(plain[:61])
    head[8:12] = (61 - 12 + len(records)).to_bytes(4, "big")
    head[22] |= GZIP
    return bytes(head) + records


def test_the_library_itself_fails_on_it() -> None:
    with pytest.raises(UnicodeDecodeError):
        read(bad(0), MemoryRecords)


@pytest.mark.parametrize("compress", [bytes, gzipped])
def test_every_record_is_read_once_and_the_bad_name_is_told(compress: Callable[[bytes], bytes]) -> None:
    ones = batch(0, [[("x", b"y")]])
    assert read(ones + compress(bad(1)) + batch(4, [[]])) == [
        (0, b"v0", [("x", b"y")]),
        (1, b"v0", []),
        (2, b"v1", [("a", b"1"), ("\\xff\\xfea\\xc3", b"2")]),
        (3, b"v2", [("ü", None)]),
        (4, b"v0", []),
    ]


@pytest.mark.parametrize("compression", [PLAIN, GZIP])
def test_good_batches_are_read_as_the_library_reads_them(compression: int) -> None:
    data = batch(7, [[("ü", b"1")], [], [("b", None)]], compression)
    assert read(data) == read(data, MemoryRecords)
    assert TolerantRecords(data).size_in_bytes() == len(data)
