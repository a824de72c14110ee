"""`make bench-events`: events consumed, deduplicated, stored and matched against live campaigns, on this machine.

One segment-engine with both its groups, Kafka and Postgres beside it. Its people are known to it; then, while it is
stopped, the topic is filled. Told is the rate from the moment either group begins to the moment both are through, and
what each process spent meanwhile.

In the same run a naive consumer (`naive_events`) reads the same events for a few seconds.

First 200 campaigns that listen to the events, ten to each of twenty names, each with filters of its own; then 10, 200
and 1,000 campaigns of which none listens: the cost of an event must be the same.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from benchmarks import naive_events
from benchmarks.engine import GROUPS, LOCAL, LOOK_SECONDS, Bench, bench, durability, pids
from benchmarks.processes import busy_seconds, spent, usage_of
from postrider.contracts.definitions import CampaignDefinition, References, Trigger, What, When, Who
from postrider.local.parts import Parts
from postrider.local.parts import print_line as say
from tests.support.parts import session_parts

EVENTS = int(os.environ.get("BENCH_EVENTS", "400000"))
QUIET_EVENTS = int(os.environ.get("BENCH_QUIET_EVENTS", "200000"))
USERS = 20_000
NAMES = 20
BEHIND = 20_000
"""More events behind those that are measured: history's last batch would wait a second for others to fill it."""
PATIENCE_SECONDS = 120.0
NAIVE_SECONDS = 5.0
CITIES = ("Pune", "Mumbai", "Delhi", "Chennai", "Kochi")


@dataclass(frozen=True)
class Case:
    title: str
    events: int
    campaigns: list[CampaignDefinition]
    beside_naive: bool = False


def campaign(number: int, event: str) -> CampaignDefinition:
    """Ten to a name: one of each ten wants a large amount, the others something that nobody has."""
    wanted: dict[str, Any] = {"property": "amount", "op": "gt", "value": 195}
    if number // NAMES % 10:
        wanted = {"property": "city", "op": "in", "value": [f"Town {number}", f"Village {number}"]}
    where = [{"property": "currency", "op": "eq", "value": "USD"}, wanted]
    return CampaignDefinition(
        f"cmp_{number}", 1, "running", "live_action", "Bench", "transactional", When(send_by_seconds=3600),
        Who(trigger=Trigger(event, where)), 1, {"1": What("Hi", References(["first_name"], ["amount"]))},
        datetime.now(UTC) - timedelta(minutes=1),
    )  # fmt: skip


def listening(count: int) -> list[CampaignDefinition]:
    return [campaign(number, f"Event {number % NAMES}") for number in range(count)]


def deaf(count: int) -> list[CampaignDefinition]:
    return [campaign(number, f"Other Event {number % NAMES}") for number in range(count)]


def people() -> Iterator[dict[str, Any]]:
    for number in range(USERS):
        traits = {"phone": f"+1202{5550000 + number}", "first_name": "Ann", "city": CITIES[number % 5]}
        yield {"type": "identify", "messageId": f"i-{number}", "userId": f"u-{number}", "traits": traits}


def events(count: int) -> Iterator[dict[str, Any]]:
    """Four properties of three types, a list among them; one event in a hundred comes twice."""
    for number in range(count):
        which = number - 1 if number % 100 == 99 else number
        yield {
            "type": "track",
            "messageId": f"m-{which}",
            "userId": f"u-{which * 7 % USERS}",
            "event": f"Event {which % NAMES}",
            "timestamp": datetime.now(UTC).isoformat(),
            "properties": {
                "amount": which * 31 % 200, "currency": "USD", "items": ["a", "b"], "city": CITIES[which % 5]
            },
        }  # fmt: skip


async def measure(parts: Parts, case: Case) -> float:
    """CPU µs per event, of all processes."""
    async with bench(parts) as stage:
        connection = await asyncpg.connect(stage.owner_url)
        try:
            await stage.define(case.campaigns)
            await stage.publish(people())
            with tempfile.TemporaryDirectory(prefix="bench-", dir=LOCAL) as folder:
                async with stage.engine(folder=folder):
                    await stage.until(connection, USERS, PATIENCE_SECONDS)
                await stage.publish(events(case.events + BEHIND))
                async with stage.engine(folder=folder) as engine:
                    cpu = await _work_off(parts, stage, connection, engine, case)
            if case.beside_naive:
                naive = await naive_events.rate(stage, connection, case.campaigns, NAIVE_SECONDS)
                say(f"  a naive consumer beside it: {naive:,.0f} events/s")
            return cpu
        finally:
            await connection.close()


async def _work_off(parts: Parts, stage: Bench, connection: asyncpg.Connection, engine: int, case: Case) -> float:
    named = pids(parts, engine)
    before, began, busy = usage_of(named), time.monotonic(), busy_seconds()
    while max((await stage.positions(connection)).values()) <= USERS:
        before, began, busy = usage_of(named), time.monotonic(), busy_seconds()
        await asyncio.sleep(LOOK_SECONDS)
    through = await _both_through(stage, connection, USERS + case.events)
    took, each = time.monotonic() - began, spent(before, usage_of(named))
    ours = sum(each.values())
    others = max(0.0, busy_seconds() - busy - ours)
    told = ", ".join(f"{name} {seconds / case.events * 1e6:.1f}" for name, seconds in each.items())
    say(f"{case.title}: {case.events / took:,.0f} events/s ({case.events:,.0f} in {took:.1f} s)")
    say("  " + ", ".join(f"{group} took {at - began:.1f} s" for group, at in through.items()))
    say(f"  CPU µs per event: {told}; together {ours / case.events * 1e6:.1f}")
    say(f"  cores used: {ours / took:.2f}, by whatever else runs on this machine {others / took:.2f}")
    say(f"  memory of the segment-engine: {usage_of(named)['segment-engine'].memory_bytes / 1e6:.0f} MB")
    return ours / case.events * 1e6


async def _both_through(stage: Bench, connection: asyncpg.Connection, wanted: int) -> dict[str, float]:
    """When each group was."""
    through: dict[str, float] = {}
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(through) < len(GROUPS):
            await asyncio.sleep(LOOK_SECONDS)
            for group, done in (await stage.positions(connection)).items():
                if done >= wanted:
                    through.setdefault(group, time.monotonic())
    return through


def cases() -> list[Case]:
    quiet = [Case(f"{count} campaigns, none listens", QUIET_EVENTS, deaf(count)) for count in (10, 200, 1_000)]
    return [Case("200 live campaigns, ten listen to each event", EVENTS, listening(200), beside_naive=True), *quiet]


async def main(wanted: int | None = None) -> int:
    async with session_parts() as parts:
        say(f"Postgres: {await durability(await parts.start_postgres())}; {os.cpu_count()} cores for everything")
        costs = [await measure(parts, case) for case in cases()[:wanted]]
        if wanted is None:
            say(f"cost of an event with 1,000 campaigns that do not listen: {costs[-1] / costs[1]:.2f} × that with 10")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(int(sys.argv[1]) if sys.argv[1:] else None)))
