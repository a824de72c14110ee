"""Where the logs end now: the question behind every barrier ("has the reader passed what was there when I asked?").

Reads nothing but ends, except to find out whether a log ends in records that no reader ever gets (markers of foreign
transactions).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import UnknownTopicOrPartitionError

from postrider.contracts.topics import Topic
from postrider.kafka.clients import KafkaConfig, is_kafka_outage, make_consumer, start_client, stop_quietly

ANSWER_SECONDS = 10.0
PROBE_SECONDS = 0.5


class LogEnds:
    """One consumer without a group, connected at the first question. Safe to ask from many tasks."""

    def __init__(self, config: KafkaConfig, topics: Sequence[Topic]) -> None:
        self._config = config
        self._names = [topic.full_name(config.topic_prefix) for topic in topics]
        self._consumer: AIOKafkaConsumer | None = None
        self._asking = asyncio.Lock()

    async def fetch(self) -> dict[tuple[str, int], int]:
        """The next offset of every partition, not older than the call. Raises what Kafka raises."""
        async with self._asking:
            try:
                consumer = await self._connected()
                partitions = []
                for name in self._names:
                    numbers = await self._numbers(consumer, name)
                    partitions += [TopicPartition(name, number) for number in sorted(numbers)]
                async with asyncio.timeout(ANSWER_SECONDS):
                    ends = await consumer.end_offsets(partitions)
            except Exception as error:
                if is_kafka_outage(error):
                    await self._disconnect()
                raise
            return {(partition.topic, partition.partition): end for partition, end in ends.items()}

    async def is_empty_between(self, topic: str, partition: int, start: int, end: int) -> bool:
        """Whether no record is left for a reader at `start` before `end`."""
        consumer = make_consumer(self._config, None)
        try:
            await start_client(consumer.start(), ANSWER_SECONDS)
            where = TopicPartition(topic, partition)
            consumer.assign([where])
            consumer.seek(where, start)
            polled = await consumer.getmany(where, timeout_ms=int(PROBE_SECONDS * 1000), max_records=1)
            return not any(polled.values()) and await consumer.position(where) >= end
        finally:
            await stop_quietly(consumer.stop(), "probe")

    async def partitions_of(self, topic: Topic) -> int:
        """How many partitions the topic has. Raises what Kafka raises, also when it does not exist."""
        async with self._asking:
            consumer = await self._connected()
            numbers = await self._numbers(consumer, topic.full_name(self._config.topic_prefix))
            return len(numbers)

    async def close(self) -> None:
        await self._disconnect()

    async def _connected(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            consumer = make_consumer(self._config, None)
            try:
                await start_client(consumer.start(), ANSWER_SECONDS)
            except BaseException:
                await stop_quietly(consumer.stop(), "log ends")
                raise
            self._consumer = consumer
        return self._consumer

    async def _numbers(self, consumer: AIOKafkaConsumer, name: str) -> set[int]:
        found: set[int] | None = consumer.partitions_for_topic(name)
        if not found:
            await consumer._client.force_metadata_update()
            found = consumer.partitions_for_topic(name)
        if not found:
            # A start makes sure that every topic exists: the broker is on its way up, or does not answer.
            raise UnknownTopicOrPartitionError(name)
        return found

    async def _disconnect(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await stop_quietly(consumer.stop(), "log ends")
