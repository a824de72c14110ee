"""Looks at dead letters and replays them: `python -m postrider.kafka.dead_letters_cli list`, `show` and `replay`.

`show` prints where each letter came from and why it died; values hold personal data and are printed only when asked
for. `replay` puts letters back on the topic they came from and remembers how far it got: a second call does the rest.
Consumers recognise a record that they have had, so a replay that dies half-way may be repeated.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from pydantic import ValidationError

from postrider.kafka.clients import KafkaConfig, make_consumer, start_client, stop_quietly
from postrider.kafka.dead_letters import original
from postrider.kafka.publisher import Publisher
from postrider.postgres.outbox import PublishFailed
from postrider.settings import KafkaSettings, explain

SUFFIX = ".dlq"
REPLAY_GROUP = "dead-letters-replayed"
BATCH = 500
START_SECONDS = 30.0


class NoSuchTopic(Exception):
    """Its text lists those there are."""


def say(line: str) -> None:
    sys.stdout.write(line + "\n")


@asynccontextmanager
async def _letters(config: KafkaConfig) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = make_consumer(config, REPLAY_GROUP)
    try:
        await start_client(consumer.start(), START_SECONDS)
        yield consumer
    finally:
        await stop_quietly(consumer.stop(), "dead letters")


async def _topics(consumer: AIOKafkaConsumer, prefix: str) -> list[str]:
    return sorted(name for name in await consumer.topics() if name.startswith(prefix) and name.endswith(SUFFIX))


async def _assign(consumer: AIOKafkaConsumer, topic: str, prefix: str) -> tuple[TopicPartition, int, int, int]:
    """The one partition of a dead-letter topic, with its first, first not replayed, and end offset."""
    names = await _topics(consumer, prefix)
    if topic not in names:
        raise NoSuchTopic(f"{topic} is no dead-letter topic; there are:\n  " + "\n  ".join(names))
    partition = TopicPartition(topic, 0)
    consumer.assign([partition])
    first = (await consumer.beginning_offsets([partition]))[partition]
    end = (await consumer.end_offsets([partition]))[partition]
    replayed = await consumer.committed(partition)
    return partition, first, max(first, replayed or 0), end


async def _read(
    consumer: AIOKafkaConsumer, partition: TopicPartition, start: int, end: int
) -> AsyncIterator[list[ConsumerRecord]]:
    consumer.seek(partition, start)
    while start < end:
        polled = await consumer.getmany(partition, timeout_ms=1000, max_records=BATCH)
        records = [record for record in polled.get(partition, []) if record.offset < end]
        if not records:
            start = await consumer.position(partition)
            continue
        start = records[-1].offset + 1
        yield records


async def show_topics(config: KafkaConfig) -> None:
    """Every dead-letter topic with letters, how many of them were replayed, and what they died of."""
    async with _letters(config) as consumer:
        some = False
        for topic in await _topics(consumer, config.topic_prefix):
            partition, first, unreplayed, end = await _assign(consumer, topic, config.topic_prefix)
            if end == first:
                continue
            some = True
            reasons: Counter[str] = Counter()
            async for records in _read(consumer, partition, first, end):
                reasons.update(_header(record, "reason") for record in records)
            say(f"{topic}: {end - first} letters, {end - unreplayed} not replayed")
            for reason, count in reasons.most_common(10):
                say(f"  {count:>7}  {reason}")
        if not some:
            say("no dead letters")


async def show(config: KafkaConfig, topic: str, limit: int, values: bool) -> None:
    """The newest `limit` letters of a topic."""
    async with _letters(config) as consumer:
        partition, first, _, end = await _assign(consumer, topic, config.topic_prefix)
        async for records in _read(consumer, partition, max(first, end - limit), end):
            for record in records:
                where = "-".join(_header(record, name) for name in ("topic", "partition", "offset"))
                say(f"{record.offset}: {where}, {len(record.value or b'')} bytes: {_header(record, 'reason')}")
                if values:
                    say(f"    key {record.key!r}\n    {(record.value or b'').decode('utf-8', 'backslashreplace')}")


async def replay(config: KafkaConfig, topic: str, everything: bool) -> None:
    """Puts back what was not replayed yet (or everything); what is not whole is left and said."""
    publisher = Publisher(config)
    try:
        async with _letters(config) as consumer:
            partition, first, unreplayed, end = await _assign(consumer, topic, config.topic_prefix)
            start = first if everything else unreplayed
            done = left = 0
            async for records in _read(consumer, partition, start, end):
                whole = []
                for record in records:
                    try:
                        whole.append(original(record))
                    except ValueError as error:
                        left += 1
                        say(f"{record.offset}: not replayed: {error}")
                await publisher.publish(whole)
                await consumer.commit({partition: records[-1].offset + 1})
                done += len(whole)
                say(f"replayed {done} of {end - start}")
            say(f"done: {done} replayed, {left} left")
    finally:
        await publisher.stop()


def _header(record: ConsumerRecord, name: str) -> str:
    found: bytes | None = dict(record.headers).get(name)
    return (found or b"?").decode("utf-8", "replace")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m postrider.kafka.dead_letters_cli", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="every dead-letter topic that has letters")
    showing = commands.add_parser("show", help="the newest letters of one topic")
    showing.add_argument("topic")
    showing.add_argument("--limit", type=int, default=50)
    showing.add_argument("--values", action="store_true", help="keys and values too: they hold personal data")
    replaying = commands.add_parser("replay", help="put letters back on the topic they came from")
    replaying.add_argument("topic")
    replaying.add_argument("--all", action="store_true", help="also those that were replayed before")
    given = parser.parse_args()
    try:
        config = KafkaSettings().kafka_config("dead-letters")  # type: ignore[call-arg]  # from the environment
        match given.command:
            case "list":
                asyncio.run(show_topics(config))
            case "show":
                asyncio.run(show(config, given.topic, max(1, given.limit), given.values))
            case _:
                asyncio.run(replay(config, given.topic, given.all))
    except ValidationError as error:
        sys.exit(f"dead letters: {explain(error)}")
    except (NoSuchTopic, KafkaError, PublishFailed, OSError) as error:
        sys.exit(f"error: {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
