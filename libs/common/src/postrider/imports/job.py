"""One import: rows are read, made messages, published; what is acknowledged is written down, what is refused too.

"And if we die here?" The next run begins behind the last chunk that was written down. What was published and not
written down is published again under the same messageIds, which history counts once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import msgspec

from postrider.clock import Clock
from postrider.contracts.envelope import Outgoing
from postrider.contracts.user_events import Ignored
from postrider.imports.mapping import Columns, RowRefused, message_of, what_is_missing
from postrider.imports.progress import ProgressBar, State, load, save
from postrider.imports.reading import Format, Line, Source, WrongFile, fingerprint

CHUNK_ROWS = 5_000
CHUNKS_UNDER_WAY = 2

Publish = Callable[[Sequence[Outgoing]], Awaitable[None]]
"""Returns when every record is acknowledged."""


@dataclass(frozen=True, slots=True)
class Job:
    """`arguments`: all that decides what a row becomes, as text; another one needs `restart`. `rate`: rows a second
    at most, so that live events do not wait behind the import; 0: as fast as it goes."""

    path: Path
    format: Format
    columns: Columns
    topic: str
    state_path: Path
    rejects_path: Path
    arguments: str = ""
    rate: float = 0.0
    restart: bool = False
    chunk_rows: int = CHUNK_ROWS


@dataclass(slots=True)
class _Chunk:
    """`rejects`: lines for the rejects file."""

    lines: int = 0
    records: list[Outgoing] = field(default_factory=list)
    rejects: list[bytes] = field(default_factory=list)
    ignored: int = 0
    position: int = 0


async def run(job: Job, publish: Publish, clock: Clock, bar: ProgressBar | None = None) -> State:
    """The state at the end. Raises `WrongFile`, and what `publish` raises; a second run goes on where this one was."""
    state = _begin(job)
    if state.done:
        return state
    source = Source(job.path, job.format, lambda columns: what_is_missing(columns, job.columns))
    try:
        with job.rejects_path.open("r+b" if job.rejects_path.exists() else "w+b") as rejects:
            job.rejects_path.chmod(0o600)  # refused rows hold personal data
            rejects.truncate(state.rejects_bytes)
            rejects.seek(0, 2)
            began, rows = clock.monotonic(), 0
            under_way: list[tuple[_Chunk, asyncio.Task[None]]] = []
            try:
                for chunk in _chunks(job, source, state.lines, clock):
                    under_way.append((chunk, asyncio.create_task(_publish(publish, chunk.records))))
                    await _wait_for_turn(job.rate, rows + chunk.lines, began, clock)
                    if len(under_way) == CHUNKS_UNDER_WAY:
                        rows += await _settle(job, state, *under_way[0], rejects)
                        done, _ = under_way.pop(0)
                        if bar is not None:
                            bar.show(done.position, rows)
                for chunk, publishing in under_way:
                    rows += await _settle(job, state, chunk, publishing, rejects)
            except BaseException:
                for _, publishing in under_way:
                    publishing.cancel()
                await asyncio.gather(*(publishing for _, publishing in under_way), return_exceptions=True)
                raise
    finally:
        source.close()
        if job.rejects_path.exists() and not job.rejects_path.stat().st_size:
            job.rejects_path.unlink()
    state.done = True
    save(job.state_path, state)
    if bar is not None:
        bar.show(source.size, rows, last=True)
    return state


def _begin(job: Job) -> State:
    size = job.path.stat().st_size
    known = None if job.restart else load(job.state_path)
    if known is None:
        return State(size, fingerprint(job.path, size), job.arguments)
    same = size >= known.size and fingerprint(job.path, known.size) == known.fingerprint
    if not same or known.arguments != job.arguments:
        what = "was begun with other arguments" if same else "is another file"
        raise WrongFile(f"{job.path.name} {what} than {job.state_path.name} says; --restart begins anew")
    if size > known.size:
        known.size, known.fingerprint, known.done = size, fingerprint(job.path, size), False
    return known


def _chunks(job: Job, source: Source, done: int, clock: Clock) -> Iterator[_Chunk]:
    chunk = _Chunk()
    for number, line in enumerate(source.rows(), 1):
        if number <= done:
            continue
        _add(job, chunk, line, clock)
        if chunk.lines == job.chunk_rows:
            chunk.position = source.position
            yield chunk
            chunk = _Chunk()
    if chunk.lines:
        chunk.position = source.position
        yield chunk


def _add(job: Job, chunk: _Chunk, line: Line, clock: Clock) -> None:
    chunk.lines += 1
    reason = line.problem
    if line.values is not None:
        try:
            message = message_of(line.values, line.number, line.raw, job.columns, clock.now())
        except RowRefused as error:
            reason = str(error)
        else:
            if isinstance(message, Ignored):
                chunk.ignored += 1
            else:
                chunk.records.append(Outgoing(job.topic, message.user_id.encode(), message.value))
            return
    row = line.raw.decode("utf-8", "backslashreplace").rstrip("\r\n")
    chunk.rejects.append(msgspec.json.encode({"line": line.number, "reason": reason, "row": row}) + b"\n")


async def _publish(publish: Publish, records: Sequence[Outgoing]) -> None:
    if records:
        await publish(records)


async def _settle(job: Job, state: State, chunk: _Chunk, publishing: asyncio.Task[None], rejects: BinaryIO) -> int:
    await publishing
    written = b"".join(chunk.rejects)
    rejects.write(written)
    rejects.flush()
    state.lines += chunk.lines
    state.accepted += len(chunk.records)
    state.rejected += len(chunk.rejects)
    state.ignored += chunk.ignored
    state.rejects_bytes += len(written)
    save(job.state_path, state)
    return chunk.lines


async def _wait_for_turn(rate: float, rows: int, began: float, clock: Clock) -> None:
    ahead = (began + rows / rate - clock.monotonic()) if rate else 0.0
    await asyncio.sleep(max(0.0, ahead))
