"""What only the event store knows, as a file: a header, the events and whatever else nothing could bring back, one row
a line, and the number of rows. Read back by `sources.from_file`.

Whole when it is there: it is written under another name first. Made for moving to another store, and for what the log
no longer has.
"""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec

from segment_engine.event_store.port import EventStore
from segment_engine.event_store.statements import KEPT

HEADER = b'{"postrider":"events","version":2}'
PAGE = 50_000


async def export_events(store: EventStore, path: Path, told: Callable[[int, int], None]) -> int:
    """Returns how many events. `told` gets the events and the rows so far. `path` with .gz is compressed; readable by
    its owner alone."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as raw:
        partial.chmod(0o600)
        out = cast("BinaryIO", gzip.GzipFile(fileobj=raw, mode="wb", filename="")) if path.suffix == ".gz" else raw
        out.write(HEADER + b"\n")
        events = count = 0
        async for rows in _events(store):
            out.write(_lines(rows))
            events, count = events + len(rows), count + len(rows)
            told(events, count)
        for table in KEPT:
            out.write(msgspec.json.encode({"table": table}) + b"\n")
            async for rows in _kept(store, table):
                out.write(_lines(rows))
                count += len(rows)
                told(events, count)
        out.write(msgspec.json.encode({"rows": count}) + b"\n")
        if out is not raw:
            out.close()
    partial.replace(path)
    return events


async def _events(store: EventStore) -> AsyncIterator[Sequence[Any]]:
    rows = await store.events_after(None, PAGE)
    while rows:
        yield rows
        rows = await store.events_after(rows[-1], PAGE) if len(rows) == PAGE else []


async def _kept(store: EventStore, table: str) -> AsyncIterator[Sequence[Any]]:
    rows = await store.kept_after(table, None, PAGE)
    while rows:
        yield rows
        rows = await store.kept_after(table, rows[-1], PAGE) if len(rows) == PAGE else []


def _lines(rows: Sequence[Any]) -> bytes:
    return b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
