"""Erases people: in one transaction what Postgres has, then, as often as it takes, what the event store has.

What is written down in `erasures` outlives a crash. Phones that must not be texted stay suppressed: their hash names
nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

from postrider.postgres.database import Database
from segment_engine import metrics
from segment_engine.adapters import erasure_table
from segment_engine.adapters.erasure_table import Erasure
from segment_engine.event_store.port import EventStore
from segment_engine.loops.work import work

AT_ONCE = 20
LOOK_SECONDS = 0.02
OTHERS_AT_ONCE = 1_000
UNCOMMITTED = timedelta(seconds=30)
"""An erasure is dated before it is committed: one may appear behind a later one by so much."""
SKEW = timedelta(seconds=10)
"""Kafka's clock, which events are dated by, may be so far ahead of Postgres'."""


class Erasures:
    """A component (`run`). `forget` is called for everybody erased, by this process or another."""

    def __init__(self, database: Database, store: EventStore, forget: Callable[[str], None]) -> None:
        self._database = database
        self._store = store
        self._forget = forget
        self._wake = asyncio.Event()
        self._known_until: datetime | None = None

    async def begin(self, user_id: str) -> bool:
        """Erased here when it returns, and the rest is written down. False: there is no such person."""
        async with self._database.begin() as tx:
            found = await erasure_table.begin(tx, user_id)
        if found:
            self._forget(user_id)
            self._wake.set()
        return found

    async def finished(self, user_id: str) -> None:
        """Returns when nothing of an erasure is left to do, whoever does it."""
        while True:
            async with self._database.begin() as tx:
                if not await erasure_table.is_open(tx, user_id):
                    return
            self._wake.set()
            await asyncio.sleep(LOOK_SECONDS)

    async def run(self, stop: asyncio.Event) -> None:
        await work(stop, self._wake, "erasures", self._step)

    async def _step(self) -> bool:
        await self._forget_those_of_others()
        async with self._database.begin() as tx:
            found = await erasure_table.open_ones(tx, AT_ONCE)
        for erasure in found:
            await self._erase(erasure)
        return bool(found)

    async def _erase(self, erasure: Erasure) -> None:
        until = erasure.erased_at + SKEW
        await self._store.erase(erasure.user_id, erasure.version, until=until, texts=erasure.texts)
        async with self._database.begin() as tx:
            await erasure_table.done(tx, erasure)
        metrics.PEOPLE_ERASED.inc()

    async def _forget_those_of_others(self) -> None:
        """Another replica may have erased people whom this one believes to have a profile. Who is forgotten twice is
        only looked up once more."""
        if self._known_until is None:
            async with self._database.begin() as tx:
                self._known_until = await erasure_table.now(tx)
        since, found = self._known_until - UNCOMMITTED, OTHERS_AT_ONCE
        while found == OTHERS_AT_ONCE:
            async with self._database.begin() as tx:
                erased = await erasure_table.erased_since(tx, since, OTHERS_AT_ONCE)
            for user_id, at in erased:
                self._forget(user_id)
                since = at
            found = len(erased)
        self._known_until = max(self._known_until, since)
