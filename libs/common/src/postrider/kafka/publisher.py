"""Publishing in batches: one batch per partition, every acknowledgement awaited, stage by stage.

An idempotent producer is out of sequence after a terminal error, so it is rebuilt; whoever called publishes again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from postrider import metrics
from postrider.contracts.envelope import Outgoing
from postrider.health import Check
from postrider.kafka.clients import KafkaConfig, make_producer, partition_for, start_client, stop_quietly
from postrider.logs import log
from postrider.postgres.outbox import PublishFailed

ACKNOWLEDGE_SECONDS = 20.0
CONCURRENT_FLUSHES = 2


@dataclass(frozen=True, slots=True, eq=False)
class _Call:
    records: Sequence[Outgoing]
    acknowledged: asyncio.Future[None]


def _end(calls: Sequence[_Call], error: Exception | None) -> None:
    """Tells every caller that has not given up."""
    for call in calls:
        if call.acknowledged.done():
            continue
        if error is None:
            call.acknowledged.set_result(None)
        else:
            call.acknowledged.set_exception(error)


class Publisher:
    """One producer for a process. Safe to call from many tasks."""

    def __init__(self, config: KafkaConfig, check: Check | None = None) -> None:
        self._config = config
        self._check = check
        self._producer: AIOKafkaProducer | None = None
        self._partitions: dict[str, int] = {}
        self._connecting: asyncio.Task[AIOKafkaProducer] | None = None
        self._round_robin = 0
        self._calls: list[_Call] = []
        self._flushes: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Connects. Raises `PublishFailed` when no broker answers."""
        try:
            await self._current()
        except (KafkaError, OSError, TimeoutError) as error:
            if self._check is not None:
                self._check.down(type(error).__name__)
            raise PublishFailed(type(error).__name__) from error

    async def stop(self) -> None:
        """Ends what is under way: whoever still waits hears `PublishFailed`, and nothing connects any more."""
        calls, self._calls = self._calls, []
        under_way = {*self._flushes, *([] if self._connecting is None else [self._connecting])}
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        _end(calls, PublishFailed("Stopped"))
        producer, self._producer = self._producer, None
        if producer is not None:
            await stop_quietly(producer.stop(), "producer")

    async def publish(self, records: Sequence[Outgoing]) -> None:
        """Returns when every record is acknowledged by all replicas. Raises `PublishFailed`, `RecordTooLarge`.

        Calls that come while others are under way go out together: many small ones cost as much as a few large ones.
        """
        for record in records:
            record.check_size()
        if not records:
            return
        call = _Call(records, asyncio.get_running_loop().create_future())
        self._calls.append(call)
        self._flush()
        await call.acknowledged

    def _flush(self) -> None:
        self._calls = [call for call in self._calls if not call.acknowledged.done()]  # others have given up
        if self._calls and len(self._flushes) < CONCURRENT_FLUSHES:
            calls, self._calls = self._calls, []
            flush = asyncio.create_task(self._send(calls))
            self._flushes.add(flush)
            flush.add_done_callback(self._flushed)

    def _flushed(self, flush: asyncio.Task[None]) -> None:
        self._flushes.discard(flush)
        self._flush()

    async def _send(self, calls: Sequence[_Call]) -> None:
        producer, failed = None, ""
        try:
            producer = await self._current()
            await self._send_by_stage(producer, [record for call in calls for record in call.records])
        except (KafkaError, OSError, TimeoutError) as error:
            failed = type(error).__name__
            if self._check is not None:
                self._check.down(failed)
            await self._discard(producer)
        except Exception as bug:  # noqa: BLE001  # whoever called has to hear of it
            _end(calls, bug)
            return
        except BaseException:
            _end(calls, PublishFailed("Cancelled"))
            raise
        if failed:
            _end(calls, PublishFailed(failed))
            return
        if self._check is not None:
            self._check.up()
        _end(calls, None)

    async def _send_by_stage(self, producer: AIOKafkaProducer, records: Sequence[Outgoing]) -> None:
        for _, stage in groupby(sorted(records, key=lambda record: record.stage), key=lambda record: record.stage):
            async with asyncio.timeout(ACKNOWLEDGE_SECONDS):
                await self._publish_stage(producer, list(stage))

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
        """The producer; whoever needs one while it is being made shares that one attempt, its failure too."""
        if self._producer is not None:
            return self._producer
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect())
            self._connecting.add_done_callback(self._connected)
        return await asyncio.shield(self._connecting)

    async def _connect(self) -> AIOKafkaProducer:
        producer = make_producer(self._config)
        try:
            await start_client(producer.start(), ACKNOWLEDGE_SECONDS)
        except BaseException:
            await stop_quietly(producer.stop(), "producer")
            raise
        self._producer = producer
        self._partitions.clear()
        if self._check is not None:
            self._check.up()
        return producer

    def _connected(self, attempt: asyncio.Task[AIOKafkaProducer]) -> None:
        self._connecting = None
        if not attempt.cancelled():
            attempt.exception()  # whoever waited has it; nobody may wait any more

    async def _discard(self, producer: AIOKafkaProducer | None) -> None:
        """Whoever sees the failure first throws the producer away; others see a new one."""
        if producer is None or producer is not self._producer:
            return
        self._producer = None
        log.warning("producer_rebuilt")
        closing: AIOKafkaProducer = producer
        await stop_quietly(closing.stop(), "producer")
