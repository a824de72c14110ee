"""The main path's figures, from one run on one machine: bulk texts, a naive sender beside it, events, live latency.

Everything runs at once on loopback: Kafka, Postgres, the four services, the load and the provider stand-in.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import msgspec

from benchmarks.stage import ACCOUNT, TOKEN, Bench, phone, prepare, send_jobs, stage
from postrider.contracts.envelope import Outgoing
from postrider.contracts.topics import USER_EVENTS
from postrider.local.parts import print_line as say
from postrider.local.services import SEGMENT_ENGINE

BULK_TEXTS = int(os.environ.get("BENCH_TEXTS", "20000"))
NAIVE_TEXTS = 400
EVENTS = int(os.environ.get("BENCH_EVENTS", "100000"))
LIVE_PER_SECOND = int(os.environ.get("BENCH_LIVE_PER_SECOND", "500"))
LIVE_SECONDS = int(os.environ.get("BENCH_LIVE_SECONDS", "15"))
TICK_SECONDS = 0.005


async def bulk_texts(bench: Bench, campaign: str) -> float:
    """Send jobs in Kafka → the provider's 2xx, ledger on: texts a second, from the first publish to the last 2xx."""
    records = list(send_jobs(campaign, BULK_TEXTS))
    before = await bench.stand_in("accepted")
    began = time.monotonic()
    for start in range(0, len(records), 5000):
        await bench.publisher.publish(records[start : start + 5000])

    async def all_accepted() -> bool:
        return await bench.stand_in("accepted") - before >= BULK_TEXTS

    await bench.until(all_accepted)
    return BULK_TEXTS / (time.monotonic() - began)


async def naive_texts(bench: Bench) -> float:
    """What many write first: per message one INSERT, one awaited httpx call, one UPDATE."""
    connection = await asyncpg.connect(bench.database_url)
    try:
        await connection.execute("CREATE TABLE IF NOT EXISTS public.naive (id int PRIMARY KEY, state text, sid text)")
        url = f"http://127.0.0.1:{bench.stand_in_port}/2010-04-01/Accounts/{ACCOUNT}/Messages.json"
        async with httpx.AsyncClient(auth=(ACCOUNT, TOKEN), trust_env=False) as client:
            began = time.monotonic()
            for number in range(NAIVE_TEXTS):
                await connection.execute("INSERT INTO public.naive VALUES ($1, 'sending')", number)
                form = {"To": phone(600, number), "From": "+12025550100", "Body": f"Hi Name{number}, it is on its way."}
                answer = await client.post(url, data=form)
                await connection.execute(
                    "UPDATE public.naive SET state = 'accepted', sid = $2 WHERE id = $1", number, answer.json()["sid"]
                )
            return NAIVE_TEXTS / (time.monotonic() - began)
    finally:
        await connection.execute("DROP TABLE IF EXISTS public.naive")
        await connection.close()


def _track(user: str, message: str, event: str, properties: dict[str, Any]) -> Outgoing:
    value = {"type": "track", "messageId": message, "userId": user, "event": event, "properties": properties}
    return Outgoing(USER_EVENTS.full_name(), user.encode(), msgspec.json.encode(value))


async def events_per_second(bench: Bench) -> float:
    """Events in Kafka → matched by the live group, deduplicated and stored in history by the other."""
    records = [
        _track(f"user-{number % 20_000}", f"bench-{number}", "Page Viewed", {"amount": number % 97, "page": "home"})
        for number in range(EVENTS)
    ]
    before = await _events_read(bench)
    began = time.monotonic()
    for start in range(0, len(records), 10_000):
        await bench.publisher.publish(records[start : start + 10_000])

    async def all_read() -> bool:
        read = await _events_read(bench)
        return all(read[group] - before.get(group, 0) >= EVENTS for group in read) and len(read) == 2

    await bench.until(all_read, 0.1)
    return EVENTS / (time.monotonic() - began)


async def _events_read(bench: Bench) -> dict[str, float]:
    pattern = re.compile(r'^postrider_records_read_total\{group="(segment-engine-(?:live|history))".*\} (\S+)$', re.M)
    page = (await bench.http.get(bench.suite.url(SEGMENT_ENGINE) + "/metrics")).text
    return {group: float(value) for group, value in pattern.findall(page)}


async def live_latency(bench: Bench) -> tuple[float, float, int]:
    """(p50, p99, texts) in milliseconds from the publish of an event to the provider's acceptance."""
    count = LIVE_PER_SECOND * LIVE_SECONDS
    people = [
        {
            "type": "identify", "userId": f"live-{number}", "messageId": f"live-i-{number}",
            "traits": {"phone": phone(700, number), "first_name": f"Name{number}"},
        }
        for number in range(count)
    ]  # fmt: skip
    for start in range(0, count, 1000):
        await bench.api.batch(people[start : start + 1000])
    await asyncio.sleep(3)
    published: dict[str, float] = {}
    began = time.monotonic()

    sent = 0
    while sent < count:
        await asyncio.sleep(TICK_SECONDS)
        due = min(count, int((time.monotonic() - began) * LIVE_PER_SECOND))
        for number in range(sent, due):
            published[phone(700, number)] = time.time()
        await bench.publisher.publish(
            [_track(f"live-{number}", f"live-{number}", "Bench Triggered", {}) for number in range(sent, due)]
        )
        sent = due

    async def all_there() -> bool:
        return len(published.keys() & bench.accepted().keys()) == count

    await bench.until(all_there, 0.5)
    accepted = bench.accepted()
    delays = sorted((accepted[number] - at) * 1000 for number, at in published.items())
    return delays[len(delays) // 2], delays[int(len(delays) * 0.99)], count


async def measure(bench: Bench) -> None:
    campaign = await prepare(bench)
    async with bench.costs("live text", LIVE_PER_SECOND * LIVE_SECONDS):
        p50, p99, texts = await live_latency(bench)
    say(f"live: event → provider's acceptance, {LIVE_PER_SECOND}/s, {texts} texts: p50 {p50:.0f} ms, p99 {p99:.0f} ms")
    async with bench.costs("text", BULK_TEXTS):
        bulk = await bulk_texts(bench, campaign)
    say(f"bulk: send job in Kafka → provider's 2xx, ledger on, {BULK_TEXTS} texts: {bulk:,.0f} texts/s")
    naive = await naive_texts(bench)
    say(f"naive sender (httpx awaited per message, row by row), {NAIVE_TEXTS} texts: {naive:,.0f} texts/s")
    say(f"bulk is {bulk / naive:.1f} times the naive sender")
    async with bench.costs("event", EVENTS):
        events = await events_per_second(bench)
    say(f"segment-engine: matched, deduplicated and stored, {EVENTS} events: {events:,.0f} events/s")


async def main(base: Path) -> int:
    async with stage(base) as bench:
        await measure(bench)
    return 0
