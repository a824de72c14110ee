"""The stage of every whole-suite benchmark: four services, Kafka, Postgres, a provider stand-in, all on loopback.

Bounded in time and volume. Says what each process costs.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import httpx
import msgspec

from benchmarks.processes import spent, usage_of
from postrider.contracts import codec
from postrider.contracts.envelope import Outgoing, headers_of
from postrider.contracts.ids import message_id
from postrider.contracts.send_jobs import SEND_JOB, Interval, SendJob
from postrider.contracts.topics import SEND_JOBS_BULK
from postrider.kafka.clients import KafkaConfig
from postrider.kafka.publisher import Publisher
from postrider.local.client import ApiClient
from postrider.local.parts import print_line as say
from postrider.local.services import CAMPAIGN_API, DEVELOPMENT_KEY
from postrider.local.suite import Suite
from tests.standins.running import twilio_process

ACCOUNT, TOKEN = "AC" + "0" * 32, "token-of-the-stand-in"
PATIENCE_SECONDS = 600.0
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


def send_jobs(campaign: str, count: int) -> Iterator[Outgoing]:
    """Jobs of the bulk lane, due now, each to a phone of its own."""
    now = datetime.now(UTC)
    topic = SEND_JOBS_BULK.full_name()
    for number in range(count):
        user = f"bulk-{number}"
        id = message_id(campaign, "bench", user)
        job = SendJob(
            id, campaign, "", "bench", user, 1, phone(300, number), "Etc/UTC", now, now + timedelta(hours=1),
            "promotional", country="US", allowed=[Interval(now, now + timedelta(hours=1))],
            profile={"first_name": f"Name{number}"},
        )  # fmt: skip
        yield Outgoing(topic, user.encode(), codec.encode(job), headers_of(id, SEND_JOB, "bench", now))


async def durability(database_url: str) -> str:
    connection = await asyncpg.connect(database_url)
    try:
        names = ("fsync", "synchronous_commit", "full_page_writes")
        values = [await connection.fetchval(f"SHOW {name}") for name in names]
    finally:
        await connection.close()
    return ", ".join(f"{name}={value}" for name, value in zip(names, values, strict=True))


@asynccontextmanager
async def stage(base: Path) -> AsyncIterator[Bench]:
    """The suite with its data under `base`/bench, stopped afterwards."""
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
                    say(f"\nPostgres: {await durability(bench.database_url)}; {os.cpu_count()} cores for everything")
                    yield bench
            finally:
                await publisher.stop()
