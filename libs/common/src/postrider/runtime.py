"""The life of a service process: settings, components, HTTP server, signals, drain.

`main` is all a `__main__` calls. A component that raises ends the process with exit code 1: whoever runs it starts it
again, and the state in Postgres says where to go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import uvicorn
import uvloop
from fastapi import FastAPI
from pydantic import ValidationError

from postrider import logs
from postrider.health import Health
from postrider.logs import failure, log
from postrider.postgres.migrate import migrate
from postrider.preflight import problems_of
from postrider.settings import ServiceSettings, explain

S = TypeVar("S", bound=ServiceSettings)

COLLECT_AFTER = (100_000, 50, 100)
"""Batches of thousands of small objects live for a moment: with Python's own thresholds, counting them all the time
cost a third of the segment-engine's event loop."""


@dataclass(frozen=True)
class Component:
    """A task for the life of the process. `run(stop)` returns, drained, soon after `stop` is set."""

    name: str
    run: Callable[[asyncio.Event], Awaitable[None]]


@dataclass
class Service:
    """What a composition root builds. Components stop together; the HTTP server stops after them."""

    app: FastAPI
    health: Health
    host: str
    port: int
    components: Sequence[Component]
    drain_seconds: float = 20.0
    on_stopped: Sequence[Callable[[], Awaitable[None]]] = field(default_factory=list)
    """Last acts, once every component has drained: what they leave undone, the next start does."""


Build = Callable[[S], AbstractAsyncContextManager[Service]]


def main(service: str, package: str, settings_type: type[S], build: Build[S]) -> None:
    """`python -m <package>` runs the service, `python -m <package> migrate` brings its schema up to date."""
    try:
        settings = settings_type()  # type: ignore[call-arg]  # the environment supplies them
    except ValidationError as error:
        sys.exit(f"{service} {explain(error)}")
    logs.configure(service, settings.log_level)
    if sys.argv[1:] == ["migrate"]:
        asyncio.run(migrate(settings.database_url, service, package))
        return
    if sys.argv[1:]:
        sys.exit(f"usage: python -m {package} [migrate]")
    gc.set_threshold(*COLLECT_AFTER)
    sys.exit(uvloop.run(_run(service, package, settings, build)))


async def _run(name: str, package: str, settings: S, build: Build[S]) -> int:
    problems = await problems_of(settings, name, package)
    if problems:
        log.critical("cannot_start", problems=problems)
        sys.stderr.write("\n  ".join([f"{name} cannot start:", *problems]) + "\n")
        return 1
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        async with build(settings) as service:
            return await serve(name, service, stop)
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # the process ends with it, and says why
        log.critical("service_failed", **failure(error), exc_info=error)
        return 1


async def serve(name: str, service: Service, stop: asyncio.Event) -> int:
    """Runs until `stop` is set or a component fails; returns the exit code."""
    failed = False
    server = _Server(uvicorn.Config(service.app, service.host, service.port, log_config=None, access_log=False,
                                    loop="none", timeout_graceful_shutdown=5))  # fmt: skip
    serving = asyncio.create_task(server.serve())
    tasks = {asyncio.create_task(_named(component.run(stop)), name=component.name) for component in service.components}
    stopping = asyncio.create_task(stop.wait())
    log.info("service_started", port=service.port)
    pending: set[asyncio.Task[Any]] = {*tasks, stopping, serving}
    while not stop.is_set():
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done - {stopping}:
            error = _error_of(task)
            if error is not None:
                log.critical("component_failed", component=task.get_name(), **failure(error), exc_info=error)
                failed = True
                stop.set()
            elif task is serving:
                failed = not stop.is_set()
                stop.set()
    service.health.stopping = True
    log.info("service_stopping")
    running = {task for task in tasks if not task.done()}
    if running:
        done, late = await asyncio.wait(running, timeout=service.drain_seconds)
        for task in late:
            log.warning("component_abandoned", component=task.get_name())
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        for task in done:
            error = _error_of(task)
            if error is not None:
                log.error("component_failed", component=task.get_name(), **failure(error), exc_info=error)
    server.should_exit = True
    await asyncio.gather(serving, return_exceptions=True)
    stopping.cancel()
    for close in service.on_stopped:
        try:
            await asyncio.wait_for(close(), 5)
        except Exception as error:  # noqa: BLE001  # what is left undone here is done by the next start
            log.warning("last_act_failed", **failure(error))
    log.info("service_stopped")
    return 1 if failed else 0


def _error_of(task: asyncio.Task[Any]) -> BaseException | None:
    """Nobody cancels a component before its time: one that ends so has failed."""
    return asyncio.CancelledError() if task.cancelled() else task.exception()


async def _named(run: Awaitable[None]) -> None:
    await run


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: signals are ours."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        yield


@asynccontextmanager
async def closing(*closers: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Closes in reverse order, whatever happened before."""
    async with contextlib.AsyncExitStack() as stack:
        for close in closers:
            stack.push_async_callback(close)
        yield
