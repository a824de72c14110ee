"""The probe tells what is away although nobody needs it, and is not held up by what never answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from postrider.health import Health
from postrider.kafka.clients import BrokerPing, KafkaConfig
from postrider.probe import PostgresPing, Probe


@contextlib.asynccontextmanager
async def silent_server() -> AsyncIterator[int]:
    """Takes connections and everything that is said, and never answers."""
    waiting: set[asyncio.Task[object]] = set()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        waiting.add(task)
        with contextlib.suppress(asyncio.CancelledError):
            while await reader.read(1024):
                pass
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting)


async def test_a_postgres_that_hangs_is_no_answer() -> None:
    async with silent_server() as port:
        assert await PostgresPing(f"postgresql://u:p@127.0.0.1:{port}/db", 0.2).ask() == "TimeoutError"


async def test_a_broker_that_hangs_is_no_answer() -> None:
    async with silent_server() as port:
        ping = BrokerPing(KafkaConfig(f"127.0.0.1:{port}"), 0.2)
        assert await ping.ask() == "TimeoutError"
        await ping.close()


async def test_nobody_there_is_no_answer() -> None:
    assert await PostgresPing("postgresql://u:p@127.0.0.1:1/db", 1).ask() == "ConnectionRefusedError"
    assert await BrokerPing(KafkaConfig("127.0.0.1:1"), 1).ask() == "KafkaConnectionError"


async def test_each_part_is_told_by_itself_and_the_end_waits_for_nobody() -> None:
    health, stop, asked = Health(), asyncio.Event(), asyncio.Event()

    async def away() -> str | None:
        return "refused"

    async def well() -> str | None:
        return None

    async def hanging() -> str | None:
        asked.set()
        await asyncio.Event().wait()
        return None

    parts = {
        name: (ask, health.check(f"probed-{name}"))
        for name, ask in {"away": away, "well": well, "hanging": hanging}.items()
    }
    running = asyncio.create_task(Probe(parts).run(stop))
    await asked.wait()
    for _ in range(5):
        await asyncio.sleep(0)
    told = {name: (part["status"], part["reason"]) for name, part in health.report()["parts"].items()}
    stop.set()
    await asyncio.wait_for(running, 5)
    assert told["probed-away"] == ("down", "refused")
    assert told["probed-well"] == ("up", "")
    assert told["probed-hanging"][0] == "starting"
