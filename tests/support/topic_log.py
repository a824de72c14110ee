"""What is on a topic, for tests that ask again and again: every question reads only what came since the last one."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from postrider.kafka.clients import KafkaConfig, is_kafka_outage, make_consumer, start_client, stop_quietly

START_SECONDS = 30.0


class TopicLog:
    """Reads from the beginning, as nobody: it has no group. Close it."""

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config
        self._consumers: dict[str, AIOKafkaConsumer] = {}
        self._records: dict[str, list[ConsumerRecord]] = {}
        self._asking = asyncio.Lock()

    async def read(self, name: str) -> list[ConsumerRecord]:
        """All that is on the topic now, each partition in its order; nothing when there is no such topic."""
        async with self._asking:
            try:
                return await self._read(name)
            except Exception as error:
                if is_kafka_outage(error):
                    await self._forget(name)
                raise

    async def close(self) -> None:
        for name in list(self._consumers):
            await self._forget(name)

    async def _read(self, name: str) -> list[ConsumerRecord]:
        if name not in self._consumers:
            self._consumers[name] = make_consumer(self._config, None)
            self._records[name] = []
            await self._start(self._consumers[name], name)
        consumer, records = self._consumers[name], self._records[name]
        partitions = consumer.assignment()
        if not partitions:
            await self._forget(name)
            return []
        ends = await consumer.end_offsets(list(partitions))
        while any([await consumer.position(partition) < ends[partition] for partition in partitions]):
            for polled in (await consumer.getmany(timeout_ms=200)).values():
                records += polled
        return list(records)

    async def _start(self, consumer: AIOKafkaConsumer, name: str) -> None:
        await start_client(consumer.start(), START_SECONDS)
        await consumer._client.force_metadata_update()
        partitions = [TopicPartition(name, number) for number in consumer.partitions_for_topic(name) or ()]
        if partitions:
            consumer.assign(partitions)
            for partition, offset in (await consumer.beginning_offsets(partitions)).items():
                consumer.seek(partition, offset)

    async def _forget(self, name: str) -> None:
        self._records.pop(name)
        await stop_quietly(self._consumers.pop(name).stop(), "topic log")
