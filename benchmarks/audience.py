"""`make bench-audience`: an audience of a million over 38 zones, from the request of its snapshot to the last job.

One segment-engine and one scheduler as processes, with Kafka and Postgres on this machine. Each run texts everybody of
it "now": all of its zones are due at one moment, so that the rate is that of the work and not of 38 local mornings.

- snapshot: from the request's record to the answer's, by the broker's clock.
- rate: from the record that asks for the first zone to the last job's record in send-jobs-bulk. All jobs are read
  back and counted: each key once, and as many as the run owes.
- lateness: of 50,000 people of one zone due in one minute, a job's record minus its due.
- memory: the peak (VmHWM) of fresh processes after a run of a tenth, and of all.
- naive: what many write first: per message a profile read, an INSERT, and a send that is awaited.

BENCH_AUDIENCE=<people>, BENCH_AUDIENCE_VARIANT=<people of each variant>, BENCH_AUDIENCE_ONLY=<name>.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks.audience_log import answered, ends, read_jobs
from benchmarks.audience_people import IN_ONE_ZONE, ZONES, fill_postgres, fill_store
from benchmarks.engine import LOCAL, Bench, bench, durability, pids
from benchmarks.naive_audience import naive_rate
from benchmarks.processes import spent, usage_of
from postrider.contracts import codec
from postrider.contracts.definitions import (
    SETTINGS_KEY,
    SETTINGS_TYPE,
    AccountSettings,
    CampaignDefinition,
    FrequencyCap,
    Limits,
    QuietHours,
    QuietWindow,
    References,
    What,
    When,
    Who,
)
from postrider.contracts.envelope import Outgoing, headers_of
from postrider.contracts.ids import run_id
from postrider.contracts.topics import ACCOUNT_SETTINGS
from postrider.local.parts import print_line as say
from postrider.postgres.migrate import migrate
from tests.support.parts import session_parts

PEOPLE = int(os.environ.get("BENCH_AUDIENCE", "1000000"))
OF_VARIANT = int(os.environ.get("BENCH_AUDIENCE_VARIANT", "200000"))
ONLY = os.environ.get("BENCH_AUDIENCE_ONLY", "")
PATIENCE_SECONDS = 600
AHEAD_SECONDS = 20
"""Between the request of an audience and its due, for lateness."""
SLEEP = QuietWindow(["mon", "tue", "wed", "thu", "fri", "sat", "sun"], "21:00", "09:00")
NO_CAPS = AccountSettings()
CAPS = AccountSettings(frequency_caps=[FrequencyCap(2, 1), FrequencyCap(5, 7)], min_gap_seconds=3_600)
OVER = ("expanded", "expired", "failed")


@dataclass(frozen=True)
class Variant:
    name: str
    people: int
    when: dict[str, Any] = field(default_factory=dict)
    who: dict[str, Any] = field(default_factory=dict)
    settings: AccountSettings = NO_CAPS
    message_class: str = "transactional"
    jobs: int | None = None
    """How many the run owes; None: one for each."""


VARIANTS = (
    Variant("plain", OF_VARIANT),
    Variant("quiet", OF_VARIANT, {"quiet_hours": QuietHours([SLEEP])}, message_class="promotional"),
    Variant("caps", OF_VARIANT, settings=CAPS),
    Variant("limit", OF_VARIANT, who={"limits": Limits(run=OF_VARIANT * 9 // 10)}, jobs=OF_VARIANT * 9 // 10),
    Variant("best_time", OF_VARIANT, {"at": "yesterday", "time_zone": "best_time", "fallback_time": "12:00",
                                      "passed_zone": "send_now"}),
)  # fmt: skip


@dataclass
class Stage:
    """Everything of one measurement, and the names of what runs."""

    bench: Bench
    owner: asyncpg.Connection
    folder: str
    parts: Any
    versions: int = 0
    processes: dict[str, int] = field(default_factory=dict)

    @asynccontextmanager
    async def running(self, schedulers: int = 1) -> AsyncIterator[None]:
        """Fresh processes."""
        module = os.environ.get("BENCH_ENGINE_MODULE", "segment_engine")
        async with self.bench.engine(module, self.folder) as engine, self.schedulers(schedulers) as found:
            self.processes = {"segment-engine": engine, **found}
            yield

    @asynccontextmanager
    async def schedulers(self, count: int) -> AsyncIterator[dict[str, int]]:
        environment = {
            **os.environ,
            "KAFKA_BOOTSTRAP_SERVERS": self.bench.config.bootstrap_servers,
            "POSTRIDER_TOPIC_PREFIX": self.bench.config.topic_prefix,
            "DATABASE_URL": self.bench.owner_url,
            "POSTRIDER_SERVICE_TOKEN": "t" * 32,
            "POSTRIDER_SCHEDULER_PORT": "0",
        }
        log = await asyncio.to_thread((LOCAL / "bench-scheduler.log").open, "wb")
        module = os.environ.get("BENCH_SCHEDULER_MODULE", "scheduler")
        with log:
            started = [
                await asyncio.create_subprocess_exec(
                    sys.executable, "-m", module, env={**environment, "POSTRIDER_INSTANCE_ID": f"r{number}"},
                    stdout=log,
                )
                for number in range(count)
            ]  # fmt: skip
        try:
            names = ["scheduler"] if count == 1 else [f"scheduler {number}" for number in range(count)]
            yield {name: process.pid for name, process in zip(names, started, strict=True)}
        finally:
            for process in started:
                if process.returncode is None:
                    process.terminate()
            await asyncio.gather(*(process.wait() for process in started))

    def memory(self) -> str:
        return ", ".join(f"{name} {peak_megabytes(pid):,.0f}" for name, pid in self.processes.items())

    async def settle(self, settings: AccountSettings) -> None:
        self.versions += 1
        topic = ACCOUNT_SETTINGS.full_name(self.bench.config.topic_prefix)
        value = codec.encode(settings_of(settings, self.versions))
        headers = headers_of(f"bench-{self.versions}", SETTINGS_TYPE, "bench", datetime.now(UTC))
        await self.bench.publisher.publish([Outgoing(topic, SETTINGS_KEY.encode(), value, headers)])

    async def until_over(self, campaign_id: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        run = run_id(campaign_id, "once")
        while True:
            state = await self.owner.fetchval("SELECT state FROM scheduler.runs WHERE run_id = $1", run)
            if state in OVER and not await self.owner.fetchval("SELECT count(*) FROM scheduler.outbox"):
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"the run is {state}")
            await asyncio.sleep(0.2)


def settings_of(settings: AccountSettings, version: int) -> AccountSettings:
    return AccountSettings(
        version=version, frequency_caps=settings.frequency_caps, min_gap_seconds=settings.min_gap_seconds
    )


def campaign(id: str, variant: Variant, when: When) -> CampaignDefinition:
    rule = {"attribute": {"name": "number", "op": "lt", "value": variant.people}}
    whats = {"1": What("Hi {{ Profile.first_name }}, your order is on its way.", References(["first_name"]))}
    return CampaignDefinition(
        id, 1, "scheduled", "one_time", "Bench", variant.message_class, when, Who(rule=rule, **variant.who), 1, whats,
        datetime.now(UTC),
    )  # fmt: skip


def when_of(variant: Variant) -> When:
    values = {"time_zone": "user", **variant.when}
    if values.get("at") == "yesterday":
        values["at"] = f"{datetime.now(UTC) - timedelta(days=2):%Y-%m-%dT12:00:00}"
    return When(**values)


def peak_megabytes(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1000
    return 0.0


async def emitted(stage: Stage, variant: Variant) -> float:
    """One run of everybody "now", told in three lines; jobs a second."""
    await stage.settle(variant.settings)
    id = f"cmp_{variant.name}_{variant.people}"
    begun = await ends(stage.bench.config)
    costs = {**pids(stage.parts, stage.processes["segment-engine"]), **stage.processes}
    before = usage_of(costs)
    await stage.bench.define([campaign(id, variant, when_of(variant))])
    await stage.until_over(id)
    each = spent(before, usage_of(costs))
    asked = await answered(stage.bench.config, run_id(id, "once"))
    jobs = await read_jobs(stage.bench.config, begun, id)
    seconds = jobs.last - asked.first_zone
    owed = variant.people if variant.jobs is None else variant.jobs
    if jobs.keys != owed or jobs.records != jobs.keys:
        say(f"error: {jobs.keys:,} keys in {jobs.records:,} records, {owed:,} owed")
    say(
        f"{variant.name}: {variant.people:,} people in {asked.zones} zones, snapshot {asked.snapshot:.2f} s; "
        f"{jobs.keys:,} jobs in {seconds:.1f} s: {jobs.keys / seconds:,.0f} jobs/s"
        + (f" ({variant.people / seconds:,.0f} people/s)" if owed != variant.people else "")
    )
    told = ", ".join(f"{name} {used / variant.people * 1e6:.1f}" for name, used in each.items())
    say(f"  CPU µs per person: {told}; together {sum(each.values()) / variant.people * 1e6:.1f}")
    say(f"  memory at most, MB: {stage.memory()}")
    return jobs.keys / seconds


async def late(stage: Stage, people: int) -> None:
    """One zone, due at a minute that is still to come; the audience is fixed before, as it always is."""
    await stage.settle(NO_CAPS)
    due = datetime.now(UTC) + timedelta(seconds=AHEAD_SECONDS)
    begun = await ends(stage.bench.config)
    variant = Variant("late", people)
    when = When(at=f"{due:%Y-%m-%dT%H:%M:%S}", time_zone="Etc/UTC")
    await stage.bench.define([campaign("cmp_late", variant, when)])
    await stage.until_over("cmp_late")
    jobs = await read_jobs(stage.bench.config, begun, "cmp_late")
    found = sorted(jobs.lateness)
    if jobs.keys != people or jobs.records != people:
        say(f"error: {jobs.keys:,} keys in {jobs.records:,} records, {people:,} owed")
    p50, p99 = (found[int(len(found) * share)] for share in (0.5, 0.99))
    say(f"lateness of {people:,} due in one minute: p50 {p50:.2f} s, p99 {p99:.2f} s, worst {found[-1]:.2f} s")


async def measure(stage: Stage) -> None:
    rate = 0.0
    for people in (PEOPLE // 10, PEOPLE):
        if wanted("scale"):
            async with stage.running():
                rate = await emitted(stage, Variant("everybody", people))
    async with stage.running():
        if wanted("late"):
            await late(stage, min(IN_ONE_ZONE, PEOPLE))
        for variant in VARIANTS:
            if wanted(variant.name):
                await emitted(stage, variant)
    if wanted("naive"):
        naive = await naive_rate(stage.bench, stage.owner)
        say(f"naive, a read, an INSERT and an awaited send per message: {naive:,.0f} jobs/s")
        if rate:
            say(f"{rate / naive:.0f} times the naive way")


def wanted(name: str) -> bool:
    return not ONLY or name in ONLY.split(",")


async def main() -> None:
    async with session_parts() as parts, bench(parts) as made:
        await migrate(made.owner_url, "scheduler", "scheduler")
        owner = await asyncpg.connect(made.owner_url)
        say(f"{os.cpu_count()} cores for everything; Postgres: {await durability(made.owner_url)}")
        with tempfile.TemporaryDirectory(prefix="bench-", dir=LOCAL) as folder:
            began = time.monotonic()
            await asyncio.gather(fill_postgres(owner, PEOPLE), fill_store(Path(folder), PEOPLE))
            say(f"{PEOPLE:,} people in {len(ZONES)} zones loaded in {time.monotonic() - began:.0f} s")
            await measure(Stage(made, owner, folder, parts))
        await owner.close()


if __name__ == "__main__":
    asyncio.run(main())
