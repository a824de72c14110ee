"""Who opted out a moment ago, at whichever replica: asked when a call has its connection, which may have taken seconds
since its mark. The mark itself looks at the table; this covers what comes after it.
"""

from __future__ import annotations

import asyncio
import contextlib

from dispatcher.domain.fence import BEGIN_WITHIN_SECONDS, CONFIRMED_WITHIN_SECONDS
from dispatcher.sending import woken_at
from dispatcher.store import suppressions
from dispatcher.store.alone import alone
from postrider.clock import Clock
from postrider.logs import failure, log
from postrider.postgres.database import Database, is_outage

EVERY_SECONDS = CONFIRMED_WITHIN_SECONDS / 4
REMEMBERED_SECONDS = 120.0
"""Longer than any mark waits for its connection."""
WANTED_SECONDS = 10.0
"""After the last question nobody needs news, and Postgres is left in peace."""


class OptOutNews:
    """A component (`run`)."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._phones: set[str] = set()
        self._read_at = float("-inf")
        self._asked_at = float("-inf")
        self._wake = asyncio.Event()

    def allows(self, phone: str, marked_at: float) -> bool:
        """Whether a call to the phone may begin that was marked at this (monotonic) moment: no opt-out is known, by the
        mark if it is fresh, by news that are fresh otherwise."""
        now = self._clock.monotonic()
        if now - self._asked_at > EVERY_SECONDS:
            self._asked_at = now
            self._wake.set()
        if phone in self._phones:
            return False
        return now - marked_at <= BEGIN_WITHIN_SECONDS or now - self._read_at <= CONFIRMED_WITHIN_SECONDS

    async def run(self, stop: asyncio.Event) -> None:
        with woken_at(stop, self._wake):
            while not stop.is_set():
                if self._clock.monotonic() - self._asked_at > WANTED_SECONDS:
                    self._wake.clear()
                    await self._wake.wait()
                    continue
                await self._read()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), EVERY_SECONDS)

    async def _read(self) -> None:
        began = self._clock.monotonic()
        try:
            async with alone(self._database) as tx:
                self._phones = await suppressions.since(tx, REMEMBERED_SECONDS)
        except Exception as error:
            if not is_outage(error):
                raise
            log.warning("opt_out_news_wait", **failure(error))
            return
        self._read_at = began
