"""What stand-ins of vendors share: texts on disk before the reply, faults drawn from a seed, callbacks that come twice
and in any order. Knows no vendor.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import os
import random
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
from aiohttp import web

from tests.standins.durable_log import DurableLog, ToldLog

WEBHOOK_SENDERS = 8
WEBHOOK_TRIES = 3
SLOW_SECONDS = 2.0
OUR_NUMBER = "+12025550100"
SHARES = (
    "reject_429", "drop_after_accept", "error_500_after_accept", "cut_reply", "garbage_reply", "hang", "slow",
)  # fmt: skip

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Faults:
    """Shares are of all sends, 0 to 1, drawn in this order; all but the first befall calls that were accepted.
    `lose_receipts`: of the texts, how many are never reported."""

    reject_429: float = 0.0
    drop_after_accept: float = 0.0
    error_500_after_accept: float = 0.0
    cut_reply: float = 0.0
    garbage_reply: float = 0.0
    hang: float = 0.0
    slow: float = 0.0
    lose_receipts: float = 0.0
    latency_ms: float = 0.0
    receipts: str = "none"
    receipt_chaos: bool = False
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Callback:
    """`about`: our references of the texts that it reports."""

    url: str
    body: bytes
    content_type: str
    about: tuple[str | None, ...] = ()


@dataclass
class Vendor:
    """`keep` writes texts, `answer` replies to the call that brought them, as the faults will have it.

    `callback_url`, `inbound_url`: where the account has its callbacks sent, unless a text or an order says it.
    """

    faults: Faults
    log: DurableLog
    callback_url: str | None = None
    inbound_url: str | None = None
    stats: dict[str, int] = field(default_factory=dict)
    callbacks: asyncio.Queue[Callback] = field(default_factory=asyncio.Queue)

    def __post_init__(self) -> None:
        self.random = random.Random(self.faults.seed)
        self._told = ToldLog(self.log.path)
        self._work: set[asyncio.Task[None]] = set()
        self.stats["remembered"] = len(self.log.earlier)

    def count(self, what: str, n: int = 1) -> None:
        self.stats[what] = self.stats.get(what, 0) + n

    def happens(self, share: float) -> bool:
        return share > 0 and self.random.random() < share

    def reports(self) -> bool:
        """Whether a text that was taken just now is ever reported."""
        return self.faults.receipts != "none" and not self.happens(self.faults.lose_receipts)

    async def keep(self, lines: Sequence[dict[str, Any]]) -> None:
        """Returns when they are on disk."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for line in lines[:-1]:
            self.log.append(line, lambda: None)
        self.log.append(lines[-1], lambda: done.set_result(None))
        await asyncio.shield(done)
        self.count("accepted", len(lines))

    async def answer(self, request: web.Request, reply: web.Response) -> web.StreamResponse:
        """To a call whose texts are kept."""
        faults = self.faults
        if faults.latency_ms:
            await asyncio.sleep(faults.latency_ms / 1000)
        fate = next((name for name in SHARES[1:] if self.happens(getattr(faults, name))), "replied")
        self.count(fate)
        if fate == "hang":
            await asyncio.Event().wait()
        if fate == "slow":
            await asyncio.sleep(SLOW_SECONDS)
        if fate == "garbage_reply":
            return web.Response(status=reply.status, text="<html>\x00{it works!", content_type="text/html")
        if fate == "error_500_after_accept":
            return web.Response(status=500, text="Internal Server Error")
        if fate == "cut_reply":
            assert isinstance(reply.body, bytes)
            cut = web.StreamResponse(status=reply.status, headers={"Content-Length": str(len(reply.body))})
            await cut.prepare(request)
            await cut.write(reply.body[: len(reply.body) // 2])
        if fate in ("drop_after_accept", "cut_reply"):
            assert request.transport is not None
            request.transport.abort()
        return reply

    def disorder(self, receipts: Sequence[T]) -> list[T]:
        """As they come with chaos: some twice, some too early."""
        receipts = list(receipts)
        if receipts and self.faults.receipt_chaos:
            if self.happens(0.3):
                receipts.append(self.random.choice(receipts))
            if self.happens(0.3):
                self.random.shuffle(receipts)
        return receipts

    def start(self, work: Awaitable[None]) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def post(self, session: aiohttp.ClientSession, callback: Callback) -> int:
        headers = {"Content-Type": callback.content_type}
        timeout = aiohttp.ClientTimeout(total=10)
        async with session.post(callback.url, data=callback.body, headers=headers, timeout=timeout) as response:
            await response.read()
            return response.status

    async def send_callbacks(self) -> None:
        """One of the senders: until cancelled, each callback a few times, as vendors do."""
        async with aiohttp.ClientSession() as session:
            while True:
                callback = await self.callbacks.get()
                for attempt in range(WEBHOOK_TRIES):
                    await asyncio.sleep(0.5 * attempt)
                    try:
                        if await self.post(session, callback) < 300:
                            self.count("callbacks_taken")
                            self._told.append(callback.about)
                            break
                    except (aiohttp.ClientError, TimeoutError):
                        self.count("callbacks_failed")

    async def inbound(self, request: web.Request) -> web.Response:
        """{"from", "body"}, and if need be "to" and "url": somebody's text, pushed to us."""
        order = {"to": OUR_NUMBER, **await request.json()}
        callback = self.text_from_person(order)
        if callback is None:
            return web.json_response({"error": "nobody of whom this is known, or nowhere to push it to"}, status=404)
        try:
            async with aiohttp.ClientSession() as session:
                status = await self.post(session, callback)
        except (aiohttp.ClientError, TimeoutError) as error:
            return web.json_response({"error": type(error).__name__}, status=502)
        return web.json_response({"status": status})

    def text_from_person(self, order: dict[str, str]) -> Callback | None:
        """In the vendor's shape, where it has one."""
        return None

    async def misbehave(self, request: web.Request) -> web.Response:
        """What is said counts from now on, as long as nothing else is said."""
        self.faults = dataclasses.replace(self.faults, **await request.json())
        return web.Response(status=204)

    async def set_up(self, request: web.Request) -> web.Response:
        """What one enters in the vendor's panel."""
        said = await request.json()
        self.callback_url = said.get("callback_url", self.callback_url)
        self.inbound_url = said.get("inbound_url", self.inbound_url)
        return web.Response(status=204)

    async def statistics(self, request: web.Request) -> web.Response:
        return web.json_response({"pid": os.getpid(), **self.stats})


def fault_arguments(parser: argparse.ArgumentParser, receipts: Sequence[str]) -> None:
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", type=Path, required=True)
    for name in SHARES:
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=0.0, metavar="SHARE")
    parser.add_argument("--lose-receipts", type=float, default=0.0, metavar="SHARE", help="of the texts")
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--receipts", choices=(*receipts, "none"), default="none")
    parser.add_argument("--receipt-chaos", action="store_true", help="receipts doubled and out of order")
    parser.add_argument("--seed", type=int)


def faults_of(given: argparse.Namespace) -> Faults:
    return Faults(**{each.name: getattr(given, each.name) for each in dataclasses.fields(Faults)})


async def serve(vendor: Vendor, routes: Callable[[web.UrlDispatcher], object], port: int) -> None:
    """Until SIGTERM or SIGINT; prints its port first."""
    app = web.Application(client_max_size=8 << 20)
    app.router.add_get("/_stats", vendor.statistics)
    app.router.add_post("/_faults", vendor.misbehave)
    app.router.add_post("/_account", vendor.set_up)
    app.router.add_post("/_inbound", vendor.inbound)
    routes(app.router)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    senders = [asyncio.create_task(vendor.send_callbacks()) for _ in range(WEBHOOK_SENDERS)]
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    print(runner.addresses[0][1], flush=True)
    await stop.wait()
    for sender in senders:
        sender.cancel()
    await asyncio.gather(*senders, return_exceptions=True)
    await runner.cleanup()
    vendor.log.close()


def run(vendor: Vendor, routes: Callable[[web.UrlDispatcher], object], port: int) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(vendor, routes, port))
