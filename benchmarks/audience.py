"""`make bench-audience`: an audience of a million over 38 zones, from the request of its snapshot to the last job.

One segment-engine and one scheduler as processes, with Kafka and Postgres on this machine. Each run texts everybody of
it "now": all of its zones are due at one moment, so that the rate is that of the work and not of 38 local mornings.

- snapshot: from the request's record to the answer's, by the broker's clock.
- rate: from the record that asks for the first zone to the last job's record in send-jobs-bulk. All jobs are read
  back and counted: each key once, and as many as the run owes.
- lateness: of 50,000 people of one zone due in one minute, a job's record minus its due.
- memory: the peak (VmHWM) of fresh processes after a run of a tenth, and of all.
- takeover: of three schedulers one is killed in mid-run, then one stands still: until each partition of the audience is
  another's, and the longest time in which nobody made a job.
- naive: what many write first: per message a profile read, an INSERT, and a send that is awaited.

BENCH_AUDIENCE=<people>, BENCH_AUDIENCE_VARIANT=<people of each variant>, BENCH_AUDIENCE_ONLY=<name>.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks.audience_log import Jobs, answered, ends, read_jobs
from benchmarks.audience_people import IN_ONE_ZONE, ZONES, fill_postgres, fill_store, phone_of, zone_of
from benchmarks.audience_stage import Stage
from benchmarks.engine import LOCAL, bench, durability, pids
from benchmarks.naive_audience import naive_rate
from benchmarks.processes import spent, usage_of
from postrider.contracts.definitions import (
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
from postrider.contracts.ids import run_id
from postrider.local.parts import print_line as say
from postrider.postgres.migrate import migrate
from postrider.scheduling.quiet_hours import Allowed, QuietPlan
from tests.support.parts import session_parts

PEOPLE = int(os.environ.get("BENCH_AUDIENCE", "1000000"))
OF_TAKEOVER = 400_000
OF_VARIANT = int(os.environ.get("BENCH_AUDIENCE_VARIANT", "200000"))
ONLY = os.environ.get("BENCH_AUDIENCE_ONLY", "")
AHEAD_SECONDS = 20
"""Between the request of an audience and its due, for lateness."""
SLEEP = QuietWindow(["mon", "tue", "wed", "thu", "fri", "sat", "sun"], "21:00", "09:00")
NO_CAPS = AccountSettings()
CAPS = AccountSettings(frequency_caps=[FrequencyCap(2, 1), FrequencyCap(5, 7)], min_gap_seconds=3_600)


@dataclass(frozen=True)
class Variant:
    name: str
    people: int
    when: dict[str, Any] = field(default_factory=dict)
    who: dict[str, Any] = field(default_factory=dict)
    settings: AccountSettings = NO_CAPS
    message_class: str = "transactional"

    def owed(self, campaign: CampaignDefinition) -> int:
        """Jobs of its run: who is beyond the limit gets none, nor who has no hour that both clocks allow."""
        if self.message_class == "transactional":
            return min(self.people, campaign.who.limits.run or self.people)
        plan = QuietPlan(campaign.when.quiet_hours, QuietHours(), self.message_class)
        alike = Counter((zone_of(n), phone_of(n)[:5]) for n in range(self.people))
        due, after = campaign.scheduled_at, timedelta(seconds=campaign.when.send_by_seconds)
        assert due is not None
        answers = {(zone, area): plan.decide(due, after, zone, area + "2000000", "US") for zone, area in alike}
        return sum(n for each, n in alike.items() if isinstance(answers[each], Allowed))


VARIANTS = (
    Variant("plain", OF_VARIANT),
    Variant("quiet", OF_VARIANT, {"quiet_hours": QuietHours([SLEEP])}, message_class="promotional"),
    Variant("caps", OF_VARIANT, settings=CAPS),
    Variant("limit", OF_VARIANT, who={"limits": Limits(run=OF_VARIANT * 9 // 10)}),
    Variant("best_time", OF_VARIANT, {"at": "yesterday", "time_zone": "best_time", "fallback_time": "12:00",
                                      "passed_zone": "send_now"}),
)  # fmt: skip


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


async def emitted(stage: Stage, variant: Variant) -> float:
    """One run of everybody "now", told in three lines; people a second."""
    await stage.settle(variant.settings)
    id = f"cmp_{variant.name}_{variant.people}"
    begun = await ends(stage.bench.config)
    costs = {**pids(stage.parts, stage.processes["segment-engine"]), **stage.processes}
    before = usage_of(costs)
    asked_for = campaign(id, variant, when_of(variant))
    await stage.bench.define([asked_for])
    await stage.until_over(id)
    each = spent(before, usage_of(costs))
    asked = await answered(stage.bench.config, run_id(id, "once"))
    jobs = await read_jobs(stage.bench.config, begun, id)
    seconds = jobs.last - asked.first_zone
    check(jobs, variant.owed(asked_for))
    say(
        f"{variant.name}: {variant.people:,} people in {asked.zones} zones, snapshot {asked.snapshot:.2f} s; "
        f"{jobs.keys:,} jobs in {seconds:.1f} s: {jobs.keys / seconds:,.0f} jobs/s"
        + (f" ({variant.people / seconds:,.0f} people/s)" if jobs.keys != variant.people else "")
    )
    told = ", ".join(f"{name} {used / variant.people * 1e6:.1f}" for name, used in each.items())
    say(f"  CPU µs per person: {told}; together {sum(each.values()) / variant.people * 1e6:.1f}")
    say(f"  memory at most, MB: {stage.memory()}")
    return variant.people / seconds


def check(jobs: Jobs, owed: int, repeats: bool = False) -> None:
    """`repeats`: a job may be published again, under its key."""
    if jobs.keys != owed or (jobs.records != jobs.keys and not repeats):
        say(f"error: {jobs.keys:,} keys in {jobs.records:,} records, {owed:,} owed")


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
    check(jobs, people)
    found = sorted(jobs.lateness)
    p50, p99 = (found[int(len(found) * share)] for share in (0.5, 0.99))
    say(
        f"lateness of {people:,} due in one minute: p50 {p50:.2f} s, p99 {p99:.2f} s, worst {found[-1]:.2f} s "
        "(below zero: ready before it is due)"
    )


async def takeover(stage: Stage, people: int) -> None:
    """Of three schedulers one is killed in mid-run, then one stands still; how long until all is somebody else's."""
    variant = Variant("takeover", people)
    id = "cmp_takeover"
    begun = await ends(stage.bench.config)
    await stage.bench.define([campaign(id, variant, when_of(variant))])
    await stage.until_expanded(id, people // 10)
    killed = await stage.seconds_to_take_over("scheduler 0", signal.SIGKILL)
    silent = await stage.seconds_to_take_over("scheduler 1", signal.SIGSTOP)
    await stage.until_over(id)
    os.kill(stage.processes["scheduler 1"], signal.SIGCONT)
    jobs = await read_jobs(stage.bench.config, begun, id)
    check(jobs, people, repeats=True)
    times = sorted(jobs.lateness)
    longest = max(later - sooner for sooner, later in pairwise(times))
    say(
        f"takeover, three schedulers, {people:,} people: killed {killed:.1f} s, standing still {silent:.1f} s; "
        f"longest time without a job {longest:.1f} s; {jobs.keys:,} keys in {jobs.records:,} records"
    )


async def measure(stage: Stage) -> None:
    rate = 0.0  # of people: each has a job in those runs
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
    if wanted("takeover"):
        async with stage.running(schedulers=3):
            await takeover(stage, min(OF_TAKEOVER, PEOPLE))
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
