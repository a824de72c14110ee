"""Works off what is due and sleeps until the next is, at most half a second. A component."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from postrider.health import Check
from postrider.logs import failure, log
from postrider.postgres.database import Database, is_outage
from postrider.postgres.outbox import Outbox
from scheduler.handlers.timers import Turn
from scheduler.store import run_rows

LONGEST_SLEEP_SECONDS = 0.5
SHORTEST_SLEEP_SECONDS = 0.01

Step = Callable[[AsyncConnection], Awaitable[Turn]]


class TimerLoop:
    """`steps` take turns, so that none keeps another waiting. Setting `wake` cuts the sleep short."""

    def __init__(
        self, database: Database, outbox: Outbox, steps: Sequence[Step], wake: asyncio.Event, check: Check
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._steps = steps
        self._woken = wake
        self._check = check

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                seconds = await self._turn(stop)
                self._check.up()
            except Exception as error:
                if not is_outage(error):
                    raise
                self._check.down(type(error).__name__)
                log.warning("timers_wait", **failure(error))
                seconds = LONGEST_SLEEP_SECONDS
            try:
                await asyncio.wait_for(self._woken.wait(), seconds)
            except TimeoutError:
                continue

    async def _turn(self, stop: asyncio.Event) -> float:
        """Everything that is due now; returns how long there is nothing to do."""
        self._woken.clear()
        is_full = True
        while is_full and not stop.is_set():
            is_full = False
            for step in self._steps:
                is_full = await self._step(step) or is_full
        async with self._database.begin() as tx:
            seconds = await run_rows.seconds_to_next(tx)
        if seconds is None:
            return LONGEST_SLEEP_SECONDS
        return min(max(seconds, SHORTEST_SLEEP_SECONDS), LONGEST_SLEEP_SECONDS)

    async def _step(self, step: Step) -> bool:
        """Whether there may be more."""
        async with self._database.begin() as tx:
            turn = await step(tx)
            pending = await self._outbox.add(tx, turn.outgoing) if turn.outgoing else None
        await self._outbox.publish(pending)
        return turn.is_full
