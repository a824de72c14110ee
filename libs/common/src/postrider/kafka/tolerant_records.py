"""Reads records whose header names are not UTF-8, as any client may publish them: bad bytes become `\\xff`.

aiokafka decodes names strictly, and its iterator is dead after the error: one such record would stop its consumers for
ever, and those behind it in the batch with it. The fast reader goes on being used; only a batch it fails on is read a
second time, by aiokafka's reader in Python over a buffer that decodes leniently. Written for aiokafka 0.14.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import islice
from typing import Any, SupportsIndex

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords

_PREFIX = struct.Struct(">qi")  # of every batch: base offset, length of what follows
_MAGIC_WITH_HEADERS = 2


class _LenientBuffer(bytearray):
    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        found = super().__getitem__(index)
        return _LenientBuffer(found) if isinstance(index, slice) else found

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return bytes(self).decode(encoding, "backslashreplace")


class _TolerantBatch:
    """A batch of aiokafka's; `raw` are its bytes."""

    def __init__(self, batch: Any, raw: memoryview) -> None:
        self._batch = batch
        self._raw = raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[Any]:
        read = 0
        try:
            for record in self._batch:
                yield record
                read += 1
        except UnicodeDecodeError:
            if self._batch.magic != _MAGIC_WITH_HEADERS:
                raise
            again = _DefaultRecordBatchPy(self._raw)
            again._maybe_uncompress()
            again._buffer = _LenientBuffer(again._buffer)
            yield from islice(again, read, None)


class TolerantRecords:
    """What aiokafka's `MemoryRecords` is to its fetcher."""

    def __init__(self, data: bytes) -> None:
        self._records = MemoryRecords(data)
        self._data = memoryview(data)
        self._at = 0

    def size_in_bytes(self) -> int:
        return int(self._records.size_in_bytes())

    def has_next(self) -> bool:
        return bool(self._records.has_next())

    def next_batch(self) -> _TolerantBatch:
        _, length = _PREFIX.unpack_from(self._data, self._at)
        start, self._at = self._at, self._at + _PREFIX.size + length
        return _TolerantBatch(self._records.next_batch(), self._data[start : self._at])


def install() -> None:
    """Gives this reader to every consumer of the process."""
    fetcher.MemoryRecords = TolerantRecords
