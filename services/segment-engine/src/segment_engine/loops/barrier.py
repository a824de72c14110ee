"""Has everything that was in the logs when I asked reached history, profiles and their copy? Waits until it has."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from postrider.kafka.log_ends import LogEnds
from postrider.kafka.loop import ConsumerLoop
from postrider.postgres import progress
from postrider.postgres.database import Database
from segment_engine import metrics
from segment_engine.adapters import forward_table
from segment_engine.adapters.forward_table import UnderWay
from segment_engine.loops.copier import ProfileCopier

LOOK_SECONDS = 0.01
PROBE_AFTER_LOOKS = 100
"""A log may end in records that no reader gets: after so many looks without success that is found out."""
LOST_AFTER_LOOKS = 100
"""A forwarded record that the live group gave up as a dead letter never arrives: found out after so many looks."""

Ends = Mapping[tuple[str, int], int]


class Confirmed(Protocol):
    async def wait_until_confirmed(self) -> None: ...


@dataclass(slots=True)
class Follower:
    """A consumer group and its loop in this process; `topics` are the full names it reads."""

    group: str
    loop: ConsumerLoop[Any]
    topics: frozenset[str]
    _waiting: int = 0

    def hurry(self) -> None:
        """Somebody waits: its batches shall not linger until as many have said `calm`."""
        self._waiting += 1
        self.loop.hurry.set()

    def calm(self) -> None:
        self._waiting -= 1
        if self._waiting == 0:
            self.loop.hurry.clear()


class Barrier:
    """`live` forwards misplaced records; the `others` read them where they belong."""

    def __init__(
        self,
        database: Database,
        ends: LogEnds,
        live: Follower,
        others: Sequence[Follower],
        copier: ProfileCopier,
        definitions: Confirmed,
    ) -> None:
        self._database = database
        self._ends = ends
        self._live = live
        self._others = others
        self._copier = copier
        self._definitions = definitions

    async def wait(self) -> None:
        """Returns when all that was published before the call counts in an evaluation."""
        with metrics.BARRIER_SECONDS.time(), self._hurry():
            ends = await self._ends.fetch()
            await self._definitions.wait_until_confirmed()
            await passed(self._database, self._ends, self._live, ends)
            await forwards_arrived(self._database, self._ends, self._live)
            # Records that had come to a wrong partition may be behind the first ends.
            ends = await self._ends.fetch()
            await asyncio.gather(*(passed(self._database, self._ends, other, ends) for other in self._others))
            await self._copier.wait_until_copied()

    @contextmanager
    def _hurry(self) -> Iterator[None]:
        """Nobody lingers while somebody waits."""
        followers = (self._live, *self._others)
        for follower in followers:
            follower.hurry()
        try:
            yield
        finally:
            for follower in followers:
                follower.calm()


async def passed(database: Database, log_ends: LogEnds, follower: Follower, ends: Ends) -> None:
    """Returns when the group has committed everything before these ends, in whichever process."""
    wanted = {where: end for where, end in ends.items() if where[0] in follower.topics and end > 0}
    looks = 0
    while True:
        behind = await _behind(database, follower, wanted)
        if not behind:
            return
        looks += 1
        if looks % PROBE_AFTER_LOOKS == 0:
            for (topic, partition), position in behind.items():
                end = wanted[(topic, partition)]
                if await log_ends.is_empty_between(topic, partition, position, end):
                    del wanted[(topic, partition)]
        await asyncio.sleep(LOOK_SECONDS)


async def _behind(database: Database, follower: Follower, wanted: Ends) -> dict[tuple[str, int], int]:
    """Partitions not there yet, with their committed positions; another process may own some."""
    own = follower.loop.positions
    behind = {where: own[where] for where, end in wanted.items() if where in own and own[where] < end}
    elsewhere = [where for where in wanted if where not in own]
    if not behind and elsewhere:
        stored = await progress.positions(database, follower.group)
        behind = {where: stored.get(where, 0) for where in elsewhere if stored.get(where, 0) < wanted[where]}
    return behind


async def forwards_arrived(database: Database, log_ends: LogEnds, live: Follower) -> None:
    """Returns when the live group has read every misplaced record in its user's partition that it had sent on before
    the call, in whichever process."""
    async with database.begin() as tx:
        under_way = await forward_table.under_way(tx)
    if under_way is None:
        return
    looks = 0
    while True:
        async with database.begin() as tx:
            if not await forward_table.any_left(tx, under_way):
                return
        looks += 1
        if looks % LOST_AFTER_LOOKS == 0 and await _forget_the_lost(database, log_ends, live, under_way):
            return
        await asyncio.sleep(LOOK_SECONDS)


async def _forget_the_lost(database: Database, log_ends: LogEnds, live: Follower, under_way: UnderWay) -> bool:
    """Published, and the live group is past them: what has not arrived by then was put aside."""
    async with database.begin() as tx:
        if not await forward_table.is_published(tx, under_way):
            return False
    await passed(database, log_ends, live, await log_ends.fetch())
    async with database.begin() as tx:
        await forward_table.forget(tx, under_way)
    return True
