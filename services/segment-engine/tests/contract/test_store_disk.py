"""A full disk under the embedded store: it waits for room, and what was cut off is written again."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from postrider.clock import SystemClock
from postrider.health import Check
from segment_engine.domain.columns import EventRow, split
from segment_engine.event_store.chdb_store import ChdbRunner, ChdbStore
from segment_engine.event_store.disk import Disk, Usage
from segment_engine.event_store.port import StoreFailed, StoreUnavailable
from segment_engine.event_store.sql_store import SqlEventStore


def bought(user_id: str) -> EventRow:
    return EventRow(user_id, "Bought", 1, 1, "m", *split({"p": 1}))


_CUT = """
import asyncio, os, resource, sys
from pathlib import Path
from postrider.clock import SystemClock
from postrider.health import Check
from segment_engine.domain.columns import EventRow, split
from segment_engine.event_store.chdb_store import ChdbStore
from segment_engine.event_store.port import StoreDamaged, StoreUnavailable

MOST = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
ROWS = [EventRow(f"u{n}", "Bought", n, n, f"m{n}", *split({"p": os.urandom(300).hex()})) for n in range(3000)]

def writes_fail(fail):
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000 if fail else MOST, MOST))

async def main():
    check = Check("event_store", SystemClock())
    store = ChdbStore(Path(sys.argv[1]), check)
    await store.open()
"""


async def _run(body: str, folder: Path) -> list[str]:
    """A process whose files cannot grow at will stands for a disk that is full for a moment."""
    program = f"{_CUT}{body}    await store.close()\nasyncio.run(main())\n"
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program, str(folder)], check=True, capture_output=True, text=True
    )
    return [line for line in done.stdout.splitlines() if line.startswith(">")]


async def test_a_write_that_the_disk_cut_off_is_no_success_and_can_be_repeated(tmp_path: Path) -> None:
    """chDB itself reports success, and would drop the repeat as known."""
    body = """
    writes_fail(True)
    for _ in range(2):
        try:
            await store.insert_events(ROWS, "t")
        except StoreUnavailable as error:
            print(">", check.status, await store.count_events(), isinstance(error, OSError))
    writes_fail(False)
    for _ in range(2):
        await store.insert_events(ROWS, "t")
        print(">", check.status, await store.count_events())
"""
    assert await _run(body, tmp_path) == ["> down 0 True", "> down 0 True", "> up 3000", "> up 3000"]


async def test_a_merge_that_the_disk_cut_off_ends_the_process_and_loses_nothing(tmp_path: Path) -> None:
    body = """
    for i in range(3):
        await store.insert_events([row._replace(message_id=f"{i}-{row.message_id}") for row in ROWS], f"t{i}")
    writes_fail(True)
    try:
        await store._runner.execute("OPTIMIZE TABLE events FINAL")
    except StoreDamaged:
        print("> damaged")
    writes_fail(False)
"""
    assert await _run(body, tmp_path) == ["> damaged"]
    store = ChdbStore(tmp_path)
    await store.open()
    assert await store.count_events() == 9_000
    await store.insert_events([bought("again")], "t1")
    assert await store.count_events() == 9_000
    await store.close()


async def test_nothing_is_written_without_room_to_spare(tmp_path: Path) -> None:
    free = [10**9]
    disk = Disk(tmp_path, lambda folder: Usage(10**9, free[0]))
    check = Check("event_store", SystemClock())
    store = SqlEventStore(ChdbRunner(tmp_path / "store", check, disk))
    await store.open()
    assert check.status == "up"
    free[0] = 10**8 - 1
    with pytest.raises(StoreUnavailable, match="95 MiB free, 96 MiB wanted"):
        await store.insert_events([bought("u")], "t")
    assert check.status == "down"
    assert "disk is full" in check.reason
    assert await store.count_events() == 0
    await store.close()
    await store.open()  # to say so in /readyz
    free[0] = 2 * 10**8
    await store.insert_events([bought("u")], "t")
    assert check.status == "up"
    assert await store.count_events() == 1
    await store.close()


async def test_what_a_statement_says_of_itself_is_no_outage(tmp_path: Path) -> None:
    store = ChdbStore(tmp_path)
    await store.open()
    with pytest.raises(StoreFailed) as failed:
        await store._runner.execute("SELECT throwIf(1)")
    assert not isinstance(failed.value, StoreUnavailable)
    await store.close()
