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
from segment_engine.loops.copier import ProfileCopier
from segment_engine.loops.placement import Placement

LOOK_SECONDS = 0.01
PROBE_AFTER_LOOKS = 100
"""A log may end in records that no reader gets: after so many looks without success that is found out."""

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
    def __init__(
        self,
        database: Database,
        ends: LogEnds,
        followers: Sequence[Follower],
        placement: Placement,
        copier: ProfileCopier,
        definitions: Confirmed,
    ) -> None:
        self._database = database
        self._ends = ends
        self._followers = followers
        self._placement = placement
        self._copier = copier
        self._definitions = definitions

    async def wait(self) -> None:
        """Returns when all that was published before the call counts in an evaluation."""
        with metrics.BARRIER_SECONDS.time(), self._hurry():
            mark = self._placement.mark()
            ends = await self._ends.fetch()
            await self._definitions.wait_until_confirmed()
            await self._all_passed(ends)
            if await self._placement.settled(mark):
                # Records that had come to a wrong partition may be behind the first ends.
                await self._all_passed(await self._ends.fetch())
            await self._copier.wait_until_copied()

    @contextmanager
    def _hurry(self) -> Iterator[None]:
        """Nobody lingers while somebody waits."""
        for follower in self._followers:
            follower.hurry()
        try:
            yield
        finally:
            for follower in self._followers:
                follower.calm()

    async def _all_passed(self, ends: Ends) -> None:
        await asyncio.gather(*(passed(self._database, self._ends, follower, ends) for follower in self._followers))


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
