"""The end of a service's life: components that drain, that have to be cancelled, that cannot be ended at all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fastapi import FastAPI

from postrider.clock import SystemClock
from postrider.health import Health
from postrider.local.ports import free_port
from postrider.runtime import STUCK, Component, Service, serve


async def ended(run: Callable[[asyncio.Event], Awaitable[None]], cancel_seconds: float = 30.0) -> int:
    """The exit code of a service of one component that is told to stop."""
    stop = asyncio.Event()
    service = Service(
        FastAPI(), Health(SystemClock()), "127.0.0.1", free_port(), [Component("only", run)],
        drain_seconds=0.05, cancel_seconds=cancel_seconds,
    )  # fmt: skip
    serving = asyncio.create_task(serve("test", service, stop))
    stop.set()
    return await asyncio.wait_for(serving, 30)


async def test_what_drains_ends_well() -> None:
    async def drains(stop: asyncio.Event) -> None:
        await stop.wait()

    assert await ended(drains) == 0


async def test_what_does_not_drain_is_cancelled() -> None:
    async def waits(stop: asyncio.Event) -> None:
        await asyncio.Event().wait()

    assert await ended(waits) == 0


async def test_what_not_even_a_cancellation_ends_does_not_keep_the_process() -> None:
    released = asyncio.Event()

    async def clings(stop: asyncio.Event) -> None:
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue

    assert await ended(clings, 0.05) == STUCK
    released.set()


async def test_a_component_that_fails_ends_the_service() -> None:
    async def fails(stop: asyncio.Event) -> None:
        raise RuntimeError

    service = Service(
        FastAPI(), Health(SystemClock()), "127.0.0.1", free_port(), [Component("only", fails)], drain_seconds=0.05
    )
    assert await asyncio.wait_for(serve("test", service, asyncio.Event()), 30) == 1
