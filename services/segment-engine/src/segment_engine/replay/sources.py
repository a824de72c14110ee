"""Where a history can come from: the log of user-events, or a file. Chunks of rows, in order; must not write.

A file is an export of ours (`export.py`), or JSON lines of the tracking spec as they were published.
"""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec

from postrider.contracts.codec import Unreadable
from postrider.contracts.user_events import Ignored, UserEvent, parse_bytes
from postrider.imports.reading import fingerprint
from postrider.kafka.clients import KafkaConfig
from postrider.kafka.reread import read_below
from segment_engine.domain.arrivals import message_id_of, read_arrival
from segment_engine.domain.columns import EventRow, event_row
from segment_engine.domain.dedup_keys import message_hash
from segment_engine.event_store.statements import KEPT
from segment_engine.loops.placement import Placement
from segment_engine.replay.export import HEADER

FIRST_HEADER = b'{"postrider":"events","version":1}'
"""Of exports that had the events alone, and no end."""
CHUNK = 20_000
MAX_SEEN = 5_000_000
"""Names of messages remembered at a time, some 100 bytes each."""


@dataclass(slots=True)
class Chunk:
    """`done`: offset or bytes of the source that are behind it. A source makes the same chunks every time. `others`:
    rows of another table instead."""

    done: int
    rows: list[EventRow] = field(default_factory=list)
    skipped: int = 0
    table: str = "events"
    others: list[list[Any]] = field(default_factory=list)


class WrongExport(Exception):
    """The file is none that can be replayed."""


