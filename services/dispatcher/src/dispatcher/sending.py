"""The order in which the sending half of the process stops: nobody claims any more, then the calls end, then what they
brought is settled, then it is told. What is left when time runs out is recovered by leases.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

Run = Callable[[asyncio.Event], Awaitable[None]]


async def run_stages(stages: Sequence[Sequence[Run]], stop: asyncio.Event, ready: Awaitable[None]) -> None:
    """A component. All stages start once `ready`, the last one first: whom others ask has begun when they do. On `stop`
    each ends before the next is told to.

    Whatever fails ends all of it with its error.
    """
    waiting = asyncio.ensure_future(ready)
    stopping = asyncio.create_task(stop.wait())
    events = [asyncio.Event() for _ in stages]
    running: list[list[asyncio.Task[None]]] = []
    try:
        await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            return
        waiting.result()
        for stage, event in reversed(list(zip(stages, events, strict=True))):
            running.insert(0, [asyncio.ensure_future(run(event)) for run in stage])
        everything = {stopping, *(task for tasks in running for task in tasks)}
        done, _ = await asyncio.wait(everything, return_when=asyncio.FIRST_COMPLETED)
        if stopping not in done:
            for task in done:
                task.result()
            raise RuntimeError("a part of sending ended by itself")
        for event, tasks in zip(events, running, strict=True):
            event.set()
            await asyncio.gather(*tasks)
    finally:
        left = [task for task in (waiting, stopping, *(t for tasks in running for t in tasks)) if not task.done()]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


@contextmanager
def woken_at(stop: asyncio.Event, wake: asyncio.Event) -> Iterator[None]:
    """`stop` sets `wake`, too, so that who sleeps until it is woken ends at once: the stages of a drain add up."""
    stopping = asyncio.create_task(stop.wait())
    stopping.add_done_callback(lambda _: wake.set())
    try:
        yield
    finally:
        stopping.cancel()
