"""The order in which the sending half starts and stops, and that nobody sleeps through a stop."""

import asyncio

from dispatcher.sending import run_stages, woken_at
from tests.support.eventually import eventually


async def test_whom_others_ask_starts_first_and_stops_last() -> None:
    seen: list[str] = []
    ready, stop = asyncio.Event(), asyncio.Event()

    async def part(name: str, stop: asyncio.Event) -> None:
        seen.append(f"{name} starts")
        await stop.wait()
        await asyncio.sleep(0)
        seen.append(f"{name} ends")

    async def read() -> None:
        await ready.wait()

    stages = [
        [lambda stop: part("claimer", stop), lambda stop: part("resolver", stop)],
        [lambda stop: part("fleet", stop)],
    ]
    running = asyncio.create_task(run_stages(stages, stop, read()))
    await asyncio.sleep(0)
    assert seen == []
    ready.set()
    await eventually(lambda: len(seen) == 3, every=0)
    stop.set()
    await running
    assert seen == ["fleet starts", "claimer starts", "resolver starts", "claimer ends", "resolver ends", "fleet ends"]


async def test_a_stop_wakes_who_sleeps() -> None:
    wake, stop = asyncio.Event(), asyncio.Event()
    with woken_at(stop, wake):
        sleeping = asyncio.create_task(wake.wait())
        await asyncio.sleep(0)
        assert not sleeping.done()
        stop.set()
        await sleeping


async def test_who_ends_before_the_stop_leaves_nothing_that_waits_for_it() -> None:
    before = asyncio.all_tasks()
    with woken_at(asyncio.Event(), asyncio.Event()):
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
