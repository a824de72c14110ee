"""Fills an empty event store again. What history has passed in the log is stored once more, the rest is for the
service, which goes on where it was.

Run it while no segment-engine writes; none starts before it is finished. "And if we die here?" The same command goes
on: chunks are the same every time, each has a token, and what is stored of each part is written down behind it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import text

from postrider.contracts.topics import DELIVERY_EVENTS, USER_EVENTS
from postrider.kafka.clients import KafkaConfig
from postrider.kafka.reread import starts_of
from postrider.postgres import progress
from postrider.postgres.database import Database
from segment_engine.adapters import erasure_table, suppression_table
from segment_engine.domain.columns import EventRow, microseconds
from segment_engine.event_store.port import EventStore, Refill
from segment_engine.event_store.statements import KEPT
from segment_engine.loops import history, messages
from segment_engine.loops.erasures import SKEW
from segment_engine.loops.placement import Placement
from segment_engine.replay.sources import Chunk, Seen, from_file, from_log, size_of

Told = Callable[[int, int], None]
"""How much of the source is done, and how many events are stored."""

SUPPRESSIONS_AT_ONCE = 20_000
_RUN = "run "
"""Parts of a refill that are none: runs whose audience the store had."""

_COPY_ALL = text("UPDATE profiles SET copied_version = 0 WHERE copied_version > 0")
_REWIND = text("""
UPDATE consumer_progress p SET epoch = p.epoch + 1, next_offset = v.start, planned_to = NULL,
    updated_at = clock_timestamp()
