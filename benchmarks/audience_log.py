"""What the topics say of a run: when it was asked for and answered, and each of its jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from aiokafka import ConsumerRecord, TopicPartition

from postrider.contracts import codec
from postrider.contracts.audience import SNAPSHOT_REQUESTED, SNAPSHOTTED, ZONE_REQUESTED
from postrider.contracts.envelope import envelope_of
from postrider.contracts.send_jobs import SendJob
from postrider.contracts.topics import AUDIENCE_REQUESTS, QUALIFIED_USERS_BULK, SEND_JOBS_BULK, Topic
from postrider.kafka.clients import KafkaConfig, make_consumer

Offsets = Mapping[TopicPartition, int]


@dataclass
class Jobs:
    """Seconds by the broker's clock."""

    records: int = 0
    ids: set[str] = field(default_factory=set)
    first: float = float("inf")
    last: float = 0.0
    lateness: list[float] = field(default_factory=list)

    @property
    def keys(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Answered:
    """`snapshot`: seconds from request to answer. `first_zone`: when the first was asked for."""

    snapshot: float
    first_zone: float
    zones: int


def _partitions(topic: Topic, config: KafkaConfig) -> list[TopicPartition]:
    name = topic.full_name(config.topic_prefix)
    return [TopicPartition(name, number) for number in range(topic.partitions)]


async def ends(config: KafkaConfig, topic: Topic = SEND_JOBS_BULK) -> Offsets:
    consumer = make_consumer(config, None)
    await consumer.start()
    try:
        found: Offsets = await consumer.end_offsets(_partitions(topic, config))
        return found
    finally:
        await consumer.stop()


async def read_jobs(config: KafkaConfig, since: Offsets, campaign_id: str) -> Jobs:
    """All jobs behind those offsets; others than that campaign's are left out."""
    jobs = Jobs()
    async for record in _records(config, SEND_JOBS_BULK, since):
        job = codec.decode(record.value, SendJob)
        if job.campaign_id != campaign_id:
            continue
        at = record.timestamp / 1000
        jobs.records += 1
        jobs.ids.add(job.message_id)
        jobs.first, jobs.last = min(jobs.first, at), max(jobs.last, at)
        jobs.lateness.append(at - job.due_at.timestamp())
    return jobs


async def answered(config: KafkaConfig, run_id: str) -> Answered:
    asked = done = first = 0.0
    zones = set()
    async for record in _records(config, AUDIENCE_REQUESTS):
        type, id = envelope_of(record.headers).type, envelope_of(record.headers).id
        if type == SNAPSHOT_REQUESTED and id.startswith(run_id):
            asked = record.timestamp / 1000
        elif type == ZONE_REQUESTED and id.startswith(run_id):
            first = min(first or record.timestamp / 1000, record.timestamp / 1000)
            zones.add(id)
    async for record in _records(config, QUALIFIED_USERS_BULK):
        envelope = envelope_of(record.headers)
        if envelope.type == SNAPSHOTTED and envelope.id.endswith(run_id):
            done = record.timestamp / 1000
    return Answered(done - asked, first, len(zones))


async def _records(config: KafkaConfig, topic: Topic, since: Offsets | None = None) -> AsyncIterator[ConsumerRecord]:
    consumer = make_consumer(config, None, 5_000)
    await consumer.start()
    try:
        partitions = _partitions(topic, config)
        consumer.assign(partitions)
        starts = await consumer.beginning_offsets(partitions) if since is None else since
        upto = await consumer.end_offsets(partitions)
        for partition in partitions:
            consumer.seek(partition, starts[partition])
        left = {partition for partition in partitions if starts[partition] < upto[partition]}
        while left:
            for partition, records in (await consumer.getmany(*left, timeout_ms=500)).items():
                for record in records:
                    yield record
                if records and records[-1].offset >= upto[partition] - 1:
                    left.discard(partition)
    finally:
        await consumer.stop()
