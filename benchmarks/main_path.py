"""The main path's figures, from one run on one machine: bulk texts, a naive sender beside it, events, live latency.

Everything runs at once on loopback: Kafka, Postgres, the four services, the load and the provider stand-in.
Bounded in time and volume. Prints Postgres's durability settings: figures without them mean nothing.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import msgspec

from benchmarks.processes import spent, usage_of
from postrider.contracts import codec
from postrider.contracts.envelope import Outgoing, headers_of
from postrider.contracts.ids import message_id
from postrider.contracts.send_jobs import SEND_JOB, Interval, SendJob
from postrider.contracts.topics import SEND_JOBS_BULK, USER_EVENTS
from postrider.kafka.clients import KafkaConfig
from postrider.kafka.publisher import Publisher
from postrider.local.client import ApiClient
from postrider.local.parts import print_line as say
from postrider.local.services import CAMPAIGN_API, DEVELOPMENT_KEY, SEGMENT_ENGINE
from postrider.local.suite import Suite
from tests.standins.running import twilio_process

ACCOUNT, TOKEN = "AC" + "0" * 32, "token-of-the-stand-in"
BULK_TEXTS = int(os.environ.get("BENCH_TEXTS", "20000"))
NAIVE_TEXTS = 400
EVENTS = int(os.environ.get("BENCH_EVENTS", "100000"))
LIVE_PER_SECOND = int(os.environ.get("BENCH_LIVE_PER_SECOND", "500"))
LIVE_SECONDS = int(os.environ.get("BENCH_LIVE_SECONDS", "15"))
TICK_SECONDS = 0.005
PATIENCE_SECONDS = 180.0
BODY = "Hi {{ Profile.first_name }}, your order is on its way."


@dataclass
class Bench:
    suite: Suite
    api: ApiClient
    publisher: Publisher
    stand_in_port: int
    log: Path
    database_url: str
    http: httpx.AsyncClient

    @asynccontextmanager
    async def costs(self, unit: str, count: int) -> AsyncIterator[None]:
        """Says what each process spent per unit of work done in the block."""
        pids = {**self.suite.pids(), "stand-in": await self.stand_in("pid"), "load generator": os.getpid()}
        before = usage_of(pids)
        yield
        each = spent(before, usage_of(pids))
        told = ", ".join(f"{name} {seconds / count * 1e6:.0f}" for name, seconds in each.items())
        say(f"  CPU µs per {unit}: {told}; together {sum(each.values()) / count * 1e6:.0f}")

    async def until(self, done: Callable[[], Awaitable[bool]], every: float = 0.1) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not await done():
            if time.monotonic() > deadline:
                raise TimeoutError("a benchmark did not finish in its time")
            await asyncio.sleep(every)

    def accepted(self) -> dict[str, float]:
        """Phone → time of acceptance, as the stand-in wrote it down."""
        with self.log.open("rb") as file:
            lines = [msgspec.json.decode(line) for line in file if line.endswith(b"\n")]
        return {line["to"]: line["at"] for line in lines}

    async def stand_in(self, what: str) -> int:
        return int((await self.http.get(f"http://127.0.0.1:{self.stand_in_port}/_stats")).json()[what])


def phone(area: int, number: int) -> str:
    return f"+1{area}555{number:04}" if number < 10_000 else f"+1{area + number // 10_000}555{number % 10_000:04}"


async def prepare(bench: Bench) -> str:
    """A provider, a group, and a live campaign that nothing triggers but `Bench Triggered`; its id."""
    await bench.api.settings(account_time_zone="Etc/UTC", default_country="US")
    provider = await bench.api.post(
        "/v1/providers",
        {
            "name": "Stand-in",
            "kind": "twilio",
            "settings": {
                "base_url": f"http://127.0.0.1:{bench.stand_in_port}",
                "account_sid": ACCOUNT,
                "from": "+12025550100",
            },
            "credentials": {"auth_token": TOKEN},
            "parts_per_second": 100_000,
        },
    )
    await bench.api.post("/v1/provider-groups", {"name": "Only", "provider_ids": [provider["id"]], "is_default": True})
    campaign = await bench.api.post(
        "/v1/campaigns",
        {
            "name": "Bench",
            "kind": "live_action",
            "message_class": "transactional",
            "when": {},
            "who": {"trigger": {"event": "Bench Triggered"}},
            "what": {"body": BODY},
        },
    )
    await bench.api.post(f"/v1/campaigns/{campaign['id']}/schedule")
    await asyncio.sleep(1)
    return str(campaign["id"])


async def bulk_texts(bench: Bench, campaign: str) -> float:
    """Send jobs in Kafka → the provider's 2xx, ledger on: texts a second, from the first publish to the last 2xx."""
    now = datetime.now(UTC)
    topic = SEND_JOBS_BULK.full_name()
    records = []
    for number in range(BULK_TEXTS):
        user = f"bulk-{number}"
        id = message_id(campaign, "bench", user)
        job = SendJob(
            id, campaign, "", "bench", user, 1, phone(300, number), "Etc/UTC", now, now + timedelta(hours=1),
            "transactional", country="US", allowed=[Interval(now, now + timedelta(hours=1))],
            profile={"first_name": f"Name{number}"},
        )  # fmt: skip
        records.append(Outgoing(topic, user.encode(), codec.encode(job), headers_of(id, SEND_JOB, "bench", now)))
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


async def durability(database_url: str) -> str:
    connection = await asyncpg.connect(database_url)
    try:
        names = ("fsync", "synchronous_commit", "full_page_writes")
        values = [await connection.fetchval(f"SHOW {name}") for name in names]
    finally:
        await connection.close()
    return ", ".join(f"{name}={value}" for name, value in zip(names, values, strict=True))


async def main(base: Path) -> int:
    home = base / "bench"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    env = {name: value for name, value in os.environ.items() if not name.startswith("POSTRIDER_")}
    env["POSTRIDER_ALLOWED_PRIVATE_HOSTS"] = "127.0.0.0/8"
    log = home / "accepted.jsonl"
    async with twilio_process(log, account_sid=ACCOUNT, auth_token=TOKEN) as port:
        async with Suite(home / "suite", env, say, jars=base / "kafka" / "libs") as suite:
            assert suite.addresses is not None
            publisher = Publisher(KafkaConfig(suite.addresses.bootstrap_servers, client_id="bench"))
            await publisher.start()
            try:
                async with (
                    ApiClient(suite.url(CAMPAIGN_API), DEVELOPMENT_KEY, 60) as api,
                    httpx.AsyncClient(trust_env=False, timeout=30) as http,
                ):
                    bench = Bench(suite, api, publisher, port, log, suite.addresses.database_url, http)
                    await measure(bench)
            finally:
                await publisher.stop()
    return 0


async def measure(bench: Bench) -> None:
    say(f"\nPostgres: {await durability(bench.database_url)}; {os.cpu_count()} cores for everything")
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
