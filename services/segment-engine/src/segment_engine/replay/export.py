"""The events of a store as a file: a header, then one row a line. Read back by `sources.from_file`.

Whole when it is there: it is written under another name first. Made for moving to another store, and for what the log
no longer has.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from segment_engine.domain.columns import EventRow
from segment_engine.event_store.port import EventStore

HEADER = b'{"postrider":"events","version":1}'
PAGE = 50_000


async def export_events(store: EventStore, path: Path, told: Callable[[int], None]) -> int:
    """Returns how many. `path` with .gz is compressed; readable by its owner alone."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as raw:
        partial.chmod(0o600)
        out = cast("BinaryIO", gzip.GzipFile(fileobj=raw, mode="wb", filename="")) if path.suffix == ".gz" else raw
        out.write(HEADER + b"\n")
        count, after = 0, None
        while True:
            rows: list[EventRow] = await store.events_after(after, PAGE)
            out.write(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
            count += len(rows)
            told(count)
            if len(rows) < PAGE:
                break
            after = rows[-1]
        if out is not raw:
            out.close()
    partial.replace(path)
    return count
