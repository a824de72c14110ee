"""The stage of `make bench-audience`: a segment-engine and some schedulers as processes, beside Kafka and Postgres."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import httpx
import msgspec

from benchmarks.engine import LOCAL, Bench
from postrider.contracts import codec
from postrider.contracts.definitions import SETTINGS_KEY, SETTINGS_TYPE, AccountSettings
from postrider.contracts.envelope import Outgoing, headers_of
from postrider.contracts.ids import run_id
from postrider.contracts.topics import ACCOUNT_SETTINGS
from postrider.local.parts import Parts
from postrider.local.ports import free_port

PATIENCE_SECONDS = 600
LOOK_SECONDS = 0.05
OVER = ("expanded", "expired", "failed")
ENGINE = os.environ.get("BENCH_ENGINE_MODULE", "segment_engine")
SCHEDULER = os.environ.get("BENCH_SCHEDULER_MODULE", "scheduler")
"""What runs them: a profiler, say."""
STATE = "SELECT state FROM scheduler.runs WHERE run_id = $1"
LEFT = "SELECT count(*) FROM scheduler.outbox"
EXPANDED = "SELECT coalesce(sum(expanded_users), 0) FROM scheduler.zone_timers WHERE run_id = $1"
EPOCHS = "SELECT partition, epoch FROM scheduler.consumer_progress WHERE consumer_group = 'scheduler-bulk'"


@dataclass
class Stage:
    """Everything of one measurement. `processes`: name → pid of what runs."""

    bench: Bench
    owner: asyncpg.Connection
    folder: str
    parts: Parts
    versions: int = 0
    processes: dict[str, int] = field(default_factory=dict)

    @asynccontextmanager
    async def running(self, schedulers: int = 1) -> AsyncIterator[None]:
        """Fresh processes, which have their partitions."""
        async with self.bench.engine(ENGINE, self.folder) as engine, self._schedulers(schedulers) as found:
            self.processes = {"segment-engine": engine, **found}
            yield

    @asynccontextmanager
    async def _schedulers(self, count: int) -> AsyncIterator[dict[str, int]]:
        environment = {
            **os.environ,
            "KAFKA_BOOTSTRAP_SERVERS": self.bench.config.bootstrap_servers,
            "POSTRIDER_TOPIC_PREFIX": self.bench.config.topic_prefix,
            "DATABASE_URL": self.bench.owner_url,
            "POSTRIDER_SERVICE_TOKEN": "t" * 32,
        }
        ports = [free_port() for _ in range(count)]
        log = await asyncio.to_thread((LOCAL / "bench-scheduler.log").open, "wb")
        with log:
            started = [
                await asyncio.create_subprocess_exec(
                    sys.executable, "-m", SCHEDULER, stdout=log,
                    env={**environment, "POSTRIDER_INSTANCE_ID": f"r{port}", "POSTRIDER_SCHEDULER_PORT": str(port)},
                )
                for port in ports
            ]  # fmt: skip
        try:
            for port in ports:
                await _ready(port)
            names = ["scheduler"] if count == 1 else [f"scheduler {number}" for number in range(count)]
            yield {name: process.pid for name, process in zip(names, started, strict=True)}
        finally:
            for process in started:
                if process.returncode is None:
                    process.send_signal(signal.SIGCONT)
                    process.terminate()
            await asyncio.gather(*(process.wait() for process in started))

    def memory(self) -> str:
        return ", ".join(f"{name} {_peak_megabytes(pid):,.0f}" for name, pid in self.processes.items())

    async def settle(self, settings: AccountSettings) -> None:
        self.versions += 1
        topic = ACCOUNT_SETTINGS.full_name(self.bench.config.topic_prefix)
        value = codec.encode(msgspec.structs.replace(settings, version=self.versions))
        headers = headers_of(f"bench-{self.versions}", SETTINGS_TYPE, "bench", datetime.now(UTC))
        await self.bench.publisher.publish([Outgoing(topic, SETTINGS_KEY.encode(), value, headers)])

    async def until_over(self, campaign_id: str) -> None:
        """Every job is made and published."""
        run = run_id(campaign_id, "once")

        async def over() -> bool:
            return await self.owner.fetchval(STATE, run) in OVER and not await self.owner.fetchval(LEFT)

        await _until(over)

    async def until_expanded(self, campaign_id: str, people: int) -> None:
        run = run_id(campaign_id, "once")

        async def there() -> bool:
            return bool(await self.owner.fetchval(EXPANDED, run) >= people)

        await _until(there)

    async def seconds_to_take_over(self, name: str, number: signal.Signals) -> float:
        """From the signal until every partition of the audience has an owner who took it after that."""
        before = {row["partition"]: row["epoch"] for row in await self.owner.fetch(EPOCHS)}
        os.kill(self.processes[name], number)
        began = time.monotonic()

        async def taken() -> bool:
            return all(row["epoch"] > before[row["partition"]] for row in await self.owner.fetch(EPOCHS))

        await _until(taken)
        return time.monotonic() - began


async def _ready(port: int) -> None:
    """It has partitions of each of its groups."""
    async with httpx.AsyncClient(trust_env=False) as http:

        async def ready() -> bool:
            try:
                return (await http.get(f"http://127.0.0.1:{port}/readyz")).status_code == httpx.codes.OK
            except httpx.TransportError:
                return False  # not up yet

        await _until(ready)


async def _until(done: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await done():  # noqa: ASYNC110  # another process does it
            await asyncio.sleep(LOOK_SECONDS)


def _peak_megabytes(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1000
    return 0.0
