"""The life of a service process: settings, components, HTTP server, signals, drain.

`main` is all a `__main__` calls. A component that raises ends the process with exit code 1: whoever runs it starts it
again, and the state in Postgres says where to go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias, TypeVar

import uvicorn
import uvloop
from fastapi import FastAPI
from pydantic import ValidationError

from postrider import logs
from postrider.health import Health
from postrider.http_server import BoundedProtocol
from postrider.logs import failure, log
from postrider.postgres.database import service_url
from postrider.postgres.migrate import migrate
from postrider.preflight import owner_problem, problems_of
from postrider.probe import run_probe
from postrider.settings import ServiceSettings, explain, problems_with

S = TypeVar("S", bound=ServiceSettings)

Thresholds: TypeAlias = tuple[int, int, int]
COLLECT_AFTER: Thresholds = (100_000, 50, 100)
"""Batches of thousands of small objects live for a moment: with Python's own thresholds, counting them all the time
cost a third of the segment-engine's event loop."""

STUCK = 70
"""Exit code (EX_SOFTWARE) of a process with a component that not even a cancellation ends."""


class CannotStart(Exception):
    """What a composition root raises when a setting is wrong; the text names it and tells no secret."""


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
    cancel_seconds: float = 12.0
    """For what has not drained: more than a Kafka client takes to give up its start and to end, which can be eleven."""


Build = Callable[[S], AbstractAsyncContextManager[Service]]


def main(
    service: str, package: str, settings_type: type[S], build: Build[S], collect_after: Thresholds = COLLECT_AFTER
) -> None:
    """`python -m <package>` runs the service, `python -m <package> migrate` brings its schema up to date."""
    try:
        settings = settings_type()  # type: ignore[call-arg]  # the environment supplies them
    except ValidationError as error:
        logs.configure(service)
        log.critical("cannot_start", problems=problems_with(error))
        sys.exit(f"{service} {explain(error)}")
    logs.configure(service, settings.log_level)
    if sys.argv[1:] == ["migrate"]:
        sys.exit(asyncio.run(_migrate(service, package, settings)))
    if sys.argv[1:]:
        sys.exit(f"usage: python -m {package} [migrate]")
    gc.set_threshold(*collect_after)
    sys.exit(uvloop.run(_run(service, package, settings, build)))


async def _migrate(name: str, package: str, settings: ServiceSettings) -> int:
    problem = await owner_problem(settings)
    if problem is not None:
        return _refuse(name, [problem])
    await migrate(settings.database_url, name, package)
    return 0


async def _run(name: str, package: str, settings: S, build: Build[S]) -> int:
    problems = await problems_of(settings, name, package)
    if problems:
        return _refuse(name, problems)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    url = settings.service_database_url or service_url(settings.database_url, name)
    try:
        async with build(settings) as service:
            config = settings.kafka_config(f"{name}-probe")
            probe = Component("probe", partial(run_probe, config, url, service.health))
            code = await serve(name, replace(service, components=[*service.components, probe]), stop)
            if code == STUCK:
                os._exit(STUCK)  # like a crash, which every part survives: the loop would wait for its tasks for ever
            return code
    except CannotStart as error:
        return _refuse(name, [str(error)])
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # the process ends with it, and says why
        log.critical("service_failed", **failure(error), exc_info=error)
        return 1


def _refuse(name: str, problems: Sequence[str]) -> int:
    """A line of the log, and words for whoever sits before a terminal: what collects logs gets nothing but JSON."""
    log.critical("cannot_start", problems=list(problems))
    if sys.stderr.isatty():
        sys.stderr.write("\n  ".join([f"{name} cannot start:", *problems]) + "\n")
    return 1


async def serve(name: str, service: Service, stop: asyncio.Event) -> int:
    """Runs until `stop` is set or a component fails; returns the exit code. `STUCK`: something goes on although it was
    cancelled, and only the end of the process ends it."""
    failed = False
    server = _Server(uvicorn.Config(service.app, service.host, service.port, log_config=None, access_log=False,
                                    loop="none", http=BoundedProtocol, timeout_graceful_shutdown=5))  # fmt: skip
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
    stuck: set[asyncio.Task[Any]] = set()
    running = {task for task in tasks if not task.done()}
    if running:
        done, late = await asyncio.wait(running, timeout=service.drain_seconds)
        for task in late:
            log.warning("component_abandoned", component=task.get_name())
            task.cancel()
        if late:
            _, stuck = await asyncio.wait(late, timeout=service.cancel_seconds)
        for task in done:
            error = _error_of(task)
            if error is not None:
                log.error("component_failed", component=task.get_name(), **failure(error), exc_info=error)
    server.should_exit = True
    await asyncio.gather(serving, return_exceptions=True)
    stopping.cancel()
    if stuck:
        log.critical("components_stuck", components=sorted(task.get_name() for task in stuck))
        return STUCK
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
