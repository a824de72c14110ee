"""What a provider that hangs costs the others: `make bench-hang`.

`python -m benchmarks.hang`. One run of three phases, each of BENCH_HANG_SECONDS (30): all is well, provider A hangs
(what it is sent gets nowhere), A is back. All the time live texts are ordered at a steady rate, as many for a group of
A and then B as for B alone. Told are the times from the order in Kafka to the provider's acceptance, by the stand-ins'
own logs, and the lag of the send-jobs consumers; and what became of A's texts. Ends with 1 when somebody was texted
twice or not at all. The dispatcher is a process, so are the stand-ins, which fsync each text and answer after 50 ms.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec

from benchmarks.stage import durability
from postrider.contracts.send_jobs import SendJob
from postrider.local.parts import print_line as say
from tests.standins.hanging_proxy import HangingProxy
from tests.standins.running import twilio_process
from tests.support.dispatching import ACCOUNT_SID, AUTH_TOKEN, Stage, stage
from tests.support.parts import create_database, drop_database, session_parts, topic_prefix

SECONDS = float(os.environ.get("BENCH_HANG_SECONDS", "30"))
PER_SECOND = int(os.environ.get("BENCH_HANG_TEXTS", "50"))
"""For each of the two campaigns."""
TICK_SECONDS = 0.02
TIMEOUT_SECONDS, WAIT_SECONDS = 10, 20
LATENCY_MS = "50"
PATIENCE_SECONDS = 120.0
PHASES = ("all is well", "A hangs", "A is back")
LAG = re.compile(r'^postrider_lag_records\{group="dispatcher".*\} (\S+)$', re.M)


@dataclass
class Ordered:
    """By phone: when and in which phase; and the lag as it was seen in each phase."""

    at: dict[str, tuple[int, float]] = field(default_factory=dict)
    lag: dict[int, list[float]] = field(default_factory=dict)


@asynccontextmanager
async def dispatcher(world: Stage) -> AsyncIterator[None]:
    """As a process, with what it is by default."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "dispatcher", env=os.environ | world.environment(), stdout=asyncio.subprocess.DEVNULL
    )
    try:
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def order(world: Stage, campaigns: Sequence[str], phase: int, ordered: dict[str, Ordered]) -> None:
    """At a steady rate for the length of the phase."""
    began, sent = time.monotonic(), 0
    while (spent := time.monotonic() - began) < SECONDS:
        await asyncio.sleep(TICK_SECONDS)
        due = int(spent * PER_SECOND)
        jobs: list[SendJob] = []
        for campaign in campaigns:
            made = world.jobs(due - sent, campaign)
            ordered[campaign].at.update({job.phone: (phase, time.time()) for job in made})
            jobs += made
        sent = due
        if jobs:
            await world.order_live(jobs)


async def watch(world: Stage, phase: int, lag: dict[int, list[float]]) -> None:
    """Until cancelled."""
    async with httpx.AsyncClient(trust_env=False) as client:
        while True:
            page = (await client.get(f"http://127.0.0.1:{world.port}/metrics")).text
            lag.setdefault(phase, []).append(sum(map(float, LAG.findall(page))))
            await asyncio.sleep(0.5)


def accepted(log: Path) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in log.read_bytes().splitlines()] if log.exists() else []


def quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)] if values else 0.0


def told(name: str, delays: Sequence[float]) -> str:
    p50, p99 = quantile(delays, 0.5), quantile(delays, 0.99)
    return f"{name}: {len(delays)} texts, p50 {p50 * 1e3:.0f} ms, p99 {p99 * 1e3:.0f} ms, worst {max(delays):.2f} s"