class Seen:
    """Each message once. Names of one partition, or of a part of a file, at a time."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._hashes: set[int] = set()

    def is_new(self, hash: int) -> bool:
        before = len(self._hashes)
        self._hashes.add(hash)
        return len(self._hashes) > before

    def hash_of(self, user_id: str, message_id: str) -> int:
        return message_hash(self._key, user_id, message_id)

    def forget(self) -> None:
        self._hashes.clear()


async def from_log(
    config: KafkaConfig, topic: str, partition: int, start: int, upto: int, placement: Placement, seen: Seen
) -> AsyncIterator[Chunk]:
    """The track events of one partition below the offset `upto`, as the history group reads them. Wherever it starts,
    chunks end at multiples of `CHUNK`."""
    chunk = Chunk(_edge(start))
    async for stretch in read_below(config, topic, partition, start, upto, CHUNK):
        for record in stretch.records:
            if record.offset >= chunk.done:
                yield chunk
                chunk = Chunk(_edge(record.offset))
            row = _row_of(record, placement, seen)
            if row is None:
                chunk.skipped += 1
            else:
                chunk.rows.append(row)
    chunk.done = upto
    yield chunk


def _edge(offset: int) -> int:
    return (offset // CHUNK + 1) * CHUNK


def _row_of(record: Any, placement: Placement, seen: Seen) -> EventRow | None:
    """None for what the history does not keep: it was a dead letter, is no track event, or comes again elsewhere."""
    name = f"{record.topic}-{record.partition}-{record.offset}"
    try:
        arrival = read_arrival(record.value, record.timestamp, name, record.headers)
    except Unreadable:
        return None
    if isinstance(arrival, Ignored) or arrival.event.type != "track":
        return None
    if placement.is_misplaced(arrival, record.partition):
        return None
    message_id = message_id_of(arrival)
    if not seen.is_new(seen.hash_of(arrival.event.user_id, message_id)):
        return None
    return event_row(arrival.event, message_id)


def size_of(path: Path) -> int:
    """In bytes, compressed if it is: what `Chunk.done` counts of a file."""
    return path.stat().st_size


def identity_of(path: Path) -> str:
    """Names a file by what is in it. Raises `WrongExport`."""
    if not path.is_file():
        raise WrongExport(f"{path}: no such file")
    return f"file {path.name} {fingerprint(path, size_of(path))[:16]} {size_of(path)}"


def from_file(path: Path, seen: Seen, max_seen: int = MAX_SEEN) -> Iterator[Chunk]:
    """Raises `WrongExport`. Lines that cannot be read are skipped and counted, as the log's are. A file with more than
    `max_seen` lines is read several times, each time for other messages."""
    size = size_of(path)
    try:
        with _Opened(path) as (lines, _):
            first = lines.readline()
            count = sum(1 for _ in lines) + 1
    except (EOFError, gzip.BadGzipFile) as error:
        raise WrongExport(f"{path.name}: not gzip, or cut off") from error
    if first.rstrip() in (HEADER, FIRST_HEADER):
        yield from _exported(path, size, has_end=first.rstrip() == HEADER)
        return
    passes = -(-count // max_seen)
    for turn in range(passes):
        for chunk in _tracked(path, seen, turn, passes):
            chunk.done = (turn * size + chunk.done) // passes
            yield chunk
        seen.forget()


def _exported(path: Path, size: int, *, has_end: bool) -> Iterator[Chunk]:
    event_of = msgspec.json.Decoder(EventRow).decode
    row_of = msgspec.json.Decoder(list[Any]).decode
    mark_of = msgspec.json.Decoder(_Mark).decode
    chunk, count, number, ended = Chunk(0), 0, 1, False
    with _Opened(path) as (lines, raw):
        lines.readline()
        try:
            for line in lines:
                number += 1
                full = len(chunk.rows) + len(chunk.others) == CHUNK
                mark = mark_of(line) if line.startswith(b"{") else None
                if full or mark is not None:
                    chunk.done = raw.tell()
                    yield chunk
                    chunk = Chunk(0, table=chunk.table if mark is None or mark.table is None else mark.table)
                if mark is not None:
                    ended = mark.rows == count
                    continue
                count += 1
                if chunk.table == "events":
                    chunk.rows.append(event_of(line))
                else:
                    row = row_of(line)
                    if len(row) != len(KEPT[chunk.table].columns):
                        raise ValueError("a row of another length")
                    chunk.others.append(row)
        except (msgspec.DecodeError, ValueError, KeyError) as error:
            raise WrongExport(f"{path.name}, line {number}: not a row of an export") from error
    if has_end and not ended:
        raise WrongExport(f"{path.name}: cut off, its end is missing")
    chunk.done = size
    yield chunk


class _Mark(msgspec.Struct):
    """`table`: rows of it follow. `rows`: how many rows there were; the end."""

    table: str | None = None
    rows: int | None = None


def _tracked(path: Path, seen: Seen, turn: int, passes: int) -> Iterator[Chunk]:
    chunk, read, now = Chunk(0), 0, datetime.now(UTC)
    with _Opened(path) as (lines, raw):
        for number, line in enumerate(lines, 1):
            read += 1
            event = _event_of(line, now)
            if event is None:
                chunk.skipped += turn == 0
            else:
                message_id = event.message_id or f"{path.name}-{number}"
                hash = seen.hash_of(event.user_id, message_id)
                if hash % passes == turn:
                    if seen.is_new(hash):
                        chunk.rows.append(event_row(event, message_id))
                    else:
                        chunk.skipped += 1
            if read == CHUNK:
                chunk.done, read = raw.tell(), 0
                yield chunk
                chunk = Chunk(0)
        chunk.done = raw.tell()
    yield chunk


def _event_of(line: bytes, now: datetime) -> UserEvent | None:
    """An event without a time of its own has none here: the log is gone that dated it."""
    try:
        event = parse_bytes(line.strip(), now)
    except Unreadable:
        return None
    if isinstance(event, Ignored) or event.type != "track" or event.client_at is None:
        return None
    return msgspec.structs.replace(event, received_at=min(event.at, now))


class _Opened:
    """`with _Opened(path) as (lines, raw)`: the lines, and the file whose position tells how far it is."""

    def __init__(self, path: Path) -> None:
        self._raw = path.open("rb")
        self._lines: BinaryIO = self._raw
        if path.suffix == ".gz":
            self._lines = cast("BinaryIO", gzip.GzipFile(fileobj=self._raw))

    def __enter__(self) -> tuple[BinaryIO, BinaryIO]:
        return self._lines, self._raw

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._raw.close()
