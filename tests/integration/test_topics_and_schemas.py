"""What exists before the services: topics as the registry says, schemas migrated once however many replicas start."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
import pytest
from aiokafka.admin import NewTopic

from postrider.contracts.topics import SEND_JOBS, TOPICS
from postrider.kafka.clients import KafkaConfig, is_kafka_outage, make_admin
from postrider.kafka.log_ends import LogEnds
from postrider.kafka.topics import create_topics, differences
from postrider.postgres.migrate import migrate

pytestmark = pytest.mark.integration
SERVICES = {
    "campaign-api": "campaign_api", "segment-engine": "segment_engine", "scheduler": "scheduler",
    "dispatcher": "dispatcher",
}  # fmt: skip


async def test_what_differs_from_the_registry_is_reported_and_not_changed(kafka: str, topic_prefix: str) -> None:
    config = KafkaConfig(kafka, topic_prefix + ".")
    name = SEND_JOBS.full_name(config.topic_prefix)
    admin = make_admin(config)
    try:
        await admin.start()
        await admin.create_topics(
            [NewTopic(name, 2, 1, topic_configs={"retention.ms": "1000", "max.message.bytes": "1048576"})]
        )
    finally:
        await admin.close()
    created = await create_topics(config)
    assert name not in created
    assert len(created) > len(TOPICS)
    assert await create_topics(config) == []
    assert await differences(config) == [
        f"{name}: 2 partitions, the registry says {SEND_JOBS.partitions}",
        f"{name}: message.timestamp.type is CreateTime, the registry says LogAppendTime",
        f"{name}: retention.ms is 1000, the registry says {(SEND_JOBS.retention_seconds or 0) * 1000}",
    ]


async def test_replicas_that_start_at_once_migrate_once(fresh_database: Callable[[], Awaitable[str]]) -> None:
    url = await fresh_database()
    await asyncio.gather(*(migrate(url, name, package) for name, package in SERVICES.items() for _ in range(4)))
    connection = await asyncpg.connect(url)
    try:
        for package in SERVICES.values():
            assert await connection.fetchval(f"SELECT count(*) FROM {package}.alembic_version") == 1
            assert await connection.fetchval("SELECT to_regclass($1)", f"{package}.consumer_progress") is not None
    finally:
        await connection.close()


async def test_a_topic_that_the_broker_does_not_know_is_waited_for(kafka: str, topic_prefix: str) -> None:
    """A broker on its way up may say so of any: it must end nobody."""
    ends = LogEnds(KafkaConfig(kafka, topic_prefix), [SEND_JOBS])
    with pytest.raises(Exception) as caught:
        await ends.fetch()
    await ends.close()
    assert is_kafka_outage(caught.value)
