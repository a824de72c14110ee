"""What a consumer has read and not yet worked off, partition by partition, and the next batch of it.

Pure: offsets, counts and bytes; no Kafka, no await.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic, Protocol, TypeVar

P = TypeVar("P")


class Record(Protocol):
    """What is needed of aiokafka's ConsumerRecord."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


R = TypeVar("R", bound=Record)


@dataclass(slots=True)
class Buffer(Generic[R]):
    """One partition owned under `epoch`, worked off up to `next_offset`. `planned_to`: the end of a range that was
    promised and must be one batch."""

    epoch: int
    next_offset: int
    planned_to: int | None = None
    records: deque[R] = field(default_factory=deque)
    sizes: deque[int] = field(default_factory=deque)
    bytes: int = 0

    def add(self, records: Iterable[R]) -> None:
        """What comes next; records that are here or done already are passed over."""
        expected = self.records[-1].offset + 1 if self.records else self.next_offset
        for record in records:
            if record.offset >= expected:
                size = _size(record)
                self.records.append(record)
                self.sizes.append(size)
                self.bytes += size

    def done(self, to_offset: int) -> None:
        self.next_offset, self.planned_to = to_offset, None
        while self.records and self.records[0].offset < to_offset:
            self.records.popleft()
            self.bytes -= self.sizes.popleft()

    def fitting(self, count: int, bytes: int) -> int:
        """How many from the head have together at most so many bytes: at least one, whatever its size."""
        fits = 0
        for size in islice(self.sizes, count):
            bytes -= size
            if bytes < 0 and fits:
                break
            fits += 1
        return fits


class Buffers(Generic[P, R]):
    """By partition; `P` names one. A batch has at most `max_records` and `max_bytes`, but one of each partition in any
    case."""

    def __init__(self, max_records: int, max_bytes: int) -> None:
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._owned: dict[P, Buffer[R]] = {}

    def __iter__(self) -> Iterator[P]:
        return iter(self._owned)

    def __len__(self) -> int:
        return len(self._owned)

    def __getitem__(self, partition: P) -> Buffer[R]:
        return self._owned[partition]

    def get(self, partition: P) -> Buffer[R] | None:
        """None for a partition that is not ours (any more)."""
        return self._owned.get(partition)

    def own(self, partition: P, buffer: Buffer[R]) -> None:
        self._owned[partition] = buffer

    def disown(self, partition: P) -> None:
        self._owned.pop(partition, None)

    def clear(self) -> None:
        self._owned.clear()

    @property
    def count(self) -> int:
        return sum(len(buffer.records) for buffer in self._owned.values())

    @property
    def is_full(self) -> bool:
        """There is enough for a batch."""
        return self.count >= self._max_records or sum(b.bytes for b in self._owned.values()) >= self._max_bytes

    def heads(self, counts: dict[P, int]) -> dict[P, list[R]]:
        """So many from each head, without removing them."""
        return {partition: list(islice(self._owned[partition].records, n)) for partition, n in counts.items()}

    def batch(self) -> dict[P, list[R]]:
        """The next batch, without removing it: a planned range exactly, of the others what fits, the shortest buffers
        first, so that no partition waits for another's backlog."""
        batch: dict[P, list[R]] = {}
        free: list[tuple[int, P]] = []
        for partition, buffer in self._owned.items():
            if not buffer.records:
                continue
            if buffer.planned_to is None:
                free.append((len(buffer.records), partition))
            elif buffer.records[-1].offset >= buffer.planned_to - 1:  # else its rest has not been read yet
                batch[partition] = [record for record in buffer.records if record.offset < buffer.planned_to]
        free.sort(key=lambda each: each[0])
        records, bytes = self._max_records, self._max_bytes
        counts: dict[P, int] = {}
        for place, (waiting, partition) in enumerate(free):
            left = len(free) - place
            share = min(waiting, -(-records // left))
            if share:
                buffer = self._owned[partition]
                counts[partition] = share = buffer.fitting(share, bytes // left)
                records -= share
                bytes = max(0, bytes - sum(islice(buffer.sizes, share)))
        return batch | self.heads(counts)


def parts_of(batch: Mapping[P, list[R]], count: int) -> list[dict[P, list[R]]]:
    """A batch as at most `count` batches of about the same size, no partition in two of them."""
    parts: list[dict[P, list[R]]] = [{} for _ in range(min(count, len(batch)))]
    sizes = [0] * len(parts)
    for partition, records in sorted(batch.items(), key=lambda each: -len(each[1])):
        smallest = sizes.index(min(sizes))
        parts[smallest][partition] = records
        sizes[smallest] += len(records)
    return parts


def _size(record: Record) -> int:
    size = len(record.value or b"") + len(record.key or b"")
    for _, value in record.headers or ():
        size += len(value or b"")
    return size
