"""Publishes definitions: the current snapshot, under a lock, held until the broker has it (delivery.md, "Definitions").

Why so: a late relay of version 1 after version 2 would let the old one survive compaction and lose a stop. So the
outbox holds ids alone, one publisher of all replicas reads what is current, and whatever ended in doubt is published
once more later. A change waits here for its acknowledgement; its answer is 200 only then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api import metrics
from campaign_api.domain.resource import SETTINGS_ID, Resource
from campaign_api.domain.snapshots import snapshot_of
from campaign_api.store import definition_outbox as waiting_rows
from campaign_api.store import resources
from postrider.contracts.definitions import SETTINGS_KEY, AccountSettings, Definition, name_of
from postrider.contracts.envelope import Outgoing
from postrider.health import Check
from postrider.logs import failure, log
from postrider.postgres.database import Database, is_outage
from postrider.postgres.outbox import Outbox, PublishFailed, RecordPublisher

BATCH = 200
SWEEP_SECONDS = 1.0
LONGEST_ID = 64
MOST_OVERWRITTEN = 10_000
HIGHEST_VERSION = 2**31 - 1
"""A version that nobody could ever follow is left alone."""
COMPARE_SECONDS = 15.0
DOUBT_SECONDS = 60.0
"""Longer than any produce request can be under way: after that an old snapshot cannot turn up any more."""


class NotPublished(Exception):
    """The change is saved and will be published; the broker has not acknowledged it in time."""


class DefinitionPublisher:
    """One per process, and a component (`run`). `outbox` only makes envelopes here; rows are this module's own.

    `postgres` hears whether the database answers: this component asks it every second.
    """

    def __init__(
        self,
        database: Database,
        publisher: RecordPublisher,
        outbox: Outbox,
        postgres: Check,
        wait_seconds: float = 10.0,
    ) -> None:
        self._database = database
        self._publisher = publisher
        self._outbox = outbox
        self._postgres = postgres
        self._wait_seconds = wait_seconds
        self._wake = asyncio.Event()
        self._waiters: list[asyncio.Future[None]] = []
        self._compare_at = 0.0
        self._overwritten: set[str] = set()
        self._seen: dict[str, int] = {}

    def overwritten(self, key: str) -> None:
        """Somebody else's record, which nobody can read, is now the last of this key: compaction would leave nothing
        of the definition. It is published again."""
        if len(key) <= LONGEST_ID and "\x00" not in key and len(self._overwritten) < MOST_OVERWRITTEN:
            self._overwritten.add(SETTINGS_ID if key == SETTINGS_KEY else key)

    def seen(self, definition: Definition) -> None:
        """It is in the log. Only this service writes there, and only what is committed: a version above ours is a
        stranger's, or from before a restore of Postgres. Readers would ignore every change until ours is higher."""
        name = SETTINGS_ID if isinstance(definition, AccountSettings) else name_of(definition)
        if definition.version < HIGHEST_VERSION:
            self._seen[name] = max(definition.version, self._seen.get(name, 0))

    def wake(self) -> None:
        """Something was saved: publish it soon."""
        self._wake.set()

    async def published(self, ids: Sequence[str]) -> None:
        """Returns when the definitions as committed before this call are acknowledged. Raises `NotPublished`."""
        if not ids:
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._wake.set()
        try:
            async with asyncio.timeout(self._wait_seconds):
                await waiter
                return
        except (TimeoutError, PublishFailed) as error:
            raise NotPublished("Kafka does not acknowledge") from error

    async def run(self, stop: asyncio.Event) -> None:
        """Publishes what is waiting until told to stop; then once more, so that nobody's answer is left open."""
        while not stop.is_set():
            await self._sleep(stop)
            await self._turn()
        await self._turn()
        _settle(self._waiters, PublishFailed("the service is stopping"))

    async def _turn(self) -> None:
        self._wake.clear()
        waiters, self._waiters = self._waiters, []
        try:
            await self._ask_for_differing()
            while await self.publish_due():
                continue
        except Exception as error:
            if not (isinstance(error, PublishFailed) or is_outage(error)):
                raise
            if not isinstance(error, PublishFailed):
                self._postgres.down(type(error).__name__)
            log.warning("definitions_wait", **failure(error))
            _settle(waiters, PublishFailed("the publisher could not do its work"))
            return
        self._postgres.up()
        _settle(waiters, None)

    async def publish_due(self) -> int:
        """Publishes up to a batch of what is waiting, under the lock; returns how many."""
        ids: list[str] = []
        try:
            async with self._database.begin() as tx:
                await waiting_rows.lock_publisher(tx)
                ids = await waiting_rows.due(tx, BATCH)
                if not ids:
                    return 0
                current = await resources.get_many(tx, ids)
                await self._publisher.publish([self._record(resource) for resource in current])
                gone = dict.fromkeys(ids, 0)
                await waiting_rows.mark_published(tx, gone | {resource.id: resource.version for resource in current})
        except Exception:
            if ids:
                await self._doubt(ids)
            raise
        metrics.DEFINITIONS_PUBLISHED.inc(len(ids))
        return len(ids)

    def _record(self, resource: Resource) -> Outgoing:
        snapshot = snapshot_of(resource)
        return self._outbox.outgoing(snapshot.topic, snapshot.key, snapshot.type, snapshot.definition)

    async def _doubt(self, ids: list[str]) -> None:
        """The records may reach the log or not, now or later: they are published again, and once more after that."""
        try:
            async with self._database.begin() as tx:
                await waiting_rows.doubt(tx, ids, DOUBT_SECONDS)
        except Exception as error:
            if not is_outage(error):
                raise
            log.warning("definitions_doubt_not_noted", **failure(error))

    async def _ask_for_differing(self) -> None:
        """The sweep: what is published must be what is saved, whatever happened in between."""
        now = asyncio.get_running_loop().time()
        overwritten, seen = sorted(self._overwritten), dict(self._seen)
        async with self._database.begin() as tx:
            if overwritten and (count := await waiting_rows.request_known(tx, overwritten)):
                log.error("definitions_overwritten", count=count)
            if seen and (count := await waiting_rows.outrun(tx, seen)):
                log.error("definitions_outrun", count=count)
            if now >= self._compare_at:
                found = await waiting_rows.request_differing(tx)
                self._compare_at = now + COMPARE_SECONDS
                if found:
                    log.warning("definitions_differed", count=found)
            metrics.DEFINITIONS_WAITING.set(await waiting_rows.waiting(tx))
        self._overwritten.difference_update(overwritten)
        for name, version in seen.items():
            if self._seen.get(name) == version:
                del self._seen[name]

    async def _sleep(self, stop: asyncio.Event) -> None:
        wake = asyncio.create_task(self._wake.wait())
        ending = asyncio.create_task(stop.wait())
        await asyncio.wait({wake, ending}, timeout=SWEEP_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        wake.cancel()
        ending.cancel()


async def request(tx: AsyncConnection, ids: Sequence[str]) -> None:
    """In the transaction of a change: these definitions have to be published."""
    await waiting_rows.request(tx, ids)


def _settle(waiters: Sequence[asyncio.Future[None]], error: Exception | None) -> None:
    for waiter in waiters:
        if waiter.done():
            continue
        if error is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(error)
