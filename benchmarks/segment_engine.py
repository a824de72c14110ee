"""Events per second through the segment-engine's two groups together: deduplicated, stored, matched, published.

`python -m benchmarks.segment_engine [events] [seconds]`: fills user-events first, then lets one engine (in its own
process, as in production) work it off, and prints the rate and what Postgres was told about durability.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

from postrider.clock import SystemClock
from postrider.contracts.definitions import (
    CAMPAIGN_TYPE,
    CampaignDefinition,
    References,
    Trigger,
    What,
    When,
    Who,
)
from postrider.contracts.envelope import Outgoing, headers_of
from postrider.contracts.topics import CAMPAIGN_DEFINITIONS, USER_EVENTS
from postrider.kafka.clients import KafkaConfig
from postrider.kafka.publisher import Publisher
from postrider.kafka.topics import create_topics
from postrider.postgres import progress
from postrider.postgres.database import open_database, service_url
from postrider.postgres.migrate import migrate
from tests.support.parts import session_parts

USERS = 20_000
HITS_PER_HUNDRED = 5
GROUPS = ("segment-engine-live", "segment-engine-history")
DURABILITY = ("fsync", "synchronous_commit", "full_page_writes")


def event(number: int) -> dict[str, Any]:
    return {
        "type": "track",
        "messageId": f"m-{number}",
        "userId": f"u-{number % USERS}",
        "event": "Order Completed" if number % 100 < HITS_PER_HUNDRED else f"Event {number % 20}",
        "timestamp": SystemClock().now().isoformat(),
        "properties": {"amount": 50 + number % 100, "currency": "USD", "items": ["a", "b"], "city": "Pune"},
    }


def identify(number: int) -> dict[str, Any]:
    traits = {"phone": f"+1555{2000000 + number}", "first_name": "Ann", "city": "Pune"}
    return {"type": "identify", "messageId": f"i-{number}", "userId": f"u-{number}", "traits": traits}


async def main(events: int, seconds: float) -> None:
    async with session_parts() as parts:
        bootstrap, owner = await parts.start_kafka(), await parts.start_postgres()
        config = KafkaConfig(bootstrap)
        await create_topics(config)
        await migrate(owner, "segment-engine", "segment_engine")
        publisher = Publisher(config)
        await publisher.start()
        topic = USER_EVENTS.full_name(config.topic_prefix)
        await _publish(publisher, topic, [identify(number) for number in range(USERS)])
        campaign = CampaignDefinition(
            "cmp_1", 1, "running", "live_action", "Bench", "transactional", When(send_by_seconds=3600),
            Who(trigger=Trigger("Order Completed", [{"property": "amount", "op": "gt", "value": 50}])), 1,
            {"1": What("Hi", References(["first_name"], ["amount"]))}, SystemClock().now(),
        )  # fmt: skip
        headers = headers_of("d-1", CAMPAIGN_TYPE, "bench", SystemClock().now())
        definitions = CAMPAIGN_DEFINITIONS.full_name(config.topic_prefix)
        await publisher.publish([Outgoing(definitions, b"cmp_1", msgspec.json.encode(campaign), headers)])
        with tempfile.TemporaryDirectory(dir=Path(".local")) as folder:
            environment = {
                **os.environ,
                "KAFKA_BOOTSTRAP_SERVERS": bootstrap,
                "DATABASE_URL": owner,
                "POSTRIDER_SERVICE_TOKEN": "t" * 32,
                "POSTRIDER_EVENT_STORE_PATH": folder,
                "POSTRIDER_DEDUP_KEY": "ab" * 16,
                "POSTRIDER_PHONE_HASH_KEY": "cd" * 32,
                "POSTRIDER_SEGMENT_ENGINE_PORT": "0",
            }
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "segment_engine", env=environment, stdout=asyncio.subprocess.DEVNULL
            )
            try:
                await _measure(owner, publisher, topic, events, seconds)
            finally:
                process.terminate()
                await process.wait()
        await publisher.stop()


async def _measure(owner: str, publisher: Publisher, topic: str, events: int, seconds: float) -> None:
    database = open_database(service_url(owner, "segment-engine"), "segment_engine")

    async def done() -> int:
        """Records both groups are past."""
        return min([sum((await progress.positions(database, g)).values()) for g in (*GROUPS,)])

    async with asyncio.timeout(60):
        begun = await _until(done, USERS)
    start = time.monotonic()
    for first in range(0, events, 20_000):
        await _publish(publisher, topic, [event(n) for n in range(first, min(events, first + 20_000))])
    filled = time.monotonic() - start
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds - filled):
            await _until(done, begun + events)
    now = await done()
    took = time.monotonic() - start
    connection = await asyncpg.connect(owner)
    durability = {name: await connection.fetchval(f"SHOW {name}") for name in DURABILITY}
    await connection.close()
    await database.close()
    print(f"events through both groups: {(now - begun) / took:,.0f}/s ({now - begun:,} in {took:.1f} s, "
          f"filling the topic took {filled:.1f} s of it; {HITS_PER_HUNDRED} % qualify)")  # fmt: skip
    print("Postgres:", ", ".join(f"{name}={value}" for name, value in durability.items()))


async def _until(count: Callable[[], Awaitable[int]], wanted: int) -> int:
    while (now := await count()) < wanted:  # noqa: ASYNC110  # another process counts
        await asyncio.sleep(0.05)
    return now


async def _publish(publisher: Publisher, topic: str, messages: list[dict[str, Any]]) -> None:
    await publisher.publish([Outgoing(topic, m["userId"].encode(), msgspec.json.encode(m)) for m in messages])


if __name__ == "__main__":
    asyncio.run(main(int((sys.argv[1:] or ["200000"])[0]), float((sys.argv[2:] or ["20"])[0])))
