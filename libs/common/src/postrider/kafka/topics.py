"""Creates the topics of the registry and their dead-letter topics: `python -m postrider.kafka.topics`.

Never changes or deletes a topic; what differs from the registry is reported.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code
from pydantic import Field, ValidationError

from postrider.contracts.topics import TOPICS, Topic
from postrider.kafka.clients import KafkaConfig, make_admin, start_client
from postrider.settings import KafkaSettings, explain

GROUPS: dict[str, tuple[str, ...]] = {topic.name: topic.consumers for topic in TOPICS}
DEAD_LETTER_RETENTION_SECONDS = 14 * 86_400
START_SECONDS = 30.0
KNOWN_SECONDS = 30.0


def new_topics(prefix: str, replication: int) -> list[NewTopic]:
    """The registry as Kafka's requests; a dead-letter topic for every consumer group."""
    wanted = []
    for topic in TOPICS:
        wanted.append(_new(topic.full_name(prefix), topic.partitions, replication, _settings(topic)))
        if topic.compacted:
            continue
        for group in topic.consumers:
            settings = {"retention.ms": str(DEAD_LETTER_RETENTION_SECONDS * 1000), "max.message.bytes": "2097152"}
            wanted.append(_new(topic.dead_letter_name(group, prefix), 1, replication, settings))
    return wanted


def _new(name: str, partitions: int, replication: int, settings: dict[str, str]) -> NewTopic:
    return NewTopic(name, partitions, replication, topic_configs=settings)


def _settings(topic: Topic) -> dict[str, str]:
    settings = {"message.timestamp.type": topic.timestamp, "max.message.bytes": str(topic.max_message_bytes)}
    if topic.compacted:
        settings |= {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.1", "segment.ms": "3600000"}
    elif topic.retention_seconds is not None:
        settings["retention.ms"] = str(topic.retention_seconds * 1000)
    return settings


async def create_topics(config: KafkaConfig, replication: int = 1) -> list[str]:
    """Creates what is missing; returns the names created, once the broker tells of them."""
    async with _admin(config) as admin:
        existing = set(await admin.list_topics())
        wanted = [topic for topic in new_topics(config.topic_prefix, replication) if topic.name not in existing]
        if not wanted:
            return []
        response = await admin.create_topics(wanted)
        created = []
        for name, code, *_ in response.topic_errors:
            error = for_code(code)
            if not code:
                created.append(name)
            elif error is not TopicAlreadyExistsError:
                raise KafkaError(f"{name}: {error.__name__}")
        await _until_known(admin, {topic.name for topic in wanted})
        return created


async def _until_known(admin: AIOKafkaAdminClient, names: set[str]) -> None:
    """The controller has made them; a busy broker hears of it seconds later, and until then they do not exist."""
    async with asyncio.timeout(KNOWN_SECONDS):
        known = set(await admin.list_topics())
        while not names <= known:
            await asyncio.sleep(0.05)
            known = set(await admin.list_topics())


async def differences(config: KafkaConfig, replication: int = 1) -> list[str]:
    """One line for each setting or partition count of an existing topic that is not the registry's."""
    wanted = {topic.name: topic for topic in new_topics(config.topic_prefix, replication)}
    async with _admin(config) as admin:
        described = await admin.describe_topics(list(wanted))
        found = []
        for each in described:
            name, count, planned = each["topic"], len(each["partitions"]), wanted[each["topic"]].num_partitions
            if count not in (0, planned):
                found.append(f"{name}: {count} partitions, the registry says {planned}")
        resources = [
            ConfigResource(ConfigResourceType.TOPIC, topic.name, configs=dict.fromkeys(topic.topic_configs))
            for topic in wanted.values()
        ]
        for response in await admin.describe_configs(resources):
            for code, _, _, name, settings in response.resources:
                if code:
                    raise KafkaError(f"{name}: {for_code(code).__name__}")
                now = {each[0]: each[1] for each in settings}
                for key, value in sorted(wanted[name].topic_configs.items()):
                    if now.get(key) != value:
                        found.append(f"{name}: {key} is {now.get(key)}, the registry says {value}")
    return found


@asynccontextmanager
async def _admin(config: KafkaConfig) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = make_admin(config)
    try:
        await start_client(admin.start(), START_SECONDS)
        yield admin
    finally:
        await admin.close()


class _Settings(KafkaSettings):
    topic_replication: int = Field(1, alias="POSTRIDER_TOPIC_REPLICATION", ge=1)


def main() -> None:
    try:
        settings = _Settings()  # type: ignore[call-arg]  # the environment supplies them
    except ValidationError as error:
        sys.exit(f"topics: {explain(error)}")
    try:
        config = settings.kafka_config("topics")
        created = asyncio.run(create_topics(config, settings.topic_replication))
        differing = asyncio.run(differences(config, settings.topic_replication))
    except (KafkaError, OSError) as error:
        servers = settings.kafka_bootstrap_servers
        sys.exit(f"topics: KAFKA_BOOTSTRAP_SERVERS: {servers}: {type(error).__name__} {error}")
    sys.stdout.write(f"topics created: {len(created)}\n")
    for line in differing:
        sys.stdout.write(f"differs: {line}\n")


if __name__ == "__main__":
    main()
