"""The outbox: what a transaction wants published, one packed row per batch, not one per message.

After the commit the same process publishes at once; rows are deleted with the next batch's transaction, so that no
commit is spent on them. A relay publishes what a crash left behind. Readers deduplicate by the envelope's id.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import cramjam
import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from postrider import metrics
from postrider.clock import Clock, SystemClock
from postrider.contracts import codec
from postrider.contracts.envelope import Outgoing, headers_for, headers_of
from postrider.contracts.topics import Topic
from postrider.logs import failure, log
from postrider.postgres.database import Database, is_outage

TABLE = """
CREATE TABLE IF NOT EXISTS outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    records bytea NOT NULL
)
"""
LEFT_BEHIND_SECONDS = 5.0
SAY_SECONDS = 2.0
RETRY_SECONDS = (0.1, 0.3, 1.0, 2.0, 5.0)

_ADD = text("INSERT INTO outbox (records) VALUES (:records) RETURNING id")
_DELETE = text("DELETE FROM outbox WHERE id = ANY(CAST(:ids AS bigint[]))")
_SAY = text("SELECT 1")
_LEFT = text("""
SELECT id, records FROM outbox
WHERE created_at <= clock_timestamp() - make_interval(secs => :age) ORDER BY id LIMIT 20 FOR UPDATE SKIP LOCKED
""")

_packer = msgspec.msgpack.Encoder()
_unpacker = msgspec.msgpack.Decoder(list[Outgoing])
_LARGE_BYTES = 4_096
_QUICK = 1
"""Level of zstd: a batch of jobs is a tenth then, in the table and in Postgres's own log."""
_ZSTD = b"\x28\xb5\x2f\xfd"
"""How a frame begins, and no packed list does."""


class PublishFailed(Exception):
    """The broker did not acknowledge. The records may or may not be in the log: publish them again."""


class RecordPublisher(Protocol):
    async def start(self) -> None:
        """Connects. Raises `PublishFailed` when no broker answers."""
        ...

    async def publish(self, records: Sequence[Outgoing]) -> None:
        """Returns when every record is acknowledged. Raises `PublishFailed`."""
        ...


@dataclass(frozen=True, slots=True)
class Pending:
    """A committed row that is not published yet."""

    id: int
    records: Sequence[Outgoing]


def pack(records: Sequence[Outgoing]) -> bytes:
    packed = _packer.encode(records)
    return packed if len(packed) < _LARGE_BYTES else bytes(cramjam.zstd.compress(packed, level=_QUICK))


def unpack(packed: bytes) -> list[Outgoing]:
    if packed.startswith(_ZSTD):
        packed = bytes(cramjam.zstd.decompress(packed))
    return _unpacker.decode(packed)


class Outbox:
    """One per process. `source` names the service in the envelopes."""

    def __init__(
        self, database: Database, publisher: RecordPublisher, source: str, topic_prefix: str, clock: Clock | None = None
    ) -> None:
        self._database = database
        self._publisher = publisher
        self._source = source
        self._prefix = topic_prefix
        self._clock = clock or SystemClock()
        self._published: list[int] = []

    def outgoing(
        self, topic: Topic, key: str, type: str, data: msgspec.Struct, id: str | None = None, stage: int = 0
    ) -> Outgoing:
        """An internal record in its envelope. Give `id` when a repeat must be recognisable beyond this row."""
        return Outgoing(
            topic.full_name(self._prefix),
            key.encode(),
            codec.encode(data),
            headers_of(id or uuid.uuid4().hex, type, self._source, self._clock.now()),
            stage,
        )

    def outgoing_all(
        self, topic: Topic, type: str, each: Iterable[tuple[str, msgspec.Struct, str]], stage: int = 0
    ) -> list[Outgoing]:
        """Many of one type at once; `each`: key, data, id."""
        name, headers = topic.full_name(self._prefix), headers_for(type, self._source, self._clock.now())
        encode = codec.encode
        return [Outgoing(name, key.encode(), encode(data), headers(id), stage) for key, data, id in each]

    async def add(self, tx: AsyncConnection, records: Sequence[Outgoing]) -> Pending | None:
        """Stores the records in the caller's transaction. Publish what it returns after the commit, and only then.

        Raises RecordTooLarge: a row that can never be published must not be committed.
        """
        done, self._published = self._published, []
        if done:
            try:
                await tx.execute(_DELETE, {"ids": done})
            except BaseException:
                self._published += done
                raise
        if not records:
            return None
        for record in records:
            record.check_size()
        result = await tx.execute(_ADD, {"records": pack(records)})
        return Pending(result.scalar_one(), records)

    async def publish(self, pending: Pending | None) -> None:
        """Publishes until the broker has everything; cancel it to give up (the relay or the next start goes on)."""
        if pending is None:
            return
        attempt = 0
        while True:
            try:
                await self._publisher.publish(pending.records)
                break
            except PublishFailed as error:
                metrics.PUBLISH_FAILURES.inc()
                log.warning("publish_failed", **failure(error))
                await asyncio.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
                attempt += 1
        self._published.append(pending.id)

    async def recover(self, age_seconds: float = 0.0) -> int:
        """Publishes rows at least so old; returns how many. With 0, at start: what a predecessor left."""
        count = 0
        while True:
            async with self._database.begin() as tx:
                rows = (await tx.execute(_LEFT, {"age": age_seconds})).all()
                if not rows:
                    return count
                for row in rows:
                    await self._publish_within(tx, unpack(row.records))
                await tx.execute(_DELETE, {"ids": [row.id for row in rows]})
            count += len(rows)
            metrics.OUTBOX_RELAYED.inc(len(rows))

    async def _publish_within(self, tx: AsyncConnection, records: Sequence[Outgoing]) -> None:
        """A transaction that says nothing for long counts as one that stands still (`silent_sessions`)."""
        publishing = asyncio.create_task(self._publisher.publish(records))
        try:
            while not (await asyncio.wait([publishing], timeout=SAY_SECONDS))[0]:
                await tx.execute(_SAY)
            await publishing
        finally:
            publishing.cancel()

    async def run_relay(self, stop: asyncio.Event) -> None:
        """A component: publishes what a predecessor left, at once; then deletes what is published and publishes what
        is left behind, until told to stop."""
        age_seconds = 0.0
        while not stop.is_set():
            try:
                await self._publisher.start()
                await self.flush()
                await self.recover(age_seconds)
                age_seconds = LEFT_BEHIND_SECONDS
            except PublishFailed as error:
                log.warning("relay_failed", **failure(error))
            except Exception as error:
                if not is_outage(error):
                    raise
                log.warning("relay_waits", **failure(error))
            try:
                await asyncio.wait_for(stop.wait(), 1.0)
            except TimeoutError:
                continue

    async def flush(self) -> None:
        """Deletes the rows that are published: the last act of a process, so that the next one finds nothing to do."""
        done, self._published = self._published, []
        if not done:
            return
        try:
            async with self._database.begin() as tx:
                await tx.execute(_DELETE, {"ids": done})
        except BaseException:
            self._published += done
            raise