FROM unnest(CAST(:partitions AS int[]), CAST(:starts AS bigint[])) AS v(partition, start)
WHERE p.consumer_group = :group AND p.topic = :topic AND p.partition = v.partition
""")


class NotEmpty(Exception):
    """The store has events, and nobody said that they shall go."""


class Rebuild:
    """`stored` and `skipped` count events; skipped are doubles, the unreadable, and those of people who were erased.
    `goes_on`: an earlier run had begun."""

    def __init__(self, store: EventStore, database: Database, config: KafkaConfig, dedup_key: bytes) -> None:
        self._store = store
        self._database = database
        self._config = config
        self._key = dedup_key
        self._refill = Refill("", secrets.token_hex(8), {})
        self.stored = 0
        self.skipped = 0
        self.goes_on = False

    async def begin(self, source: str, *, replace: bool) -> None:
        """Goes on with what was begun from the same source. Raises `NotEmpty`."""
        begun = await self._store.refill()
        if begun is not None and begun.source == source and not replace:
            self._refill, self.goes_on = begun, True
            return
        count = await self._store.count_events()
        if (count or begun) and not replace:
            what = f"{count:,} events" if begun is None else f"half a history, from {begun.source}"
            raise NotEmpty(f"the event store has {what}; --replace deletes it first")
        if count or begun:
            await self._store.clear_events()
        self._refill = Refill(source, self._refill.run, {})

    async def log_size(self) -> int:
        """Records of user-events that history has passed and the log still has."""
        return sum(max(0, upto - start) for start, upto in (await self._passed()).values())

    async def events_from_log(self, placement: Placement, told: Told) -> None:
        passed = await self._passed()
        if not self.goes_on:
            # Where history was is written down: what it reads later is not to come twice.
            await self._note({str(partition): place for partition, place in passed.items()})
        done = 0
        for partition, (start, upto) in sorted(passed.items()):
            chunks = from_log(self._config, self._topic, partition, start, upto, placement, Seen(self._key))
            reached = self._refill.parts.get(str(partition), (start, upto))[0]

            def tell(at: int, before: int = done - start) -> None:
                told(before + at, self.stored)

            await self._store_all(_placed(chunks), str(partition), reached, upto, tell)
            done += max(0, upto - start)

    async def events_from_file(self, path: Path, told: Told) -> None:
        """An export brings more than events; audiences that the store has are left as they are."""
        size = size_of(path)
        if not self.goes_on:
            await self._note({"file": (0, size), **{_RUN + run: (0, 0) for run in await self._store.known_runs()}})
        chunks = _numbered(from_file(path, Seen(self._key)))
        await self._store_all(chunks, "file", self._refill.parts["file"][0], size, lambda at: told(at, self.stored))

    async def everything_else(self) -> None:
        """What Postgres knows is copied again by the service; the message log is read again from its topic."""
        async with self._database.begin() as tx:
            known = await suppression_table.everything(tx)
        for start in range(0, len(known), SUPPRESSIONS_AT_ONCE):
            await self._store.upsert_suppressions(known[start : start + SUPPRESSIONS_AT_ONCE])
        topic = DELIVERY_EVENTS.full_name(self._config.topic_prefix)
        places = [at for at in await progress.positions(self._database, messages.GROUP) if at[0] == topic]
        starts = await starts_of(self._config, topic, sorted(partition for _, partition in places))
        async with self._database.begin() as tx:
            await tx.execute(_COPY_ALL)
            await tx.execute(
                _REWIND,
                {
                    "group": messages.GROUP,
                    "topic": topic,
                    "partitions": list(starts),
                    "starts": list(starts.values()),
                },
            )
        await self._store.finish_refill()

    @property
    def _topic(self) -> str:
        return USER_EVENTS.full_name(self._config.topic_prefix)

    async def _passed(self) -> dict[int, tuple[int, int]]:
        """Partition of user-events → its first offset that is still there, and the one below which history had stored
        everything when the replay began."""
        positions = await progress.positions(self._database, history.GROUP)
        passed = {partition: offset for (topic, partition), offset in positions.items() if topic == self._topic}
        if self.goes_on:
            passed = {int(part): upto for part, (_, upto) in self._refill.parts.items()}
        starts = await starts_of(self._config, self._topic, sorted(passed))
        return {partition: (starts[partition], offset) for partition, offset in passed.items()}

    async def _note(self, parts: dict[str, tuple[int, int]]) -> None:
        self._refill.parts.update(parts)
        await self._store.note_refill(Refill(self._refill.source, self._refill.run, parts))

    async def _store_all(
        self, chunks: AsyncIterator[tuple[int, Chunk]], part: str, reached: int, upto: int, told: Callable[[int], None]
    ) -> None:
        """Stores one chunk while the next is read. What lies below `reached` is there, and only read for its names; the
        chunk behind it may be there too, and has the token then."""
        storing: asyncio.Task[None] | None = None
        try:
            async for position, chunk in chunks:
                if position <= reached:
                    told(chunk.done)
                    continue
                chunk = await self._without_erased(chunk)
                self.skipped += chunk.skipped
                if storing is not None:
                    await storing
                    told(chunk.done)
                storing = asyncio.create_task(self._store_chunk(chunk, part, position, upto))
            if storing is not None:
                await storing
        except BaseException:
            if storing is not None:
                storing.cancel()
                await asyncio.gather(storing, return_exceptions=True)
            raise

    async def _store_chunk(self, chunk: Chunk, part: str, position: int, upto: int) -> None:
        token = f"replay-{self._refill.run}-{part}-{position}"
        if chunk.rows:
            await self._store.insert_events(chunk.rows, token)
            self.stored += len(chunk.rows)
        if chunk.others:
            await self._store.put_back(chunk.table, chunk.others, token)
        # A chunk that is not written down is counted again: what was counted of this one must not be lost.
        await self._store.flush_catalog()
        await self._note({part: (position, upto)})

    async def _without_erased(self, chunk: Chunk) -> Chunk:
        """Log and exports outlive an erasure: what came before stays forgotten."""
        columns = EventRow._fields if chunk.table == "events" else KEPT[chunk.table].columns
        at = {"events": "received_at", "outcomes": "at", "messages": "updated_at"}.get(chunk.table)
        rows: Sequence[Any] = chunk.rows or chunk.others
        if chunk.table in ("audiences", "snapshots"):
            others = [row for row in chunk.others if _RUN + row[0] not in self._refill.parts]
            return replace(chunk, others=others)
        if at is None or not rows:
            return chunk
        user, time = columns.index("user_id"), columns.index(at)
        async with self._database.begin() as tx:
            erased = await erasure_table.among(tx, sorted({row[user] for row in rows}))
        until = {user_id: microseconds(each.erased_at + SKEW) for user_id, each in erased.items()}
        forgotten = [row for row in rows if row[user] in until and row[time] <= until[row[user]]]
        if not forgotten:
            return chunk
        if chunk.table == "messages":
            for row in forgotten:
                row[columns.index("phone")] = row[columns.index("body")] = ""
            return chunk
        gone = set(map(id, forgotten))
        if chunk.table == "events":
            kept = [row for row in chunk.rows if id(row) not in gone]
            return replace(chunk, rows=kept, skipped=chunk.skipped + len(forgotten))
        return replace(chunk, others=[row for row in chunk.others if id(row) not in gone])


async def _placed(chunks: AsyncIterator[Chunk]) -> AsyncIterator[tuple[int, Chunk]]:
    async for chunk in chunks:
        yield chunk.done, chunk


async def _numbered(chunks: Iterable[Chunk]) -> AsyncIterator[tuple[int, Chunk]]:
    for number, chunk in enumerate(chunks, 1):
        yield number, chunk
        await asyncio.sleep(0)
