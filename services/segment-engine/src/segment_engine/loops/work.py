"""How a worker lives: it works while there is work, sleeps until woken, and waits through outages."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from postrider.kafka.clients import is_kafka_outage
from postrider.logs import failure, log
from postrider.postgres.database import is_outage

BACK_OFF_SECONDS = (0.1, 0.3, 1.0, 2.0)
IDLE_SECONDS = 5.0
"""A net under the wake-ups: what another process left is found after so long."""


async def work(
    stop: asyncio.Event, wake: asyncio.Event, name: str, step: Callable[[], Awaitable[bool]], idle: float = IDLE_SECONDS
) -> None:
    """Calls `step` until `stop`; False from it means nothing is left to do. Raises what is no outage."""
    failures = 0
    while not stop.is_set():
        wake.clear()
        try:
            busy = await step()
            failures = 0
        except Exception as error:
            if not (is_outage(error) or is_kafka_outage(error)):
                raise
            log.warning("worker_waits", worker=name, **failure(error))
            busy = False
            await first_of(stop, BACK_OFF_SECONDS[min(failures, len(BACK_OFF_SECONDS) - 1)])
            failures += 1
            wake.set()
        if not busy:
            await either(stop, wake, idle)


async def unless(stop: asyncio.Event, waiting: Awaitable[None]) -> bool:
    """Waits; False when `stop` came first, and the waiting was given up. Raises what the waiting raises."""
    task, stopping = asyncio.ensure_future(waiting), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([task, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            return False
        await task
        return True
    finally:
        task.cancel()
        stopping.cancel()


async def first_of(event: asyncio.Event, seconds: float) -> None:
    """Until the event or the time."""
    with contextlib.suppress(TimeoutError):  # not `wait_for`: Python 3.11's forgets a cancellation that comes with it
        async with asyncio.timeout(seconds):
            await event.wait()


async def either(stop: asyncio.Event, wake: asyncio.Event, seconds: float) -> None:
    """Until one of the events or the time."""
    if stop.is_set() or wake.is_set():
        return
    waiting = [asyncio.ensure_future(stop.wait()), asyncio.ensure_future(wake.wait())]
    try:
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
