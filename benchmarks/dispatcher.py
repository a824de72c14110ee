"""Texts per second from send job in Kafka to the provider's 2xx, ledger on, and the latency of live texts meanwhile.

    python -m benchmarks.dispatcher [--texts 20000] [--provider twilio|sandbox] [--latency-ms 0] [--receipts none]

Needs KAFKA_BOOTSTRAP_SERVERS and DATABASE_URL; makes a database and topics of its own and drops the database. The
dispatcher and the Twilio stand-in (which fsyncs each accepted text) are processes; the jobs are in Kafka before the
dispatcher starts counting. Bounded: it gives up after two minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from tests.standins.running import twilio_process
from tests.support.dispatching import ACCOUNT_SID, AUTH_TOKEN, Stage, stage
from tests.support.parts import create_database, drop_database, topic_prefix

GIVE_UP_SECONDS = 120.0


@asynccontextmanager
async def dispatcher_process(world: Stage, concurrency: int) -> AsyncIterator[asyncio.subprocess.Process]:
    env = os.environ | world.environment() | {"POSTRIDER_DISPATCHER_CONCURRENCY": str(concurrency)}
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "dispatcher", env=env,
                                                   stdout=asyncio.subprocess.DEVNULL)  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def accepted(world: Stage) -> int:
    """Texts that are past the provider's 2xx, by the ledger."""
    (row,) = await world.rows(
        "SELECT count(*) AS n FROM ledger WHERE state IN ('ACCEPTED', 'SENT', 'DELIVERED', 'UNDELIVERED')"
    )
    return int(row.n)


async def run(arguments: argparse.Namespace, kafka: str, owner_url: str) -> float:
    url = await create_database(owner_url)
    folder = tempfile.TemporaryDirectory()
    try:
        async with stage(kafka, url, topic_prefix()) as world:
            for name in ("fsync", "synchronous_commit", "full_page_writes"):
                (row,) = await world.rows(f"SHOW {name}")
                print(f"postgres {name} = {row[0]}")
            log = Path(folder.name) / "texts.jsonl"
            options = ["--latency-ms", str(arguments.latency_ms), "--receipts", arguments.receipts]
            async with twilio_process(log, *options, account_sid=ACCOUNT_SID, auth_token=AUTH_TOKEN) as port:
                if arguments.provider == "twilio":
                    await world.twilio("prv_a", port)
                else:
                    await world.provider("prv_a", receipt="none", latency_ms=arguments.latency_ms)
                await world.group(["prv_a"])
                await world.campaign()
                await world.order(world.jobs(arguments.texts))
                async with dispatcher_process(world, arguments.concurrency) as process:
                    return await measure(world, process, arguments.texts)
    finally:
        folder.cleanup()
        await drop_database(url)


async def measure(world: Stage, process: asyncio.subprocess.Process, texts: int) -> float:
    """From the first accepted text to the last."""
    began = time.monotonic()
    first: float | None = None
    at_first = 0
    while time.monotonic() - began < GIVE_UP_SECONDS and process.returncode is None:
        n, now = await accepted(world), time.monotonic()
        if n and first is None:
            first, at_first = now, n
        if n >= texts and first is not None:
            rate = (texts - at_first) / (now - first)
            print(f"{texts} texts, {rate:,.0f} texts/s (from ready to the last: {now - began:.1f} s)")
            async with httpx.AsyncClient(trust_env=False) as client:
                metrics = (await client.get(f"http://127.0.0.1:{world.port}/metrics")).text
            for line in metrics.splitlines():
                if line.startswith(("postrider_dispatcher_mark_seconds_", "postrider_dispatcher_settle_seconds_",
                                    "process_cpu_seconds")) and "bucket" not in line:  # fmt: skip
                    print("  " + line)
            return rate
        await asyncio.sleep(0.1)
    raise SystemExit(f"gave up: {await world.states()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=20_000)
    parser.add_argument("--provider", choices=("twilio", "sandbox"), default="twilio")
    parser.add_argument("--latency-ms", type=int, default=0)
    parser.add_argument("--receipts", choices=("none", "delivered"), default="none")
    parser.add_argument("--concurrency", type=int, default=64)
    arguments = parser.parse_args()
    kafka, url = os.environ.get("KAFKA_BOOTSTRAP_SERVERS"), os.environ.get("DATABASE_URL")
    if not kafka or not url:
        raise SystemExit("KAFKA_BOOTSTRAP_SERVERS and DATABASE_URL must be set")
    asyncio.run(run(arguments, kafka, url))


if __name__ == "__main__":
    main()
