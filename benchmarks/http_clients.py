"""Requests per second of the HTTP clients that could carry provider calls, each with 64 in flight on one core.

    make bench-http

The other side is the Twilio stand-in in a process of its own, which puts every text on disk before it answers. "raw
sockets" is a client that does nothing: the most that this stand-in takes. Only our port does what the port demands; the
others are as they come. One run, one machine, in turns, so the rows compare with each other and with nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlencode

import aiohttp
import httpx
import uvloop
from pyreqwest.client import ClientBuilder

from dispatcher.egress import AddressPolicy
from dispatcher.http_httptools import HttptoolsPort
from dispatcher.http_port import HttpRequest
from tests.standins.running import twilio_process

IN_FLIGHT = 64
ACCOUNT_SID, AUTH_TOKEN = "ACbench", "token"
HEADERS = {
    "Authorization": "Basic " + base64.b64encode(f"{ACCOUNT_SID}:{AUTH_TOKEN}".encode()).decode(),
    "Content-Type": "application/x-www-form-urlencoded",
}
BODY = urlencode(
    {
        "To": "+15005550006",
        "From": "+15005550001",
        "Body": "Hi Ada, 20% off today at the shop around the corner.",
        "StatusCallback": "http://127.0.0.1:1/receipts/prv_1/token?reference=0123456789abcdef",
    }
).encode()

Send = Callable[[], Awaitable[int]]
"""One text; returns the HTTP status."""


async def rate(send: Send, seconds: float) -> tuple[float, float]:
    """(texts per second, seconds of this process's CPU per 1,000 texts) with IN_FLIGHT tasks that send in a row."""
    await send()
    done = 0
    end = time.monotonic() + seconds

    async def sender() -> None:
        nonlocal done
        while time.monotonic() < end:
            status = await send()
            if status != 201:
                raise RuntimeError(f"status {status}")
            done += 1

    began, cpu = time.monotonic(), time.process_time()
    await asyncio.gather(*(sender() for _ in range(IN_FLIGHT)))
    took = time.monotonic() - began
    return done / took, (time.process_time() - cpu) / done * 1000


async def with_httpx(url: str, seconds: float) -> tuple[float, float]:
    limits = httpx.Limits(max_connections=IN_FLIGHT, max_keepalive_connections=IN_FLIGHT)
    async with httpx.AsyncClient(limits=limits, timeout=30, trust_env=False) as client:

        async def send() -> int:
            return (await client.post(url, content=BODY, headers=HEADERS)).status_code

        return await rate(send, seconds)


async def with_aiohttp(url: str, seconds: float) -> tuple[float, float]:
    connector = aiohttp.TCPConnector(limit=IN_FLIGHT)
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as session:

        async def send() -> int:
            async with session.post(url, data=BODY, headers=HEADERS) as response:
                await response.read()
                return response.status

        return await rate(send, seconds)


async def with_our_port(url: str, seconds: float) -> tuple[float, float]:
    port = HttptoolsPort(connection_limit=IN_FLIGHT, policy=AddressPolicy.of(["127.0.0.0/8"]))

    async def send() -> int:
        return (await port.send(HttpRequest("POST", url, HEADERS, BODY, 30.0))).status

    try:
        return await rate(send, seconds)
    finally:
        await port.close()


async def with_pyreqwest(url: str, seconds: float) -> tuple[float, float]:
    builder = ClientBuilder().max_connections(IN_FLIGHT).timeout(timedelta(seconds=30)).no_proxy()
    async with builder.build() as client:

        async def send() -> int:
            request = client.post(url).headers(HEADERS).body_bytes(BODY).build()
            response = await request.send()
            await response.bytes()
            return response.status

        return await rate(send, seconds)


async def with_raw_sockets(url: str, seconds: float) -> tuple[float, float]:
    host, _, path = url.removeprefix("http://").partition("/")
    head = f"POST /{path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(BODY)}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
    request = head.encode() + b"\r\n" + BODY
    free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    for _ in range(IN_FLIGHT):
        free.append(await asyncio.open_connection(host.partition(":")[0], int(host.partition(":")[2])))

    async def send() -> int:
        reader, writer = free.pop()
        writer.write(request)
        reply = await reader.readuntil(b"\r\n\r\n")
        _, _, length = reply.rpartition(b"Content-Length: ")
        await reader.readexactly(int(length))
        free.append((reader, writer))
        return int(reply[9:12])

    try:
        return await rate(send, seconds)
    finally:
        for _, writer in free:
            writer.close()


CLIENTS = {
    "our port (httptools)": with_our_port,
    "aiohttp, bare": with_aiohttp,
    "pyreqwest": with_pyreqwest,
    "httpx": with_httpx,
    "raw sockets": with_raw_sockets,
}


async def main(seconds: float, rounds: int) -> None:
    best = dict.fromkeys(CLIENTS, (0.0, float("inf")))
    for _ in range(rounds):
        for name, client in CLIENTS.items():
            with tempfile.TemporaryDirectory() as folder:
                log = Path(folder) / "texts.jsonl"
                async with twilio_process(log, account_sid=ACCOUNT_SID, auth_token=AUTH_TOKEN) as port:
                    url = f"http://127.0.0.1:{port}/2010-04-01/Accounts/{ACCOUNT_SID}/Messages.json"
                    per_second, cpu = await client(url, seconds)
            best[name] = (max(best[name][0], per_second), min(best[name][1], cpu))
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    print(f"{IN_FLIGHT} in flight, {seconds:g} s each, the best of {rounds} rounds in turns; load average {load}")
    print(f"{'client':<22} {'texts/s':>8} {'CPU ms per 1,000':>17}")
    for name, (per_second, cpu) in best.items():
        print(f"{name:<22} {per_second:>8,.0f} {cpu * 1000:>17,.0f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    uvloop.run(main(arguments.seconds, arguments.rounds))
