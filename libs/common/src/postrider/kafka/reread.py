"""Reads a part of a log once more, without a group: for commands that rebuild something. Commits nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

from aiokafka import TopicPartition

from postrider.kafka.clients import KafkaConfig, make_consumer, start_client, stop_quietly

START_SECONDS = 30.0
POLL_MILLISECONDS = 1_000


class LogCutOff(Exception):
    """The log ends before what is to be read of it: it is another one, or has lost records."""


class Stretch(NamedTuple):
    """Some records of a partition, and the offset behind them (behind those that nobody gets, too)."""

    records: list[Any]
    position: int


async def starts_of(config: KafkaConfig, topic: str, partitions: Sequence[int]) -> dict[int, int]:
    """Partition → its first offset that is still there."""
    consumer = make_consumer(config, None)
    try:
        await start_client(consumer.start(), START_SECONDS)
        found = await consumer.beginning_offsets([TopicPartition(topic, partition) for partition in partitions])
        return {place.partition: offset for place, offset in found.items()}
    finally:
        await stop_quietly(consumer.stop(), "reread")


async def read_below(
    config: KafkaConfig, topic: str, partition: int, start: int, upto: int, max_records: int
) -> AsyncIterator[Stretch]:
    """All from `start` to below the offset `upto`, in order. Raises `LogCutOff`."""
    consumer = make_consumer(config, None, max_records)
    place = TopicPartition(topic, partition)
    try:
        await start_client(consumer.start(), START_SECONDS)
        end = (await consumer.end_offsets([place]))[place]
        if end < upto:
            raise LogCutOff(f"{topic}, partition {partition}, ends at {end}: there should be records up to {upto}")
        consumer.assign([place])
        consumer.seek(place, start)
        position = start
        while position < upto:
            polled = await consumer.getmany(place, timeout_ms=POLL_MILLISECONDS, max_records=max_records)
            records = [record for record in polled.get(place, []) if record.offset < upto]
            position = await consumer.position(place)
            yield Stretch(records, min(position, upto))
    finally:
        await stop_quietly(consumer.stop(), "reread")
