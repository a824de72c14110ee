"""Renders templates that may loop, in worker processes that can be killed, without ever blocking the event loop.

Limits of one rendering, each of which ends the worker and no more: processor time (kept by the kernel in the worker,
so that a stopped or busy machine does not fail a healthy template), memory (RLIMIT_AS), and, behind them, wall-clock
time, after which the parent kills the worker with SIGKILL and tries once more in a fresh one. Workers start lazily.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

from postrider.sms.message import (
    MAX_VALUE,
    NO_TEXT,
    Message,
    Outcome,
    Text,
    needs_fallback,
    outcome_of,
    render_message,
    with_values,
)
from postrider.sms.render_worker import LENGTH, OUT_OF_MEMORY
from postrider.sms.template import (
    MAX_TEXT,
    Aborted,
    LimitExceeded,
    Missing,
    Rendered,
    RenderFailed,
    Result,
    Template,
    TooLong,
    Values,
    compile_body,
    render,
)

R = TypeVar("R")
Process = asyncio.subprocess.Process

_RESULTS: Final[dict[str, Callable[[Any], Result]]] = {
    kind.__name__: kind for kind in (Rendered, Aborted, TooLong, LimitExceeded, RenderFailed)
}
_CPU_SIGNALS: Final = frozenset({-signal.SIGPROF, -signal.SIGXCPU})
_POISON_AFTER: Final = 3
_MOST_POISON: Final = 100
_CHUNK: Final = 100
_START_SECONDS: Final = 60.0
_SLICE_SECONDS: Final = 0.005
"""Of rendering in the process, before others on the event loop have their turn."""
_KEPT_ENVIRONMENT: Final = ("PATH", "PYTHONPATH", "LANG", "LC_ALL")


@dataclass(frozen=True, slots=True)
class RenderLimits:
    """Per rendering: processor seconds, bytes of address space of the worker, and the wall-clock deadline behind."""

    cpu_seconds: float = 0.25
    memory_bytes: int = 512 * 1024 * 1024
    deadline_seconds: float = 10.0


class WorkerBroken(RuntimeError):
    """Workers end before they render anything: the installation is broken, not a template."""


class RenderPool:
    """Up to `workers` worker processes. Close it with `aclose`, or use it as an async context manager."""

    def __init__(self, *, workers: int = 1, limits: RenderLimits | None = None) -> None:
        self._limits = limits or RenderLimits()
        self._idle: list[Process] = []
        self._closed = False
        self._poison: dict[str, None] = {}
        """Templates of which the last call was given up and no rendering ended well, the newest last."""
        self._slots = asyncio.Semaphore(workers)

    async def __aenter__(self) -> RenderPool:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def render_many(
        self, source: str, kind_is_live: bool, values: Sequence[Values], *, max_length: int = MAX_TEXT
    ) -> list[Result]:
        """One result per element of `values`, in order. Raises TemplateError like compile_body.

        After three renderings that hit a limit the rest of the call is `LimitExceeded("poison_template")` unrendered;
        after one where the last call was given up without one that ended well, so that others wait for it no more than
        they must.
        """
        compile_body(source, kind_is_live=kind_is_live)
        async with self._slots:
            results: list[Result] = []
            poisoned, again = _POISON_AFTER - 1 if source in self._poison else 0, False
            while len(results) < len(values) and poisoned < _POISON_AFTER:
                before = len(results)
                work = {"source": source, "kind_is_live": kind_is_live, "max_length": max_length}
                end = await self._run(work, values[before : before + _CHUNK], results)
                if end is None:
                    continue
                # These two may be the machine's fault, not the template's: they get one more try.
                again = end in ("time", "crash") and not (again and len(results) == before)
                if not again:
                    results.append(LimitExceeded(end))
                    poisoned += 1
            given_up = poisoned == _POISON_AFTER
            self._remember(source, is_poison=given_up and all(isinstance(result, LimitExceeded) for result in results))
            return results + [LimitExceeded("poison_template")] * (len(values) - len(results))

    def _remember(self, source: str, *, is_poison: bool) -> None:
        self._poison.pop(source, None)
        if is_poison:
            self._poison[source] = None
            if len(self._poison) > _MOST_POISON:
                del self._poison[next(iter(self._poison))]

    async def render_messages(self, message: Message, values: Sequence[Values]) -> list[Outcome]:
        """render_message for many, whatever the templates: simple ones in the process, others in a worker."""
        if message.is_simple and not message.values:
            return await _in_slices(partial(render_message, message), values)
        outcomes: list[Outcome] = [NO_TEXT] * len(values)
        if message.has_body:
            outcomes = await self._texts(message, values)
        if not message.values:
            return outcomes
        columns = [await self._results(template, values, MAX_VALUE) for _, template in message.values]
        return [
            with_values(message, outcome, [column[index] for column in columns])
            if isinstance(outcome, Text)
            else outcome
            for index, outcome in enumerate(outcomes)
        ]

    async def _texts(self, message: Message, values: Sequence[Values]) -> list[Outcome]:
        results = await self._results(message.body, values, message.source.max_length)
        outcomes = [outcome_of(message, result) for result in results]
        lacking = [index for index, result in enumerate(results) if needs_fallback(message, result)]
        if lacking and message.fallback is not None:
            again = [values[index] for index in lacking]
            for index, result in zip(
                lacking, await self._results(message.fallback, again, message.source.max_length), strict=True
            ):
                outcomes[index] = outcome_of(message, result, is_fallback=True)
        return outcomes

    async def aclose(self) -> None:
        """End the idle workers; a call under way ends its own."""
        self._closed = True
        while self._idle:
            await _kill(self._idle.pop())

    async def _results(self, template: Template, values: Sequence[Values], max_length: int) -> list[Result]:
        if template.is_simple:
            return await _in_slices(partial(render, template, max_length=max_length), values)
        return await self.render_many(template.source, template.kind_is_live, values, max_length=max_length)

    async def _run(self, work: dict[str, object], values: Sequence[Values], results: list[Result]) -> str | None:
        """Append results until all are there (None) or the worker ended: why, `cpu`, `memory`, `crash` or `time`."""
        request = b"\n".join([json.dumps(work).encode(), *map(_line, values)])
        worker = self._idle.pop() if self._idle else await self._start()
        sending = asyncio.create_task(_send(worker, request))
        finished = False
        try:
            for _ in values:
                async with asyncio.timeout(self._limits.deadline_seconds):
                    results.append(_decode(await _receive(worker)))
            finished = True
        except TimeoutError:
            return "time"
        except (asyncio.IncompleteReadError, ConnectionError):
            return _why(await worker.wait())
        finally:
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await sending
            if finished and not self._closed:
                self._idle.append(worker)
            else:
                await _kill(worker)
        return None

    async def _start(self) -> Process:
        worker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "postrider.sms.render_worker"),
            *(str(self._limits.cpu_seconds), str(self._limits.memory_bytes)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ},
        )
        try:
            async with asyncio.timeout(_START_SECONDS):
                await _receive(worker)
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError) as error:
            await _kill(worker)
            raise WorkerBroken("the render worker did not start") from error
        except asyncio.CancelledError:
            await _kill(worker)
            raise
        return worker


async def _in_slices(work: Callable[[Values], R], values: Sequence[Values]) -> list[R]:
    """`work` of each value. Simple templates take from microseconds to tens of milliseconds."""
    results: list[R] = []
    started = time.monotonic()
    for one in values:
        results.append(work(one))
        if time.monotonic() - started >= _SLICE_SECONDS:
            await asyncio.sleep(0)
            started = time.monotonic()
    return results


async def _send(worker: Process, request: bytes) -> None:
    assert worker.stdin is not None
    worker.stdin.write(LENGTH.pack(len(request)) + request)
    await worker.stdin.drain()


async def _receive(worker: Process) -> list[Any]:
    assert worker.stdout is not None
    (length,) = LENGTH.unpack(await worker.stdout.readexactly(LENGTH.size))
    frame: list[Any] = json.loads(await worker.stdout.readexactly(length))
    return frame


async def _kill(worker: Process) -> None:
    if worker.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            worker.kill()
    if worker.stdin is not None:
        worker.stdin.close()
    await worker.wait()


def _why(return_code: int) -> str:
    if return_code in _CPU_SIGNALS:
        return "cpu"
    return "memory" if return_code == OUT_OF_MEMORY else "crash"


def _line(values: Values) -> bytes:
    """One set of values as JSON, which has no line breaks; null for what is nested too deeply to be written."""
    try:
        return json.dumps(
            [dict(values.profile), dict(values.event), dict(values.campaign)], default=_unspeakable
        ).encode()
    except RecursionError:
        return b"null"


def _unspeakable(_: object) -> None:
    """What JSON cannot say counts as missing, as it does in the process."""


def _decode(frame: list[Any]) -> Result:
    kind, content = frame
    if kind == "Missing":
        return Missing(tuple(content))
    return _RESULTS[kind](content)
