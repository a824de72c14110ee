"""`make bench-kannel`: texts a second from job to the provider's 2xx: one dispatcher, two, Kannel and a naive sender
in turns in one run, all to the same nginx; then one dispatcher and a provider that takes 50 ms.

Ours: jobs are published to Kafka, and the last text counts when the ledger says accepted. Kannel: requests to sendsms,
until the sink has answered the last. The naive sender: an INSERT, an awaited httpx call, an UPDATE for each text.
BENCH_TEXTS (20000) a round, BENCH_ROUNDS (3). Without Debian's packages it says so and measures the rest.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import httpx

from benchmarks import kannel as peer
from benchmarks import nginx_sink
from benchmarks.debian import Unavailable, Unpacked, unpacked
from benchmarks.processes import spent, usage_of
from benchmarks.sending_stage import Cost, Running, running_parts, sending, told
from benchmarks.stage import durability
from postrider.local.parts import print_line as say
from tests.standins.running import twilio_process
from tests.support.dispatching import ACCOUNT_SID, AUTH_TOKEN, Stage

TEXTS = int(os.environ.get("BENCH_TEXTS", "20000"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
NAIVE_TEXTS = 400
WARM_UP = 2_000
SLOW_MS = 50
OURS = {"one dispatcher, ledger on": 1, "two dispatchers, ledger on": 2}
"""Name and replicas. Kannel's threads use both cores; a dispatcher's work in Python uses one."""

Define = Callable[[Stage], Awaitable[None]]


def define_generic(port: int) -> Define:
    async def define(world: Stage) -> None:
        await world.provider(
            "prv_a", "generic",
            url=f"http://127.0.0.1:{port}/send?to=$$To&from=123&text=$$Body&ref=$$MessageID", method="GET",
            to_format="digits", reply={"message_id": "OK: *"}, receipts="none",
        )  # fmt: skip
        await world.group(["prv_a"])
        await world.campaign()

    return define


def define_twilio(port: int) -> Define:
    async def define(world: Stage) -> None:
        await world.twilio("prv_a", port)
        await world.group(["prv_a"])
        await world.campaign()

    return define


async def naive(database_url: str, port: int) -> float:
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("CREATE TABLE IF NOT EXISTS public.naive (id int PRIMARY KEY, state text, given text)")
        await connection.execute("TRUNCATE public.naive")
        async with httpx.AsyncClient(trust_env=False) as client:
            began = time.monotonic()
            for number in range(NAIVE_TEXTS):
                await connection.execute("INSERT INTO public.naive VALUES ($1, 'sending')", number)
                query = {"to": f"1555{1000000 + number}", "from": "123", "text": f"Hi u-{number}", "ref": str(number)}
                answer = await client.get(f"http://127.0.0.1:{port}/send", params=query)
                given = answer.raise_for_status().text
                await connection.execute(
                    "UPDATE public.naive SET state = 'sent', given = $2 WHERE id = $1", number, given
                )
            return NAIVE_TEXTS / (time.monotonic() - began)
    finally:
        await connection.close()


async def ours_once(parts: Running, sink: nginx_sink.Sink, replicas: int) -> Cost:
    async with sending(parts, define_generic(sink.port), {"nginx": sink.pid}, replicas) as ours:
        await ours.send(WARM_UP, sink.texts)
        return await ours.send(TEXTS, sink.texts)


async def kannel_once(packages: Unpacked, manner: peer.Manner, sink: nginx_sink.Sink) -> Cost:
    async with peer.kannel(packages, manner, sink, pending=64) as kannel:
        await kannel.send(sink, WARM_UP)
        pids = {**kannel.pids, "load": os.getpid(), "nginx": sink.pid}
        before = usage_of(pids)
        per_second = await kannel.send(sink, TEXTS)
        return Cost(TEXTS, per_second, spent(before, usage_of(pids)), 0)


async def instant(parts: Running) -> None:
    """Rounds in turns, everybody to the same nginx."""
    nginx = unpacked("nginx", nginx_sink.PACKAGES)
    kannel: Unpacked | None = None
    try:
        packages = unpacked("kannel", peer.PACKAGES)
        say(f"peer: {peer.version(packages)}")
        kannel = packages
    except Unavailable as error:
        say(f"without Kannel: {error}")
    say(f"Postgres: {await durability(parts.addresses.database_url)}")
    results: dict[str, list[Cost]] = defaultdict(list)
    async with nginx_sink.sink(nginx) as sink:
        for _ in range(ROUNDS):
            for name, replicas in OURS.items():
                results[name].append(await ours_once(parts, sink, replicas))
            if kannel is not None:
                for manner in peer.MANNERS:
                    results[manner.name].append(await kannel_once(kannel, manner, sink))
            rate = await naive(parts.addresses.database_url, sink.port)
            results["naive sender"].append(Cost(NAIVE_TEXTS, rate, {}, 0))
    report(results)


async def slow(parts: Running) -> None:
    """A provider that answers in 50 ms, and puts each text on disk before."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=".local") as folder:
        options = ["--latency-ms", str(SLOW_MS)]
        log = Path(folder) / "texts"
        async with twilio_process(log, *options, account_sid=ACCOUNT_SID, auth_token=AUTH_TOKEN) as port:
            async with httpx.AsyncClient(trust_env=False) as http:
                stats = (await http.get(f"http://127.0.0.1:{port}/_stats")).json()

                async def taken() -> int:
                    return int((await http.get(f"http://127.0.0.1:{port}/_stats")).json()["accepted"])

                async with sending(parts, define_twilio(port), {"stand-in": int(stats["pid"])}) as ours:
                    await ours.send(WARM_UP, taken)
                    costs = [await ours.send(TEXTS, taken) for _ in range(ROUNDS)]
    best = max(costs, key=lambda each: each.per_second)
    say(f"\na provider that answers in {SLOW_MS} ms: {tell(costs)}")
    say(f"  CPU s per 1,000 texts: {told(best.cpu_per_thousand)}; WAL {best.wal_per_text:,.0f} bytes a text")


def tell(costs: list[Cost]) -> str:
    rates = ", ".join(f"{each.per_second:,.0f}" for each in costs)
    return f"best {max(each.per_second for each in costs):,.0f} texts/s of {rates}"


def report(results: dict[str, list[Cost]]) -> None:
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    say(f"{TEXTS:,} texts a round, {ROUNDS} rounds in turns; {os.cpu_count()} cores, load average {load}")
    best = {name: max(costs, key=lambda each: each.per_second) for name, costs in results.items()}
    for name, costs in results.items():
        ratios = [f"{best[ours].per_second / best[name].per_second:.2f}" for ours in OURS]
        say(f"{name}: {tell(costs)}" + ("" if name in OURS else f"; ours is {' and '.join(ratios)} times that"))
        if best[name].cpu:
            wal = f"; WAL {best[name].wal_per_text:,.0f} bytes a text" if best[name].wal_bytes else ""
            say(f"  CPU s per 1,000 texts: {told(best[name].cpu_per_thousand)}{wal}")


async def main() -> int:
    async with running_parts() as parts:
        try:
            await instant(parts)
        except Unavailable as error:
            say(f"no nginx, so nothing is measured side by side: {error}")
        await slow(parts)
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
