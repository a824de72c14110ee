"""Forgets waits of no use any more, and those of the erased that an event made which was being read in the moment of
the erasure; counts what is armed. Behind a barrier: an event for which a row was kept may still be unread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from postrider.postgres.database import Database
from segment_engine import metrics
from segment_engine.adapters import erasure_table, wait_table
from segment_engine.domain.live_campaigns import LIVE_KINDS, LiveCampaigns
from segment_engine.domain.wait_kinds import ReadUntil
from segment_engine.loops.erasures import UNCOMMITTED
from segment_engine.loops.work import unless, work

EVERY_SECONDS = 60.0
AT_ONCE = 5_000
ERASED_AT_ONCE = 500
LOOK_BACK = timedelta(days=1)
"""At the start: longer than an engine is down, as a rule."""


class Passable(Protocol):
    async def read(self) -> None: ...


class WaitSweep:
    """A component (`run`)."""

    def __init__(
        self,
        database: Database,
        barrier: Passable,
        campaigns: Callable[[], LiveCampaigns],
        read_until: ReadUntil,
        partitions: Callable[[], Sequence[int]],
    ) -> None:
        self._database = database
        self._barrier = barrier
        self._campaigns = campaigns
        self._read_until = read_until
        self._partitions = partitions
        self._erased_until: datetime | None = None

    async def run(self, stop: asyncio.Event) -> None:
        await work(stop, asyncio.Event(), "wait_sweep", lambda: self._step(stop), EVERY_SECONDS)

    async def _step(self, stop: asyncio.Event) -> bool:
        partitions = list(self._partitions())
        async with self._database.begin() as tx:
            now = await wait_table.db_now(tx)
        if not await unless(stop, self._barrier.read()):
            return False
        self._read_until.passed(now)
        swept = AT_ONCE
        while swept >= AT_ONCE and not stop.is_set():
            async with self._database.begin() as tx:
                swept = await wait_table.sweep(tx, partitions, now, AT_ONCE)
        await self._forget_the_erased(stop, now)
        async with self._database.begin() as tx:
            armed = await wait_table.count(tx, partitions)
        kinds = dict.fromkeys(LIVE_KINDS, 0)
        for campaign_id, count in armed.items():
            campaign = self._campaigns().waiting.get(campaign_id)
            if campaign is not None:
                kinds[campaign.definition.kind] += count
        for kind, count in kinds.items():
            metrics.WAITS.labels(kind).set(count)
        return False

    async def _forget_the_erased(self, stop: asyncio.Event, now: datetime) -> None:
        """Those erased before the barrier; of later ones an event may still be under way."""
        since = now - LOOK_BACK if self._erased_until is None else self._erased_until
        while not stop.is_set():
            async with self._database.begin() as tx:
                erased = await erasure_table.still_erased(tx, since, ERASED_AT_ONCE)
                if erased:
                    await erasure_table.forget_waits(tx, [user_id for user_id, _ in erased])
            if len(erased) < ERASED_AT_ONCE:
                self._erased_until = now - UNCOMMITTED
                return
            since = erased[-1][1]
