"""`make bench-events`: events consumed, deduplicated, stored and matched against live campaigns, on this machine.

One segment-engine with both its groups, Kafka and Postgres beside it. The topic is filled first; told is the rate from
the moment both groups are past the warm-up to the moment both are past the rest, and what each process spent.

First 200 campaigns that listen to the events, ten to each of twenty names, each with filters of its own; then 10, 200
and 1,000 campaigns of which none listens: the cost of an event must be the same.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from benchmarks.engine import Bench, bench, durability, pids
from benchmarks.processes import spent, usage_of
from postrider.contracts.definitions import CampaignDefinition, References, Trigger, What, When, Who
from postrider.local.parts import Parts
from postrider.local.parts import print_line as say
from tests.support.parts import session_parts

EVENTS = int(os.environ.get("BENCH_EVENTS", "200000"))
QUIET_EVENTS = int(os.environ.get("BENCH_QUIET_EVENTS", "80000"))
USERS = 20_000
NAMES = 20
WARM_UP = 0.2
BEHIND = 20_000
"""More events behind those that are measured: history's last batch would wait a second for others to fill it."""
PATIENCE_SECONDS = 120.0
CITIES = ("Pune", "Mumbai", "Delhi", "Chennai", "Kochi")


@dataclass(frozen=True)
class Case:
    title: str
    events: int
    campaigns: list[CampaignDefinition]


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


async def measure(parts: Parts, case: Case) -> None:
    async with bench(parts) as stage:
        await stage.publish(people())
        await stage.define(case.campaigns)
        await stage.publish(events(case.events + BEHIND))
        await _work_off(parts, stage, case)


async def _work_off(parts: Parts, stage: Bench, case: Case) -> None:
    warm, total = USERS + int(case.events * WARM_UP), USERS + case.events
    connection = await asyncpg.connect(stage.owner_url)
    try:
        async with stage.engine() as engine:
            await stage.until(connection, warm, PATIENCE_SECONDS)
            named = pids(parts, engine)
            began, before, begun = time.monotonic(), usage_of(named), await stage.positions(connection)
            await stage.until(connection, total, PATIENCE_SECONDS)
            took, usage = time.monotonic() - began, usage_of(named)
    finally:
        await connection.close()
    worked = total - sum(begun.values()) / len(begun)
    each = spent(before, usage)
    told = ", ".join(f"{name} {seconds / worked * 1e6:.1f}" for name, seconds in each.items())
    say(f"{case.title}: {worked / took:,.0f} events/s ({worked:,.0f} in {took:.1f} s)")
    say(f"  CPU µs per event: {told}; together {sum(each.values()) / worked * 1e6:.1f}")
    say(f"  memory of the segment-engine: {usage['segment-engine'].memory_bytes / 1e6:.0f} MB")


def cases() -> list[Case]:
    quiet = [Case(f"{count} campaigns, none listens", QUIET_EVENTS, deaf(count)) for count in (10, 200, 1_000)]
    return [Case("200 live campaigns, ten listen to each event", EVENTS, listening(200)), *quiet]


async def main(wanted: int | None = None) -> int:
    async with session_parts() as parts:
        say(f"Postgres: {await durability(await parts.start_postgres())}; {os.cpu_count()} cores for everything")
        for case in cases()[:wanted]:
            await measure(parts, case)
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(int(sys.argv[1]) if sys.argv[1:] else None)))
