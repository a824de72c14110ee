"""Notices a consumer that stands still although there is something to read and nothing is known to be broken.

A wedged client or an await that never ends would otherwise look healthy for ever. The process ends, and the next one
goes on from Postgres. An outage is no standstill: whoever knows of one says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from postrider.clock import Clock
from postrider.contracts.topics import Topic
from postrider.kafka.clients import KafkaConfig, is_kafka_outage
from postrider.kafka.log_ends import LogEnds
from postrider.logs import failure, log

LOOK_SECONDS = 20.0
STANDSTILL_SECONDS = 180.0

Partition = tuple[str, int]


class Stuck(Exception):
    """Records wait, the parts answer, and the position has not moved for minutes."""


class Standstill:
    """Pure: since when each partition has stood still behind its log's end."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: dict[Partition, tuple[int, float]] = {}

    def look(self, positions: Mapping[Partition, int], ends: Mapping[Partition, int], now: float) -> Partition | None:
        """A partition that has stood still for longer than allowed."""
        since: dict[Partition, tuple[int, float]] = {}
        for partition, position in positions.items():
            if position < ends.get(partition, 0):
                before = self._since.get(partition)
                since[partition] = before if before is not None and before[0] == position else (position, now)
        self._since = since
        late = [partition for partition, (_, at) in since.items() if now - at > self._seconds]
        return late[0] if late else None

    def forget(self) -> None:
        self._since.clear()


class Watchdog:
    """`positions`: committed next offsets of the partitions owned here."""

    def __init__(
        self,
        config: KafkaConfig,
        group: str,
        topics: Sequence[Topic],
        positions: Callable[[], Mapping[Partition, int]],
        clock: Clock,
    ) -> None:
        self._group = group
        self._ends = LogEnds(config, topics)
        self._positions = positions
        self._clock = clock
        self._standstill = Standstill(STANDSTILL_SECONDS)

    def excused(self) -> None:
        """An outage is known: the time until now does not count."""
        self._standstill.forget()

    async def run(self) -> None:
        """Until cancelled. Raises `Stuck`."""
        try:
            while True:
                await asyncio.sleep(LOOK_SECONDS)
                try:
                    await self._look()
                except Exception as error:
                    if not is_kafka_outage(error):
                        raise
                    self.excused()
                    log.info("watchdog_sees_nothing", group=self._group, **failure(error))
        finally:
            await self._ends.close()

    async def _look(self) -> None:
        ends = await self._ends.fetch()
        positions = dict(self._positions())
        late = self._standstill.look(positions, ends, self._clock.monotonic())
        if late is None:
            return
        # A log may end in records that no reader gets (markers of foreign transactions): nothing waits there.
        if await self._ends.is_empty_between(*late, positions[late], ends[late]):
            self.excused()
            return
        raise Stuck(f"{self._group}: {late[0]}-{late[1]} stands at {positions[late]}, the log has {ends[late]}")
