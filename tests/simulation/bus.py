"""Kafka, played: logs of a few partitions, whose readers see each partition in its order and some records again.

`tests/support/bus_conformance.py` asks the same of this one and of the real one.
"""

from __future__ import annotations

import random
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from postrider.contracts.envelope import Outgoing
from postrider.postgres.outbox import RecordPublisher

PARTITIONS = 4


@dataclass(frozen=True, slots=True)
class Record:
    """What a consumer is given; named as aiokafka names it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


@dataclass
class PlayedBus(RecordPublisher):
    """`repeats`: how often a batch is published once more, at once or later, as after a crash that came behind the
    acknowledgement."""

    chance: random.Random
    repeats: float = 0.0
    logs: dict[str, list[list[Record]]] = field(default_factory=lambda: defaultdict(_partitions))
    published: int = 0
    _again: list[Sequence[Outgoing]] = field(default_factory=list)
    _read: dict[tuple[str, str], list[int]] = field(default_factory=lambda: defaultdict(lambda: [0] * PARTITIONS))

    async def start(self) -> None:
        """Nothing to connect to."""

    async def publish(self, records: Sequence[Outgoing]) -> None:
        self._append(records)
        if records and self.chance.random() < self.repeats:
            self._again.append(records)
        while self._again and self.chance.random() < 0.5:
            self._append(self._again.pop(0))

    def _append(self, records: Sequence[Outgoing]) -> None:
        for record in records:
            partition = zlib.crc32(record.key or b"") % PARTITIONS
            log = self.logs[record.topic][partition]
            log.append(Record(record.topic, partition, len(log), record.key, record.value or b"", record.headers))
            self.published += 1

    def poll(self, group: str, topic: str, most: int) -> list[Record]:
        """Some of what a group has not read yet, from one or more partitions in any order."""
        logs, offsets = self.logs[topic], self._read[group, topic]
        found: list[Record] = []
        for number in self.chance.sample(range(PARTITIONS), PARTITIONS):
            log, begin = logs[number], offsets[number]
            taken = log[begin : begin + most - len(found)]
            offsets[number] = begin + len(taken)
            found += taken
        return found

    def forget_what_was_read(self) -> None:
        """Of a partition that every group has read to its end; its offsets begin anew."""
        for topic, logs in self.logs.items():
            for number, log in enumerate(logs):
                groups = [offsets for (_, name), offsets in self._read.items() if name == topic]
                if groups and all(offsets[number] == len(log) for offsets in groups):
                    for offsets in groups:
                        offsets[number] = 0
                    log.clear()


def _partitions() -> list[list[Record]]:
    return [[] for _ in range(PARTITIONS)]
