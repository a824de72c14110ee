"""One dispatcher in a process of its own on Kafka and Postgres, for benchmarks of the way from send job to 2xx."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
from sqlalchemy import text

from benchmarks.processes import spent, usage_of
from postrider.contracts import codec
from postrider.contracts.envelope import Outgoing, headers_of
from postrider.contracts.send_jobs import SEND_JOB
from postrider.contracts.topics import SEND_JOBS_BULK
from postrider.local.parts import Addresses
from postrider.local.ports import free_port
from postrider.local.postgres import EmbeddedPostgres
from tests.support.dispatching import Stage, stage
from tests.support.parts import create_database, drop_database, session_parts, topic_prefix

DURABILITY = ("fsync", "synchronous_commit", "full_page_writes")
GIVE_UP_SECONDS = 180.0
LOOK_SECONDS = 0.02
PUBLISHED_AT_ONCE = 5_000
_UNSETTLED = text(
    "SELECT "
    + " OR ".join(
        f"EXISTS (SELECT 1 FROM ledger WHERE {which})"
        for which in ("state IN ('QUEUED', 'DEFERRED')", "state = 'HELD'", "state = 'SUBMITTING'", "state = 'IN_DOUBT'")
    )
)


@dataclass(frozen=True)
class Cost:
    """Of one batch of texts: `per_second` from the first job's publishing to the last text's row in the ledger saying
    accepted; `cpu`: seconds by process; `wal_bytes`: what Postgres wrote into its log."""

    texts: int
    per_second: float
    cpu: dict[str, float]
    wal_bytes: int

    @property
    def cpu_per_thousand(self) -> dict[str, float]:
        return {name: seconds / self.texts * 1000 for name, seconds in self.cpu.items()}

    @property
    def wal_per_text(self) -> float:
        return self.wal_bytes / self.texts


@dataclass(frozen=True)
class Running:
    """`pids`: of what was started here."""

    addresses: Addresses
    pids: dict[str, int]


@dataclass
class Sending:
    """A world whose dispatcher is ready."""

    world: Stage
    pids: dict[str, int]
    taken: int = 0

    async def durability(self) -> str:
        values = [f"{name}={(await self.world.rows(f'SHOW {name}'))[0][0]}" for name in DURABILITY]
        return ", ".join(values)

    async def send(self, texts: int, done: Callable[[], Awaitable[int]], campaign: str = "cmp_1") -> Cost:
        """`done`: how many texts the provider has taken so far."""
        records = self._records(texts, campaign)
        before, wal, usage = await done(), await self._wal(), usage_of(self.pids)
        began = time.monotonic()
        for start in range(0, texts, PUBLISHED_AT_ONCE):
            await self.world.publisher.publish(records[start : start + PUBLISHED_AT_ONCE])
        while await done() - before < texts or await self._unsettled():
            if time.monotonic() - began > GIVE_UP_SECONDS:
                raise TimeoutError(f"a benchmark did not finish in its time: {await self.world.states()}")
            await asyncio.sleep(LOOK_SECONDS)
        took = time.monotonic() - began
        used = spent(usage, usage_of(self.pids))
        await self._check(texts)
        return Cost(texts, texts / took, used, await self._wal() - wal)

    async def _check(self, texts: int) -> None:
        self.taken += texts
        (row,) = await self.world.rows("SELECT count(*) AS n FROM ledger WHERE state = 'ACCEPTED' AND run_id = 'run_1'")
        if row.n != self.taken:
            raise RuntimeError(f"{self.taken} texts were ordered, the ledger says: {await self.world.states()}")

    async def _unsettled(self) -> bool:
        """Asked of the indexes of what waits: a look through a large ledger would be the slowest part of a round."""
        async with self.world.database.begin() as tx:
            await tx.execute(text("SET LOCAL enable_seqscan = off"))
            return bool((await tx.execute(_UNSETTLED)).scalar_one())

    async def _wal(self) -> int:
        (row,) = await self.world.rows("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn AS n")
        return int(row.n)

    def _records(self, texts: int, campaign: str) -> list[Outgoing]:
        topic, now = SEND_JOBS_BULK.full_name(self.world.prefix), datetime.now(UTC)
        return [
            Outgoing(
                topic, job.user_id.encode(), codec.encode(job),
                headers_of(secrets.token_hex(8), SEND_JOB, "scheduler", now),
            )
            for job in self.world.jobs(texts, campaign)
        ]  # fmt: skip


@asynccontextmanager
async def sending(
    running: Running,
    define: Callable[[Stage], Awaitable[None]],
    more_pids: dict[str, int],
    replicas: int = 1,
    **settings: str,
) -> AsyncIterator[Sending]:
    """Fresh topics and a fresh database on running parts. `define` publishes providers, groups, campaigns; `replicas`:
    so many dispatchers; `settings` are further variables of their environment."""
    url = await create_database(running.addresses.database_url)
    try:
        async with stage(running.addresses.bootstrap_servers, url, topic_prefix()) as world, AsyncExitStack() as stack:
            await define(world)
            environment = os.environ | world.environment() | settings
            ports = [world.port, *(free_port() for _ in range(replicas - 1))]
            processes = [await stack.enter_async_context(_dispatcher(port, environment)) for port in ports]
            for port, process in zip(ports, processes, strict=True):
                await _ready(port, process)
            names = ["dispatcher", *(f"dispatcher {number}" for number in range(2, replicas + 1))]
            pids = {name: process.pid for name, process in zip(names, processes, strict=True)}
            yield Sending(world, {**pids, "load": os.getpid(), **running.pids, **more_pids})
    finally:
        await drop_database(url)


@asynccontextmanager
async def _dispatcher(port: int, environment: Mapping[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """Its log stays when something went wrong."""
    log = Path(f".local/bench-dispatcher-{port}.log").open("wb")  # noqa: ASYNC230, SIM115
    with log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "dispatcher", env={**environment, "POSTRIDER_DISPATCHER_PORT": str(port)},
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield process
        await asyncio.to_thread(Path(log.name).unlink)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _ready(port: int, process: asyncio.subprocess.Process) -> None:
    async with httpx.AsyncClient(trust_env=False) as http, asyncio.timeout(60):
        while True:
            if process.returncode is not None:
                raise RuntimeError("the dispatcher has ended: see .local/bench-dispatcher-*.log")
            try:
                if (await http.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200:
                    return
            except httpx.TransportError:
                await asyncio.sleep(0.05)
                continue
            await asyncio.sleep(0.1)


@asynccontextmanager
async def running_parts() -> AsyncIterator[Running]:
    """A Kafka and a Postgres of this run, which both worlds of a comparison share."""
    async with session_parts() as parts:
        addresses = await parts.start()
        pids = {
            "Postgres" if isinstance(part, EmbeddedPostgres) else "Kafka": part.child.pid
            for part in parts.embedded()
            if part.child is not None
        }
        yield Running(addresses, pids)


def told(costs: dict[str, float]) -> str:
    return ", ".join(f"{name} {each:.2f}" for name, each in costs.items())
