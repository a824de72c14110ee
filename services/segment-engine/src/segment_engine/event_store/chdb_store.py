"""The embedded event store: chDB in this process, one folder, one owner.

chDB blocks, so every statement runs on a small pool of threads (it releases the interpreter's lock and runs statements
side by side). Each thread has a session of its own: a statement's parameters are state of its session, so on a shared
one a statement could run with another's. Must not contain SQL of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from chdb import ChdbError
from chdb.session import Session

from postrider.health import Check
from postrider.logs import log
from segment_engine.event_store.disk import Disk, is_cut, is_inserted
from segment_engine.event_store.port import (
    EvaluationTooLarge,
    StoreDamaged,
    StoreFailed,
    StoreInUse,
    StoreUnavailable,
)
from segment_engine.event_store.sql_store import SqlEventStore
from segment_engine.event_store.statements import PARTS, SESSION_SETTINGS, drop_part, is_too_large

T = TypeVar("T")

_THREADS = 6
"""Two estimates, a snapshot and a live filter at once leave some to the history."""
_LINES = "JSONCompactEachRow"
_ERROR = re.compile(r"Code: (\d+)\..*\(([A-Z_]+)\)\s*$", re.DOTALL)
_UNAVAILABLE = frozenset({
    "NOT_ENOUGH_SPACE", "CANNOT_WRITE_TO_FILE_DESCRIPTOR", "CANNOT_WRITE_TO_FILE", "CANNOT_APPEND_TO_FILE",
    "CANNOT_OPEN_FILE", "CANNOT_CREATE_FILE", "CANNOT_CREATE_DIRECTORY", "CANNOT_CLOSE_FILE", "CANNOT_TRUNCATE_FILE",
    "CANNOT_FSYNC", "AIO_WRITE_ERROR", "TOO_MANY_PARTS",
})  # fmt: skip
"""Names of errors that say nothing about the rows: the disk is full or broken, or merging lags behind."""
_NO_SPACE = "No space left on device"
_decode = msgspec.json.Decoder(list[Any]).decode


class ChdbStore(SqlEventStore):
    """`port.EventStore` in a folder, which is made when missing. A process can have one open at a time."""

    def __init__(self, folder: Path, check: Check | None = None) -> None:
        super().__init__(ChdbRunner(folder, check), sole=True)


class ChdbRunner:
    """`sql_store.Runner` on chDB. The folder's lock goes with the process, however that ends.

    `check` is down from a write that found the store unavailable until one that succeeds.
    """

    def __init__(self, folder: Path, check: Check | None = None, disk: Disk | None = None) -> None:
        self._folder = folder
        self._check = check
        self._disk = disk or Disk(folder)
        self._inspecting = asyncio.Lock()
        self._asked = 0
        self._inspected = 0
        self._sound: set[str] = set()
        self._dropped = 0
        self._lock: int | None = None
        self._here = threading.local()
        self._sessions: list[Any] = []
        self._threads: ThreadPoolExecutor | None = None

    async def open(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = _own(self._folder)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="event-store")
        try:
            await self._on_thread(self._session)
        except StoreFailed:
            await self.close()
            raise

    async def close(self) -> None:
        threads, self._threads = self._threads, None
        sessions, self._sessions = self._sessions, []
        lock, self._lock = self._lock, None
        if threads is not None:
            await asyncio.to_thread(threads.shutdown)
        for session in sessions:
            await asyncio.to_thread(session.close)
        if lock is not None:
            os.close(lock)

    async def execute(self, sql: str, params: Mapping[str, str] | None = None) -> None:
        await self._write(sql, params)

    async def insert(self, sql: str, lines: bytes) -> None:
        await self._write(sql + lines.decode(), None, len(lines))

    async def rows(self, sql: str, params: Mapping[str, str] | None = None) -> list[list[Any]]:
        data = await self._query(sql, params)
        return [_decode(line) for line in data.splitlines()]

    async def _write(self, sql: str, params: Mapping[str, str] | None, size: int = 0) -> None:
        try:
            await self._write_if_there_is_room(sql, params, size)
        except StoreUnavailable as error:
            if self._check is not None:
                self._check.down(str(error))
            raise
        if self._check is not None:
            self._check.up()

    async def _write_if_there_is_room(self, sql: str, params: Mapping[str, str] | None, size: int) -> None:
        shortage = self._disk.shortage(size)
        if shortage:
            await self._inspect()  # merges go on
            raise StoreUnavailable(shortage)
        dropped = self._dropped
        await self._query(sql, params)
        await self._inspect()
        if self._dropped != dropped:
            raise StoreUnavailable("a write of the event store was cut off: it is to be repeated")

    async def _inspect(self) -> None:
        """Drops inserted parts that are cut off: whoever wrote at the time writes again. Raises `StoreDamaged`.

        One look is for all whose writes were over when it began.
        """
        self._asked += 1
        mine = self._asked
        async with self._inspecting:
            if self._inspected >= mine:
                return
            covered = self._asked
            parts = await self.rows(PARTS)
            for table, name, path, size in parts:
                if path in self._sound or not is_cut(Path(path), size):
                    continue
                log.error("event_store_part_cut", table=table, part=name)
                if not is_inserted(name):
                    raise StoreDamaged(f"part {name} of table {table} is cut off")
                await self._query(drop_part(table, name), None)
                self._dropped += 1
            self._sound = {path for _, _, path, _ in parts}
            self._inspected = covered

    async def _query(self, sql: str, params: Mapping[str, str] | None) -> bytes:
        def work() -> bytes:
            return bytes(self._session().query(sql, _LINES, params=dict(params or {})).bytes())

        return await self._on_thread(work, sql)

    def _session(self) -> Any:
        """This thread's session, opened at its first statement."""
        known: Any = getattr(self._here, "session", None)
        if known is not None:
            return known
        session: Any = Session(str(self._folder / "chdb"))  # type: ignore[no-untyped-call]
        self._sessions.append(session)
        session.query("SET " + ", ".join(f"{name} = {value}" for name, value in SESSION_SETTINGS.items()))
        self._here.session = session
        return session

    async def _on_thread(self, work: Callable[[], T], sql: str = "") -> T:
        if self._threads is None:
            raise StoreFailed("the event store is not open")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except (ChdbError, RuntimeError) as error:
            # The store's text may quote rows: only its code and name go on, and not as a cause either.
            raise _failed(str(error), sql) from None


def _own(folder: Path) -> int:
    """Takes the folder's lock or raises `StoreInUse`; the descriptor holds it."""
    lock = os.open(folder / "owner.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(lock, 32).decode(errors="replace").strip()
        os.close(lock)
        raise StoreInUse(
            f"the event store in {folder} belongs to process {owner or 'unknown'}: the embedded store has one owner; "
            "run one segment-engine, or several on a ClickHouse server (POSTRIDER_CLICKHOUSE_URL)"
        ) from None
    os.truncate(lock, 0)
    with contextlib.suppress(OSError):  # a full disk: the lock holds without the note who owns it
        os.write(lock, f"{os.getpid()}\n".encode())
    return lock


def _failed(text: str, sql: str) -> StoreFailed:
    match = _ERROR.search(text)
    if match is None:
        return StoreUnavailable("no space left") if _NO_SPACE in text else StoreFailed("statement failed")
    reason = f"statement failed: {match[2]} ({match[1]})"
    if is_too_large(sql, match[2], text):
        return EvaluationTooLarge(reason)
    return StoreUnavailable(reason) if match[2] in _UNAVAILABLE or _NO_SPACE in text else StoreFailed(reason)
