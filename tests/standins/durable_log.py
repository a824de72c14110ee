"""What a stand-in accepted, as JSON lines that survive a kill: the ledger that a checker compares ours with."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec


class DurableLog:
    """JSON lines, fsynced in groups: whoever appends while a sync runs shares the next one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.earlier: list[dict[str, Any]] = []
        whole = 0
        if path.exists():
            for raw in path.read_bytes().splitlines(keepends=True):
                if not raw.endswith(b"\n"):
                    break  # cut by a kill: it was never answered
                self.earlier.append(msgspec.json.decode(raw))
                whole += len(raw)
            os.truncate(path, whole)
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._lines: list[bytes] = []
        self._then: list[Callable[[], None]] = []
        self._syncing = False
        self._tasks: set[asyncio.Task[None]] = set()

    def append(self, line: dict[str, Any], then: Callable[[], None]) -> None:
        """Calls `then` once the line is on disk."""
        self._lines.append(msgspec.json.encode(line) + b"\n")
        self._then.append(then)
        if not self._syncing:
            self._syncing = True
            task = asyncio.get_running_loop().create_task(self._sync())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _sync(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0)  # let the other requests of this turn of the loop join
        while self._lines:
            data, waiting = b"".join(self._lines), self._then
            self._lines, self._then = [], []
            await loop.run_in_executor(None, self._write, data)
            for then in waiting:
                then()
        self._syncing = False

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        os.fsync(self._fd)

    def close(self) -> None:
        os.close(self._fd)


class ToldLog:
    """Which texts were reported to us, and we said that we have it: a checker expects us to know. Beside the log of
    the texts, `texts.jsonl` → `texts.told`, a reference a line."""

    def __init__(self, path: Path) -> None:
        self._path = path.with_suffix(".told")

    def append(self, references: Sequence[str | None]) -> None:
        named = [reference for reference in references if reference]
        if named:
            with self._path.open("a") as file:
                file.write("".join(f"{reference}\n" for reference in named))
