"""Publishing in batches: one batch per partition, every acknowledgement awaited, stage by stage.

An idempotent producer is out of sequence after a terminal error, so it is rebuilt; whoever called publishes again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import groupby

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from postrider import metrics
from postrider.contracts.envelope import Outgoing
from postrider.health import Check
from postrider.kafka.clients import KafkaConfig, make_producer, partition_for, stop_quietly
from postrider.logs import log
from postrider.postgres.outbox import PublishFailed

ACKNOWLEDGE_SECONDS = 20.0


class Publisher:
    """One producer for a process. Safe to call from many tasks."""

    def __init__(self, config: KafkaConfig, check: Check | None = None) -> None:
        self._config = config
        self._check = check
        self._producer: AIOKafkaProducer | None = None
        self._partitions: dict[str, int] = {}
        self._rebuilding = asyncio.Lock()
        self._round_robin = 0

    async def start(self) -> None:
        """Connects. Raises `PublishFailed` when no broker answers."""
        try:
            await self._current()
        except (KafkaError, OSError, TimeoutError) as error:
            if self._check is not None:
                self._check.down(type(error).__name__)
            raise PublishFailed(type(error).__name__) from error

    async def stop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await stop_quietly(producer.stop(), "producer")

    async def publish(self, records: Sequence[Outgoing]) -> None:
        """Returns when every record is acknowledged by all replicas. Raises `PublishFailed`, `RecordTooLarge`."""
        for record in records:
            record.check_size()
        producer = None
        try:
            producer = await self._current()
            for _, stage in groupby(sorted(records, key=lambda record: record.stage), key=lambda record: record.stage):
                async with asyncio.timeout(ACKNOWLEDGE_SECONDS):
                    await self._publish_stage(producer, list(stage))
        except (KafkaError, OSError, TimeoutError) as error:
            if self._check is not None:
                self._check.down(type(error).__name__)
            await self._discard(producer)
            raise PublishFailed(type(error).__name__) from error
        if self._check is not None:
            self._check.up()

    async def _publish_stage(self, producer: AIOKafkaProducer, records: list[Outgoing]) -> None:
        by_partition: dict[tuple[str, int], list[Outgoing]] = {}
        for record in records:
            count = self._partitions.get(record.topic)
            if count is None:
                count = self._partitions[record.topic] = len(await producer.partitions_for(record.topic))
            if record.partition is not None:
                partition = record.partition
            elif record.key is None:
                self._round_robin += 1
                partition = self._round_robin % count
            else:
                partition = partition_for(record.key, count)
            by_partition.setdefault((record.topic, partition), []).append(record)
        await asyncio.gather(
            *(
                self._publish_partition(producer, topic, partition, rows)
                for (topic, partition), rows in by_partition.items()
            )
        )

    async def _publish_partition(
        self, producer: AIOKafkaProducer, topic: str, partition: int, records: list[Outgoing]
    ) -> None:
        acknowledgements = []
        batch = producer.create_batch()
        for record in records:
            arguments = {"key": record.key, "value": record.value, "headers": list(record.headers), "timestamp": None}
            if batch.append(**arguments) is None:
                acknowledgements.append(await producer.send_batch(batch, topic, partition=partition))
                batch = producer.create_batch()
                if batch.append(**arguments) is None:
                    acknowledgements.append(
                        await producer.send(topic, record.value, record.key, partition, headers=list(record.headers))
                    )
        if batch.record_count():
            acknowledgements.append(await producer.send_batch(batch, topic, partition=partition))
        for acknowledgement in acknowledgements:
            await acknowledgement
        metrics.RECORDS_PUBLISHED.labels(topic).inc(len(records))

    async def _current(self) -> AIOKafkaProducer:
        if self._producer is not None:
            return self._producer
        async with self._rebuilding:
            if self._producer is None:
                producer = make_producer(self._config)
                try:
                    await asyncio.wait_for(producer.start(), ACKNOWLEDGE_SECONDS)
                except BaseException:
                    await stop_quietly(producer.stop(), "producer")
                    raise
                self._producer = producer
                self._partitions.clear()
                if self._check is not None:
                    self._check.up()
            return self._producer

    async def _discard(self, producer: AIOKafkaProducer | None) -> None:
        """Whoever sees the failure first throws the producer away; others see a new one."""
        if producer is None or producer is not self._producer:
            return
        self._producer = None
        log.warning("producer_rebuilt")
        closing: AIOKafkaProducer = producer
        await stop_quietly(closing.stop(), "producer")
