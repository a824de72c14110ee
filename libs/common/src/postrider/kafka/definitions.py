"""Definitions in memory: compacted topics read without a group, to the end before anybody serves.

Older versions are ignored, and so is what cannot be read, a tombstone among it: we never publish one, a definition that
is over says `deleted`. `confirmed_within` says whether the view was compared with the log's end a moment ago:
the dispatcher claims nothing when it was not (delivery.md, rule 1).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import TypeVar

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from postrider import metrics
from postrider.clock import Clock, SystemClock
from postrider.contracts import codec
from postrider.contracts.codec import Unreadable
from postrider.contracts.definitions import (
    CAMPAIGN_TYPE,
    GROUP_TYPE,
    PROVIDER_TYPE,
    SEGMENT_TYPE,
    SETTINGS_TYPE,
    AccountSettings,
    CampaignDefinition,
    Definition,
    ProviderDefinition,
    ProviderGroupDefinition,
    SegmentDefinition,
    name_of,
    require_whole,
)
from postrider.contracts.envelope import envelope_of
from postrider.contracts.topics import (
    ACCOUNT_SETTINGS,
    CAMPAIGN_DEFINITIONS,
    PROVIDER_DEFINITIONS,
    SEGMENT_DEFINITIONS,
    Topic,
)
from postrider.health import Check
from postrider.kafka.clients import KafkaConfig, is_kafka_outage, make_consumer, start_client, stop_quietly
from postrider.kafka.log_ends import LogEnds
from postrider.logs import failure, log

__all__ = ["DEFINITION_TYPES", "Definition", "DefinitionsReader"]

D = TypeVar("D", CampaignDefinition, SegmentDefinition, ProviderDefinition, ProviderGroupDefinition)
POLL_SECONDS = 0.1
CONFIRM_SECONDS = 1.0

_KINDS: dict[str, tuple[str, type[Definition]]] = {
    CAMPAIGN_TYPE: (CAMPAIGN_DEFINITIONS.name, CampaignDefinition),
    SEGMENT_TYPE: (SEGMENT_DEFINITIONS.name, SegmentDefinition),
    PROVIDER_TYPE: (PROVIDER_DEFINITIONS.name, ProviderDefinition),
    GROUP_TYPE: (PROVIDER_DEFINITIONS.name, ProviderGroupDefinition),
    SETTINGS_TYPE: (ACCOUNT_SETTINGS.name, AccountSettings),
}
"""Type of a record → the topic it belongs on, and its shape."""


class DefinitionsReader:
    """A component (`run`). `on_change` is called in the event loop after the view has changed; it must not block.

    `on_unreadable` is told the key of a record that cannot be read: compaction will leave nothing else of that key.
    `confirm_seconds`: how often the view is compared with the logs' ends when nobody waits for it.
    """

    def __init__(
        self,
        config: KafkaConfig,
        topics: Sequence[Topic],
        on_change: Callable[[Definition], None] | None = None,
        check: Check | None = None,
        clock: Clock | None = None,
        confirm_seconds: float = CONFIRM_SECONDS,
        on_unreadable: Callable[[str], None] | None = None,
    ) -> None:
        self._config = config
        self._on_unreadable = on_unreadable
        self._confirm_seconds = confirm_seconds
        self._topics = {topic.full_name(config.topic_prefix): topic.name for topic in topics}
        self._names = list(self._topics)
        # On a connection of its own: the reader's is busy with a fetch that waits for news.
        self._ends = LogEnds(config, topics)
        self._on_change = on_change
        self._check = check
        self._clock = clock or SystemClock()
        self._read = asyncio.Event()
        self._confirmed_at = float("-inf")
        self._confirmation = asyncio.Condition()
        self._wanted = asyncio.Event()
        self._versions: dict[tuple[type[Definition], str], int] = {}
        self.campaigns: dict[str, CampaignDefinition] = {}
        self.segments: dict[str, SegmentDefinition] = {}
        self.providers: dict[str, ProviderDefinition] = {}
        self.groups: dict[str, ProviderGroupDefinition] = {}
        self.settings = AccountSettings()

    async def wait_until_read(self) -> None:
        """Until the topics were read to their ends once."""
        await self._read.wait()

    def confirmed_within(self, seconds: float) -> bool:
        """True when everything up to the logs' ends, as they were at most so long ago, is in the view."""
        return self._clock.monotonic() - self._confirmed_at <= seconds

    async def wait_until_confirmed(self) -> None:
        """Until the view holds everything that was in the log when this was called."""
        asked = self._clock.monotonic()
        while self._confirmed_at < asked:
            self._wanted.set()
            async with self._confirmation:
                await self._confirmation.wait()

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            consumer = make_consumer(self._config, None)
            try:
                await start_client(consumer.start(), 30)
                await self._follow(consumer, stop)
            except Exception as error:
                if not is_kafka_outage(error):
                    raise
                if self._check is not None:
                    self._check.down(type(error).__name__)
                log.warning("definitions_wait", **failure(error))
                await asyncio.sleep(0.5)
            finally:
                await stop_quietly(consumer.stop(), "definitions")
                await self._ends.close()

    async def _follow(self, consumer: AIOKafkaConsumer, stop: asyncio.Event) -> None:
        partitions = []
        for name in self._names:
            found = await self._partitions(consumer, name, stop)
            partitions += [TopicPartition(name, number) for number in sorted(found)]
        if stop.is_set():
            return
        consumer.assign(partitions)
        starts = await consumer.beginning_offsets(partitions)
        position = dict(starts)
        for partition in partitions:
            consumer.seek(partition, starts[partition])
        confirm = asyncio.create_task(self._confirm(consumer, position))
        try:
            while not stop.is_set():
                if confirm.done():
                    await confirm
                polled = await consumer.getmany(timeout_ms=int(POLL_SECONDS * 1000))
                for partition, records in polled.items():
                    for record in records:
                        self._apply(record)
                    position[partition] = records[-1].offset + 1
        finally:
            confirm.cancel()
            await asyncio.gather(confirm, return_exceptions=True)

    async def _partitions(self, consumer: AIOKafkaConsumer, name: str, stop: asyncio.Event) -> set[int]:
        while not stop.is_set():
            await consumer._client.force_metadata_update()
            found: set[int] | None = consumer.partitions_for_topic(name)
            if found:
                return found
            if self._check is not None:
                self._check.down(f"topic {name} does not exist")
            await asyncio.sleep(0.5)
        return set()

    async def _confirm(self, consumer: AIOKafkaConsumer, position: dict[TopicPartition, int]) -> None:
        """Asks for the logs' ends over and over; the view is confirmed as of the moment before the question.

        A compacted log may end in holes: then the consumer's own position, which skips them, is what counts.
        """
        while True:
            self._wanted.clear()
            asked = self._clock.monotonic()
            ends = {TopicPartition(*where): end for where, end in (await self._ends.fetch()).items()}
            for _ in range(200):
                behind = False
                for partition, end in ends.items():
                    if position[partition] < end and await consumer.position(partition) < end:
                        behind = True
                if not behind:
                    break
                await asyncio.sleep(0.005)
            else:
                continue
            self._confirmed_at = asked
            metrics.DEFINITIONS_CONFIRMED.set(asked)
            self._read.set()
            async with self._confirmation:
                self._confirmation.notify_all()
            if self._check is not None:
                self._check.up()
            # Sooner when somebody waits. Not `wait_for`: Python 3.11's forgets a cancellation that comes with the wish.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._confirm_seconds):
                    await self._wanted.wait()

    def _apply(self, record: ConsumerRecord) -> None:
        try:
            self._apply_value(record)
        except Unreadable as error:
            metrics.UNREADABLE.labels(record.topic).inc()
            log.error(
                "definition_unreadable",
                topic=record.topic,
                partition=record.partition,
                offset=record.offset,
                reason=error.reason,
            )
            if self._on_unreadable is not None and record.key is not None:
                self._on_unreadable(record.key.decode("utf-8", "replace"))

    def _apply_value(self, record: ConsumerRecord) -> None:
        if record.value is None:
            raise Unreadable("value is null")
        type = envelope_of(record.headers).type
        if type not in _KINDS:
            raise Unreadable("unknown type")
        topic, kind = _KINDS[type]
        if topic != self._topics[record.topic]:
            raise Unreadable(f"{type} does not belong on this topic")
        definition = codec.decode(record.value, kind)
        require_whole(definition)
        if name_of(definition).encode() != record.key:
            raise Unreadable("the key is not the id")
        match definition:
            case CampaignDefinition():
                self._set(self.campaigns, definition.campaign_id, definition)
            case SegmentDefinition():
                self._set(self.segments, definition.segment_id, definition)
            case ProviderDefinition():
                self._set(self.providers, definition.provider_id, definition)
            case ProviderGroupDefinition():
                self._set(self.groups, definition.group_id, definition)
            case AccountSettings():
                if definition.version >= self.settings.version:
                    self.settings = definition
                    self._changed(definition)

    def _set(self, view: dict[str, D], id: str, definition: D) -> None:
        version = definition.version
        name = type(definition), id
        if version < self._versions.get(name, 0):
            return
        repeated = version == self._versions.get(name)
        self._versions[name] = version
        if definition.deleted:
            view.pop(id, None)
        else:
            view[id] = definition
        if not repeated:
            self._changed(definition)

    def _changed(self, definition: Definition) -> None:
        if self._on_change is not None:
            self._on_change(definition)


DEFINITION_TYPES = (CAMPAIGN_TYPE, SEGMENT_TYPE, PROVIDER_TYPE, GROUP_TYPE, SETTINGS_TYPE)
