"""Fills an empty event store again. What history has passed in the log is stored once more, the rest is for the
service, which goes on where it was.

Run it while no segment-engine writes. "And if we die here?" Begin anew with `replace`: nothing but the events is
touched before they are all there.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path

from sqlalchemy import text

from postrider.contracts.topics import DELIVERY_EVENTS, USER_EVENTS
from postrider.kafka.clients import KafkaConfig
from postrider.kafka.reread import starts_of
from postrider.postgres import progress
from postrider.postgres.database import Database
from segment_engine.adapters import erasure_table, suppression_table
from segment_engine.domain.columns import EventRow, microseconds
from segment_engine.event_store.port import EventStore
from segment_engine.loops import history, messages
from segment_engine.loops.erasures import SKEW
from segment_engine.loops.placement import Placement
from segment_engine.replay.sources import Chunk, Seen, from_file, from_log

Told = Callable[[int, int], None]
"""How much of the source is done, and how many events are stored."""

SUPPRESSIONS_AT_ONCE = 20_000

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
    """`stored` and `skipped` count events; skipped are doubles, the unreadable, and those of people who were erased."""

    def __init__(self, store: EventStore, database: Database, config: KafkaConfig, dedup_key: bytes) -> None:
        self._store = store
        self._database = database
        self._config = config
        self._key = dedup_key
        self._token = f"replay-{secrets.token_hex(8)}"
        self.stored = 0
        self.skipped = 0

    async def make_room(self, *, replace: bool) -> None:
        """Raises `NotEmpty`."""
        count = await self._store.count_events()
        if count and not replace:
            raise NotEmpty(f"the event store has {count:,} events; --replace deletes them first")
        if count:
            await self._store.clear_events()

    async def log_size(self) -> int:
        """Records of user-events that history has passed and the log still has."""
        return sum(max(0, upto - start) for start, upto in (await self._passed()).values())

    async def events_from_log(self, placement: Placement, told: Told) -> None:
        done = 0
        for partition, (start, upto) in sorted((await self._passed()).items()):
            chunks = from_log(self._config, self._topic, partition, start, upto, placement, Seen(self._key))
            done += await self._store_all(chunks, f"{partition}", done, told)

    async def events_from_file(self, path: Path, told: Told) -> None:
        await self._store_all(_slowly(from_file(path, Seen(self._key))), "file", 0, told)

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

    @property
    def _topic(self) -> str:
        return USER_EVENTS.full_name(self._config.topic_prefix)

    async def _passed(self) -> dict[int, tuple[int, int]]:
        """Partition of user-events → its first offset that is still there, and the one below which history had stored
        everything."""
        positions = await progress.positions(self._database, history.GROUP)
        passed = {partition: offset for (topic, partition), offset in positions.items() if topic == self._topic}
        starts = await starts_of(self._config, self._topic, sorted(passed))
        return {partition: (starts[partition], offset) for partition, offset in passed.items()}

    async def _store_all(self, chunks: AsyncIterator[Chunk], name: str, before: int, told: Told) -> int:
        """Stores one chunk while the next is read; returns how much of the source there was."""
        storing: asyncio.Task[None] | None = None
        number, done = 0, 0
        try:
            async for chunk in chunks:
                rows = await self._without_erased(chunk.rows)
                self.skipped += chunk.skipped + len(chunk.rows) - len(rows)
                if storing is not None:
                    await storing
                    told(before + done, self.stored)
                number, done = number + 1, chunk.done
                storing = asyncio.create_task(self._store_chunk(rows, f"{self._token}-{name}-{number}"))
            if storing is not None:
                await storing
        except BaseException:
            if storing is not None:
                storing.cancel()
                await asyncio.gather(storing, return_exceptions=True)
            raise
        told(before + done, self.stored)
        return done

    async def _store_chunk(self, rows: list[EventRow], token: str) -> None:
        if rows:
            await self._store.insert_events(rows, token)
            self.stored += len(rows)

    async def _without_erased(self, rows: list[EventRow]) -> list[EventRow]:
        """The log outlives an erasure by its retention: what came before stays forgotten."""
        async with self._database.begin() as tx:
            erased = await erasure_table.among(tx, sorted({row.user_id for row in rows}))
        if not erased:
            return rows
        until = {user_id: microseconds(each.erased_at + SKEW) for user_id, each in erased.items()}
        return [row for row in rows if row.received_at > until.get(row.user_id, row.received_at - 1)]


async def _slowly(chunks: Iterable[Chunk]) -> AsyncIterator[Chunk]:
    for chunk in chunks:
        yield chunk
        await asyncio.sleep(0)
