"""What every service still has to do, as its own tables and the broker say: for the checker, after the drain."""

from __future__ import annotations

import asyncio

import asyncpg
from aiokafka import TopicPartition
from sqlalchemy import make_url

from postrider.kafka.clients import KafkaConfig, make_consumer, start_client, stop_quietly

OPEN_STATES = ("QUEUED", "HELD", "DEFERRED", "SUBMITTING", "IN_DOUBT")
TRIES = 30
PATIENCE_SECONDS = 30.0


async def leftovers(database_url: str, bootstrap_servers: str) -> dict[str, int]:
    """By what it is. What is there at first may be on its way: it gets some time."""
    connection = await asyncpg.connect(
        make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)
    )
    found: dict[str, int] = {}
    try:
        for _ in range(TRIES):
            found = await _now(connection, bootstrap_servers)
            if not any(found.values()):
                break
            await asyncio.sleep(1)
    finally:
        await connection.close()
    return found


async def _now(connection: asyncpg.Connection, bootstrap_servers: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for schema, table in await _tables(connection, "%outbox"):
        counts[f"{schema}.{table}"] = await connection.fetchval(f"SELECT count(*) FROM {schema}.{table}")
    for state in OPEN_STATES:
        query = "SELECT count(*) FROM dispatcher.ledger WHERE state = $1"
        counts[f"dispatcher.ledger {state}"] = await connection.fetchval(query, state)
    counts["dispatcher.receipts not applied"] = await connection.fetchval(
        "SELECT count(*) FROM dispatcher.receipts WHERE next_at IS NOT NULL"
    )
    read: list[tuple[str, TopicPartition, int]] = []
    for schema, table in await _tables(connection, "consumer_progress"):
        rows = await connection.fetch(f"SELECT consumer_group, topic, partition, next_offset FROM {schema}.{table}")
        read += [(row[0], TopicPartition(row[1], row[2]), row[3]) for row in rows]
    consumer = make_consumer(KafkaConfig(bootstrap_servers), None)
    await start_client(consumer.start(), PATIENCE_SECONDS)
    try:
        ends = await consumer.end_offsets([partition for _, partition, _ in read])
    finally:
        await stop_quietly(consumer.stop(), "consumer")
    for group, partition, offset in read:
        counts[f"{group}, {partition.topic}: records not read"] = (
            counts.get(f"{group}, {partition.topic}: records not read", 0) + ends[partition] - offset
        )
    return counts


async def _tables(connection: asyncpg.Connection, like: str) -> list[tuple[str, str]]:
    rows = await connection.fetch("SELECT schemaname, tablename FROM pg_tables WHERE tablename LIKE $1", like)
    return [(row[0], row[1]) for row in rows]
