"""Asks Kafka and Postgres every two seconds whether they answer, for /readyz and the alarm.

Whoever works with a part notices an outage when it next needs it, or when a call that hangs gives up, after a minute
perhaps; an idle service would not notice at all. Decides nothing: everybody waits for a part by himself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping

import asyncpg
from sqlalchemy import make_url

from postrider.clock import Clock, SystemClock
from postrider.health import Check, Health
from postrider.kafka.clients import BrokerPing, KafkaConfig
from postrider.logs import log

EVERY_SECONDS = 2.0
PATIENCE_SECONDS = 5.0
VOICE = "probe"

Ask = Callable[[], Awaitable[str | None]]
"""Why a part does not answer; None when it does. Bounded in time."""


class PostgresPing:
    """One connection of its own: those of the pool may all be taken, or hang."""

    def __init__(self, url: str, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._url = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        self._patience = patience_seconds
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    async def ask(self) -> str | None:
        try:
            async with asyncio.timeout(self._patience):
                if self._connection is None:
                    self._connection = await asyncpg.connect(self._url)
                await self._connection.execute("SELECT 1")
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            self.close()
            return type(error).__name__
        return None

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


class Probe:
    """A component (`run`). `parts`: what to ask, and the check that hears the answer."""

    def __init__(self, parts: Mapping[str, tuple[Ask, Check]], clock: Clock | None = None) -> None:
        self._parts = parts
        self._clock = clock or SystemClock()

    async def run(self, stop: asyncio.Event) -> None:
        watching = [asyncio.create_task(self._watch(name, *part, stop)) for name, part in self._parts.items()]
        try:
            await asyncio.gather(*watching)
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)

    async def _watch(self, name: str, ask: Ask, check: Check, stop: asyncio.Event) -> None:
        down_at: float | None = None
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                asking = asyncio.ensure_future(ask())
                try:
                    await asyncio.wait({asking, stopping}, return_when=asyncio.FIRST_COMPLETED)
                    if not asking.done():
                        return
                    reason = asking.result()
                finally:
                    asking.cancel()
                    await asyncio.gather(asking, return_exceptions=True)
                if reason is not None:
                    check.down(reason, VOICE)
                    if down_at is None:
                        down_at = self._clock.monotonic()
                        log.warning("part_down", part=name, reason=reason)
                else:
                    check.up(VOICE)
                    if down_at is not None:
                        log.info("part_up", part=name, seconds=round(self._clock.monotonic() - down_at, 1))
                        down_at = None
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), EVERY_SECONDS)
        finally:
            stopping.cancel()


async def run_probe(config: KafkaConfig, database_url: str, health: Health, stop: asyncio.Event) -> None:
    """A component: the two parts that every service needs."""
    broker, postgres = BrokerPing(config, PATIENCE_SECONDS), PostgresPing(database_url)
    parts: dict[str, tuple[Ask, Check]] = {
        "kafka": (broker.ask, health.check("kafka")),
        "postgres": (postgres.ask, health.check("postgres")),
    }
    try:
        await Probe(parts).run(stop)
    finally:
        postgres.close()
        await broker.close()