async def settle(world: Stage, n: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        states = await world.states()
        if sum(states.values()) == n and set(states) <= {"ACCEPTED", "SENT", "DELIVERED"}:
            return
        await asyncio.sleep(0.5)
    raise TimeoutError(f"not all are settled: {await world.states()}")


async def measure(world: Stage, wire: HangingProxy, logs: dict[str, Path]) -> int:
    ordered = {"cmp_a": Ordered(), "cmp_b": Ordered()}
    lag: dict[int, list[float]] = {}
    await order_warm_up(world)
    hung_at = 0.0
    for phase, _ in enumerate(PHASES):
        if phase == 1:
            hung_at = time.time()
            wire.hang()
        elif phase == 2:
            wire.go_on()
        watching = asyncio.create_task(watch(world, phase, lag))
        try:
            await order(world, list(ordered), phase, ordered)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
    await settle(world, sum(len(each.at) for each in ordered.values()) + WARM_UP)
    texts = {name: accepted(log) for name, log in logs.items()}
    return report(ordered, lag, texts, hung_at) + await tell_of_a(world, hung_at)


WARM_UP = 200


async def order_warm_up(world: Stage) -> None:
    await world.order_live(world.jobs(WARM_UP // 2, "cmp_a") + world.jobs(WARM_UP // 2, "cmp_b"))
    await settle(world, WARM_UP)


def report(
    ordered: dict[str, Ordered], lag: dict[int, list[float]], texts: dict[str, list[dict[str, Any]]], hung_at: float
) -> int:
    arrived: dict[str, tuple[str, float]] = {}
    for name, each in texts.items():
        arrived.update({text["to"]: (name, float(text["at"])) for text in each})
    for phase, name in enumerate(PHASES):
        say(f"{name}, {SECONDS:.0f} s")
        for campaign, what in (("cmp_b", "B's own"), ("cmp_a", "of the group of A, then B")):
            of_phase = {phone: at for phone, (n, at) in ordered[campaign].at.items() if n == phase}
            say("  " + told(what, [arrived[phone][1] - at for phone, at in of_phase.items()]))
            if campaign == "cmp_a":
                by = Counter(arrived[phone][0] for phone in of_phase)
                say("    carried by " + ", ".join(f"{name} {n}" for name, n in sorted(by.items())))
        seen = lag[phase]
        say(f"  lag of send-jobs, records: mean {sum(seen) / len(seen):.1f}, at most {max(seen):.0f}")
    first = min((at for name, at in arrived.values() if name == "B" and at > hung_at), default=hung_at)
    moved = [
        arrived[phone][1]
        for phone, (phase, _) in ordered["cmp_a"].at.items()
        if phase == 1 and arrived[phone][0] == "B"
    ]
    if moved:
        say(f"first text of the group with B {min(moved) - hung_at:.1f} s after A began to hang"
            f" (B's own went on after {first - hung_at:.2f} s)")  # fmt: skip
    times = Counter(text["to"] for each in texts.values() for text in each)
    twice = sum(1 for n in times.values() if n > 1)
    wanted = {phone for each in ordered.values() for phone in each.at}
    say(f"texted twice: {twice}; not at all: {len(wanted - times.keys())}")
    return int(twice > 0 or not wanted <= times.keys())


async def tell_of_a(world: Stage, hung_at: float) -> int:
    """Of those that A may have had when it hung."""
    rows = await world.rows(
        "SELECT f.message_id, l.provider_id, EXTRACT(EPOCH FROM s.started_at) AS again FROM attempts f"
        " JOIN ledger l USING (message_id) LEFT JOIN attempts s ON s.message_id = f.message_id AND s.attempt = 2"
        " WHERE f.attempt = 1 AND f.provider_id = 'prv_a' AND f.outcome <> 'accepted'"
    )
    found = await world.rows("SELECT 1 FROM attempts WHERE outcome = 'in_doubt'")
    again = [float(row.again) - hung_at for row in rows if row.again is not None]
    say(
        f"in doubt at A: {len(rows)}, proven not sent and sent again {len(again)} (with B"
        f" {sum(row.provider_id == 'prv_b' for row in rows)}), left in doubt {len(found)}"
        + (f"; {min(again):.0f} to {max(again):.0f} s after the hang began, of which A hung {SECONDS:.0f} s and"
           f" the provider's wait is {WAIT_SECONDS} s" if again else "")
    )  # fmt: skip
    return int(bool(found))


async def run(kafka: str, owner_url: str) -> int:
    url = await create_database(owner_url)
    try:
        with tempfile.TemporaryDirectory() as folder:
            logs = {name: Path(folder) / name for name in "AB"}
            account = {"account_sid": ACCOUNT_SID, "auth_token": AUTH_TOKEN}
            async with (
                stage(kafka, url, topic_prefix()) as world,
                twilio_process(logs["A"], "--latency-ms", LATENCY_MS, **account) as a,
                twilio_process(logs["B"], "--latency-ms", LATENCY_MS, **account) as b,
            ):
                wire = HangingProxy(a)
                async with wire.serving() as through_wire:
                    terms = {"timeout_seconds": TIMEOUT_SECONDS, "in_doubt_wait_seconds": WAIT_SECONDS}
                    await world.twilio("prv_a", through_wire, **terms)
                    await world.twilio("prv_b", b, **terms)
                    await world.group(["prv_a", "prv_b"])
                    await world.campaign("cmp_a", kind="live_action")
                    await world.campaign("cmp_b", kind="live_action", provider_id="prv_b")
                    say(f"Postgres: {await durability(url)}; {os.cpu_count()} cores for everything;"
                        f" {PER_SECOND} texts/s for each campaign")  # fmt: skip
                    async with dispatcher(world):
                        return await measure(world, wire, logs)
    finally:
        await drop_database(url)


async def main() -> int:
    async with session_parts() as parts:
        return await run(await parts.start_kafka(), await parts.start_postgres())


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
