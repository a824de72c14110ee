"""Timers of live campaigns: how fast they are armed, and how late they fire while a million others are armed.

`python -m benchmarks.timers [timers] [seconds]`. Two measurements, apart:

1. Each event arms a timer of somebody else who is known, half an hour ahead: Kafka → live group → Postgres, without
   history. Beside the rate stands what a timer costs in CPU, which other work on the machine does not change.
2. With those armed, the whole engine at 1,000 events a second, of which 300 arm a timer of two seconds, 100 disarm one.
   Lateness is the broker's time of the qualified user's record minus the time the timer was due.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
from aiokafka import TopicPartition

from benchmarks.engine import GROUPS, Bench, bench, durability, pids
from benchmarks.processes import spent, usage_of
from postrider.clock import SystemClock
from postrider.contracts import codec
from postrider.contracts.definitions import CampaignDefinition, References, Trigger, Unless, What, When, Who
from postrider.contracts.qualified import QualifiedUser
from postrider.contracts.topics import QUALIFIED_USERS
from postrider.kafka.clients import make_consumer
from tests.support.parts import session_parts

LIVE = GROUPS[0]
PER_SECOND, ARMING, DISARMING = 1_000, 300, 100
WITHIN = 2
KNOWN = """
INSERT INTO segment_engine.profiles (user_id, copied_version) SELECT 'u-' || n, 1 FROM generate_series(0, $1::int - 1) n
"""
"""Somebody who is texted has been heard of before, as a rule."""
AHEAD = 1_800


def campaign(id: str, arms: str, acts: str, within: int) -> CampaignDefinition:
    return CampaignDefinition(
        id, 1, "running", "live_inaction", "Bench", "transactional", When(send_by_seconds=3_600),
        Who(trigger=Trigger(arms, unless=Unless(acts), within_seconds=within, same_property="cart_id")), 1,
        {"1": What("Hi", References(["first_name"], ["amount"]))}, SystemClock().now(),
    )  # fmt: skip


def track(user: str, id: str, event: str, cart: str) -> dict[str, Any]:
    return {
        "type": "track", "messageId": id, "userId": user, "event": event,
        "timestamp": datetime.now(UTC).isoformat(),
        "properties": {"cart_id": cart, "amount": 59.9, "currency": "USD", "items": ["a", "b"]},
    }  # fmt: skip


def arms(count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        yield track(f"u-{number}", f"m-{number}", "Added to Cart", f"c-{number % 97}")


def second(tick: int) -> Iterator[dict[str, Any]]:
    for number in range(PER_SECOND):
        user, name = f"f-{tick}-{number}", f"{tick}-{number}"
        if number < ARMING:
            yield track(user, f"a-{name}", "Trial Begun", name)
        elif number < ARMING + DISARMING:
            yield track(f"f-{tick}-{number - ARMING}", f"b-{name}", "Trial Bought", f"{tick}-{number - ARMING}")
        else:
            yield track(f"u-{number}", f"n-{name}", "Page Seen", name)


async def main(timers: int, seconds: int) -> None:
    async with session_parts() as parts, bench(parts) as stage:
        connection = await asyncpg.connect(stage.owner_url)
        print("Postgres:", await durability(stage.owner_url))
        await stage.define([campaign("cmp_ahead", "Added to Cart", "Order Completed", AHEAD)])
        await stage.define([campaign("cmp_soon", "Trial Begun", "Trial Bought", WITHIN)])
        await connection.execute(KNOWN, timers)
        await connection.execute("ANALYZE segment_engine.profiles")
        await stage.publish(arms(timers))
        async with stage.engine("benchmarks.timers_engine") as pid:
            before = usage_of(pids(parts, pid))
            took = await arming(stage, connection, timers)
            print(f"armed: {timers / took:,.0f} timers/s ({timers:,} in {took:.1f} s); {memory(pid)}")
            each = spent(before, usage_of(pids(parts, pid)))
            print("CPU µs per timer:", ", ".join(f"{name} {used / timers * 1e6:.1f}" for name, used in each.items()))
        armed = await connection.fetchval("SELECT count(*) FROM segment_engine.waits WHERE due_at IS NOT NULL")
        size = await connection.fetchval("SELECT pg_total_relation_size('segment_engine.waits')")
        print(f"armed now: {armed:,}; table and indexes {size / 1e6:,.0f} MB")
        async with stage.engine() as pid:
            await stage.until(connection, timers, 300)
            late = await firing(stage, seconds)
            print(f"fired beside them: {len(late):,} at {PER_SECOND:,} events/s; lateness {told(late)}; {memory(pid)}")
        await connection.close()


async def arming(stage: Bench, connection: asyncpg.Connection, wanted: int) -> float:
    """Seconds from the first commit to the last."""

    async def done() -> int:
        return (await stage.positions(connection))[LIVE]

    async with asyncio.timeout(300):
        while not (first := await done()):  # noqa: ASYNC110  # another process counts
            await asyncio.sleep(0.01)
        begun = time.monotonic()
        while await done() < wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return (time.monotonic() - begun) * wanted / (wanted - first)


async def firing(stage: Bench, seconds: int) -> list[float]:
    """How late each timer was, sorted."""
    started = time.monotonic()
    for tick in range(seconds):
        await asyncio.sleep(max(0.0, started + tick - time.monotonic()))
        await stage.publish(second(tick))
    await asyncio.sleep(WITHIN + 3)
    wanted = seconds * (ARMING - DISARMING)
    late = sorted(await lateness(stage))
    if len(late) != wanted:
        print(f"error: {len(late)} fired, {wanted} should have", file=sys.stderr)
    return late


async def lateness(stage: Bench) -> list[float]:
    topic = QUALIFIED_USERS.full_name(stage.config.topic_prefix)
    consumer = make_consumer(stage.config, None)
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for number in range(QUALIFIED_USERS.partitions)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = sum((await consumer.end_offsets(partitions)).values())
        found: list[float] = []
        while len(found) < ends:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    user = codec.decode(record.value, QualifiedUser)
                    found.append(record.timestamp / 1000 - user.due_at.timestamp())
        return found
    finally:
        await consumer.stop()


def told(late: list[float]) -> str:
    p50, p99 = (late[int(len(late) * share)] for share in (0.5, 0.99))
    return f"p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms, worst {late[-1] * 1000:.0f} ms"


def memory(pid: int) -> str:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return f"the engine's memory at most {int(line.split()[1]) / 1000:,.0f} MB"
    return ""


if __name__ == "__main__":
    asyncio.run(main(int((sys.argv[1:] or ["1000000"])[0]), int((sys.argv[2:] or ["40"])[0])))
