"""The consumer loop: one Postgres transaction per batch, in which the offset and its effects move together.

Order of a batch's transaction: (1) advance `consumer_progress` by compare-and-set, (2) the handler's state,
(3) one outbox row with what is to be published. After the commit: publish, then tell Kafka the offset as a hint for
lag tools. "And if we die here?" has the same answer at each await: the transaction happened or it did not.

A record that cannot be decoded goes to `<topic>.<group>.dlq`. A record on which the handler fails again and again is
found by halving its batch and goes there too. An outage (Postgres, Kafka) is waited for and never a dead letter.
Too many dead letters stop the consumer, not the process: a bad deploy must not drain a topic.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError

from postrider import metrics
from postrider.clock import Clock, SystemClock
from postrider.contracts.codec import Unreadable
from postrider.contracts.envelope import Outgoing
from postrider.contracts.topics import Topic
from postrider.health import Check
from postrider.kafka.batch import Batch, Decode, Handler, Range, Received
from postrider.kafka.buffers import Buffer, Buffers, parts_of
from postrider.kafka.clients import KafkaConfig, is_kafka_outage, make_consumer, start_client, stop_quietly
from postrider.kafka.dead_letters import DeadLetterLimit, TooManyDeadLetters, dead_letter
from postrider.kafka.suspects import Suspects
from postrider.kafka.watchdog import Stuck, Watchdog
from postrider.logs import failure, log
from postrider.postgres import progress
from postrider.postgres.database import Database, is_outage
from postrider.postgres.outbox import Outbox, Pending

__all__ = ["Batch", "ConsumerLoop", "ConsumerRecord", "Decode", "Handler", "OffsetLost", "Range", "Received", "Stuck"]

T = TypeVar("T")

HINT_SECONDS = 2.0
POLL_SECONDS = 0.2
MAX_BYTES = 4 * 1024 * 1024
"""Of one batch: as a thousand ordinary records have, and few enough of the largest ones."""
NO_SECONDS = 0.001
NAP_SECONDS = 0.1
LAST_LOOK_SECONDS = 0.004
LITTLE = 0.05
LEAST_POLLED = 24
DECODED_AT_ONCE = 250
"""Records after which others get their turn: the loop must not stand still for long."""
BACK_OFF_SECONDS = (0.1, 0.3, 1.0, 2.0)


class OffsetLost(Exception):
    """A stored offset lies outside the log. Never reset automatically: somebody has to decide what was lost."""


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Pauses before the first await; the loop itself takes over, seeks and resumes."""

    def __init__(self, loop: ConsumerLoop[Any]) -> None:
        self._loop = loop

    def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        self._loop._forget(revoked)

    def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        self._loop._adopt(assigned)


class ConsumerLoop(Generic[T]):
    """A component (`run`). `linger_seconds`: how long a batch may wait to fill. `pace_seconds`: the least time between
    two batches; a record that comes after a pause waits for nothing. `hurry` cuts both short.

    `planned`: commit each range before it is worked on and replay exactly that range after a takeover; a handler that
    fails on such a batch stops the process, since the range cannot be split. `lanes`, of a planned group: a batch is so
    many transactions side by side, each of partitions of its own; what one waits for, another works.
    """

    def __init__(
        self,
        config: KafkaConfig,
        database: Database,
        outbox: Outbox,
        group: str,
        topics: Sequence[Topic],
        decode: Decode[T],
        handler: Handler[T],
        *,
        max_records: int = 500,
        max_bytes: int = MAX_BYTES,
        linger_seconds: float = 0.0,
        pace_seconds: float = 0.0,
        planned: bool = False,
        lanes: int = 1,
        after_commit: Callable[[], Awaitable[None]] | None = None,
        check: Check | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._config = config
        self._database = database
        self._outbox = outbox
        self._group = group
        self._topics = {topic.full_name(config.topic_prefix): topic for topic in topics}
        self._decode = decode
        self._handler = handler
        # aiokafka drains one partition before it turns to the next: a batch of few shall not come from one alone.
        self._max_records = max_records
        self._poll_records = max(max_records, LEAST_POLLED)
        self._little = max_records * LITTLE
        self._owned: Buffers[TopicPartition, ConsumerRecord] = Buffers(max_records, max_bytes)
        self._linger = linger_seconds
        self._pace = pace_seconds
        self._begun_at = float("-inf")
        assert lanes == 1 or planned  # what fails is looked for in one transaction
        self._planned = planned
        self._lanes = lanes
        self._decoding = asyncio.Lock()
        self._after_commit = after_commit
        self._check = check
        self._clock = clock or SystemClock()
        self.hurry = asyncio.Event()
        self._consumer: AIOKafkaConsumer | None = None
        self._orphans: set[TopicPartition] = set()
        self._suspects: Suspects[TopicPartition] = Suspects()
        self._dead_letters = DeadLetterLimit(config.dead_letters_per_minute)
        self._watchdog = Watchdog(config, group, topics, lambda: self.positions, self._clock)
        self._publishing: asyncio.Task[None] | None = None
        self._hint_at = 0.0

    @property
    def positions(self) -> dict[tuple[str, int], int]:
        """Committed next offsets of the partitions owned here."""
        return {(tp.topic, tp.partition): self._owned[tp].next_offset for tp in self._owned}

    async def run(self, stop: asyncio.Event) -> None:
        """Consumes until `stop`, waiting through outages. Raises `OffsetLost`, `Stuck`, and what planned handlers
        raise."""
        metrics.CONSUMER_STOPPED.labels(self._group).set(0)
        watching = asyncio.create_task(self._watchdog.run())
        consuming = asyncio.create_task(self._consume(stop))
        try:
            await asyncio.wait([watching, consuming], return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                await watching
            await consuming
        finally:
            for task in (watching, consuming):
                task.cancel()
            await asyncio.gather(watching, consuming, return_exceptions=True)

    async def _consume(self, stop: asyncio.Event) -> None:
        attempt = 0
        while not stop.is_set():
            try:
                await self._session(stop)
                attempt = 0
            except TooManyDeadLetters as error:
                metrics.CONSUMER_STOPPED.labels(self._group).set(1)
                log.critical("consumer_stopped", group=self._group, **failure(error))
                if self._check is not None:
                    self._check.down(f"stopped: {error}; see make dead-letters, then restart")
                self._owned.clear()
                await stop.wait()
            except Exception as error:
                if not (is_outage(error) or is_kafka_outage(error)):
                    raise
                self._down(error)
                self._watchdog.excused()
                log.warning("consumer_waits", group=self._group, **failure(error))
                await _sleep_or(stop, BACK_OFF_SECONDS[min(attempt, len(BACK_OFF_SECONDS) - 1)])
                attempt += 1

    async def _session(self, stop: asyncio.Event) -> None:
        """One connected consumer, from join to leave."""
        consumer = make_consumer(self._config, self._group, self._poll_records)
        self._consumer = consumer
        self._owned.clear()
        self._orphans.clear()
        self._suspects.forget()
        try:
            consumer.subscribe(list(self._topics), listener=_Listener(self))
            if not await start_client(consumer.start(), 30, stop):
                return
            while not stop.is_set():
                if self._orphans:
                    await self._take_over(consumer)
                await self._turn(consumer, stop)
            await self._await_publishing()
            await self._hint(consumer, force=True)
        except TooManyDeadLetters:
            await self._await_publishing()
            raise
        finally:
            publishing, self._publishing = self._publishing, None
            if publishing is not None:
                publishing.cancel()
                await asyncio.gather(publishing, return_exceptions=True)
            self._consumer = None
            await stop_quietly(consumer.stop(), f"consumer {self._group}")

    # Ownership

    def _forget(self, revoked: Sequence[TopicPartition]) -> None:
        self._suspects.forget()
        for partition in revoked:
            self._owned.disown(partition)
            self._orphans.discard(partition)

    def _adopt(self, assigned: Sequence[TopicPartition]) -> None:
        if self._consumer is not None and assigned:
            self._consumer.pause(*assigned)
        self._owned.clear()
        self._suspects.forget()
        self._orphans = set(assigned)

    async def _take_over(self, consumer: AIOKafkaConsumer) -> None:
        """Takes the next epoch (fences the old owner), then seeks to the stored offset, then resumes."""
        orphans = sorted(self._orphans)
        first = await consumer.beginning_offsets(orphans)
        last = await consumer.end_offsets(orphans)
        starts = {(tp.topic, tp.partition): first[tp] for tp in orphans}
        async with self._database.begin() as tx:
            found = await progress.take_over(tx, self._group, starts)
        for partition in orphans:
            if partition not in self._orphans:
                continue  # revoked while we asked
            owner = found[(partition.topic, partition.partition)]
            if not first[partition] <= owner.next_offset <= last[partition]:
                metrics.OFFSET_LOST.labels(self._group).set(1)
                raise OffsetLost(
                    f"{self._group}: {partition.topic}-{partition.partition} is stored at {owner.next_offset}, "
                    f"the log has {first[partition]}..{last[partition]}"
                )
            planned = owner.planned_to if self._planned else None
            self._owned.own(partition, Buffer(owner.epoch, owner.next_offset, planned))
            self._orphans.discard(partition)
            consumer.seek(partition, owner.next_offset)
            consumer.resume(partition)
        log.info("partitions_taken_over", group=self._group, partitions=len(orphans))
        if self._check is not None:
            self._check.up()

    def _reset(self) -> None:
        """Forget what is in memory; everything owned is taken over again: re-read, seek."""
        if self._consumer is None:
            return
        owned = list(self._owned)
        if owned:
            self._consumer.pause(*owned)
        self._orphans.update(owned)
        self._owned.clear()
        self._suspects.forget()

    # Reading

    async def _turn(self, consumer: AIOKafkaConsumer, stop: asyncio.Event) -> None:
        if not self._owned.count:
            await self._poll(consumer, POLL_SECONDS)
            if not self._owned.count:
                await self._hint(consumer)
                return
        started = self._clock.monotonic()
        await self._gather(consumer, stop, max(started + self._linger, self._begun_at + self._pace))
        if self._owned.is_full and not self._planned:  # a planned group lets batches fill: nobody waits for it
            await self._poll_the_short(consumer)
        self._begun_at = self._clock.monotonic()
        await self._work_off(started)
        await self._hint(consumer)

    async def _gather(self, consumer: AIOKafkaConsumer, stop: asyncio.Event, until: float) -> None:
        """Lets a batch fill until then, or until it is full or somebody is in a hurry. Where little comes it sleeps and
        looks seldom: to fetch each handful by itself costs the broker and this process more than the handful."""
        slept = False
        while not (self._owned.is_full or stop.is_set() or self.hurry.is_set()):
            left = until - self._clock.monotonic()
            if left <= 0:
                break
            before = self._owned.count
            await self._poll(consumer, NO_SECONDS)
            if self._owned.count - before < self._little:
                slept = True
                await _sleep_or(self.hurry, min(left, NAP_SECONDS))
        if slept:
            await self._poll(consumer, NO_SECONDS)
            await self._poll(consumer, LAST_LOOK_SECONDS)  # what came behind the records that were fetched already

    async def _poll_the_short(self, consumer: AIOKafkaConsumer) -> None:
        """aiokafka drains what it has fetched of one partition before it turns to the next: where one has a backlog,
        what has come in the others gets its share of each batch all the same."""
        share = max(1, self._max_records // len(self._owned))
        for partition in list(self._owned):
            owned = self._owned.get(partition)
            if owned is not None and len(owned.records) < share:
                await self._poll(consumer, 0, share, partition)

    async def _poll(
        self, consumer: AIOKafkaConsumer, seconds: float, limit: int | None = None, *partitions: TopicPartition
    ) -> None:
        try:
            polled = await consumer.getmany(
                *partitions, timeout_ms=int(seconds * 1000), max_records=limit or self._poll_records
            )
        except NoOffsetForPartitionError:
            return  # asked for before our seek; the stored offset decides
        except OffsetOutOfRangeError as error:
            metrics.OFFSET_LOST.labels(self._group).set(1)
            raise OffsetLost(f"{self._group}: the log no longer has what comes next") from error
        for partition, records in polled.items():
            owned = self._owned.get(partition)
            if owned is None:
                continue
            owned.add(records)

    def _cut(self) -> dict[TopicPartition, list[ConsumerRecord]]:
        """The next batch, which stays in the buffers until it is committed."""
        counts = self._suspects.next()
        return self._owned.batch() if counts is None else self._owned.heads(counts)

    # Working

    async def _work_off(self, started: float) -> None:
        cut = self._cut()
        if not cut:
            assert self._consumer is not None
            await self._poll(self._consumer, POLL_SECONDS)
            return
        try:
            pending = await self._transact_by_lane(cut)
        except progress.Fenced as error:
            metrics.BATCH_FAILURES.labels(self._group, "fenced").inc()
            log.warning("batch_fenced", group=self._group, **failure(error))
            self._reset()
            return
        except Exception as error:
            if self._planned or is_outage(error) or isinstance(error, TooManyDeadLetters):
                kind = "outage" if is_outage(error) else "stopped"
                metrics.BATCH_FAILURES.labels(self._group, kind).inc()
                self._reset()
                raise
            metrics.BATCH_FAILURES.labels(self._group, "handler").inc()
            if cut.keys() <= set(self._owned):  # else revoked meanwhile: nothing is known of the heads
                self._suspects.failed({partition: len(records) for partition, records in cut.items()})
            log.error("batch_failed", group=self._group, records=_size(cut), **failure(error), exc_info=error)
            await asyncio.sleep(BACK_OFF_SECONDS[0])
            return
        metrics.BATCH_SECONDS.labels(self._group).observe(self._clock.monotonic() - started)
        await self._await_publishing()
        if pending:
            self._publishing = asyncio.create_task(self._publish(pending))
        if self._after_commit is not None:
            await self._after_commit()

    async def _transact_by_lane(self, cut: dict[TopicPartition, list[ConsumerRecord]]) -> list[Pending]:
        """Raises what one of them raised, once all are over."""
        # Before anything is awaited: a rebalance may take a partition away at any moment; its epoch tells whose it is.
        parts = [(part, self._advances(part)) for part in parts_of(cut, self._lanes)]
        outcomes = await asyncio.gather(
            *(self._transact(part, advances) for part, advances in parts), return_exceptions=True
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return [outcome for outcome in outcomes if isinstance(outcome, Pending)]

    async def _publish(self, pending: Sequence[Pending]) -> None:
        for each in pending:
            await self._outbox.publish(each)

    def _advances(self, cut: dict[TopicPartition, list[ConsumerRecord]]) -> list[progress.Advance]:
        advances = []
        for partition, records in cut.items():
            owned = self._owned[partition]
            upto = owned.planned_to or records[-1].offset + 1
            advances.append(
                progress.Advance(partition.topic, partition.partition, owned.epoch, owned.next_offset, upto)
            )
        return advances

    async def _transact(
        self, cut: dict[TopicPartition, list[ConsumerRecord]], advances: Sequence[progress.Advance]
    ) -> Pending | None:
        if self._planned:
            async with self._database.begin() as tx:
                await progress.plan(tx, self._group, advances)
        give_up = self._suspects.gives_up
        if give_up and self._suspects.blames_the_handler:
            raise TooManyDeadLetters("the handler fails on one record after another")
        async with self._decoding:  # one lane after the other: what the first waits for next, the second decodes
            received, dead = await self._decode_all(cut, give_up)
        read, now = _size(cut), self._clock.monotonic()
        self._dead_letters.check(read, len(dead), now)
        async with self._database.begin() as tx:
            await progress.advance(tx, self._group, advances)
            ranges = [Range(each.topic, each.partition, each.from_offset, each.to_offset) for each in advances]
            outgoing = await self._handler(tx, Batch(received, ranges)) if received else ()
            pending = await self._outbox.add(tx, [*outgoing, *dead])
        self._dead_letters.committed(read, len(dead), now)
        self._suspects.passed(handled=bool(received))
        for letter in dead:
            metrics.RECORDS_DEAD.labels(self._group, dict(letter.headers)["topic"].decode()).inc()
        for advance in advances:
            partition = TopicPartition(advance.topic, advance.partition)
            mine = self._owned.get(partition)
            if mine is None or mine.epoch != advance.epoch:
                continue  # revoked while we committed: it is done, and somebody else goes on behind it
            mine.done(advance.to_offset)
            metrics.RECORDS_READ.labels(self._group, advance.topic).inc(len(cut[partition]))
        return pending

    async def _decode_all(
        self, cut: dict[TopicPartition, list[ConsumerRecord]], give_up: bool
    ) -> tuple[list[Received[T]], list[Outgoing]]:
        received: list[Received[T]] = []
        dead: list[Outgoing] = []
        for records in cut.values():
            for number, record in enumerate(records, 1):
                if number % DECODED_AT_ONCE == 0:
                    await asyncio.sleep(0)
                if give_up:
                    dead.append(self._dead_letter(record, "the handler failed on it again and again"))
                    continue
                try:
                    value = self._decode(record)
                except Unreadable as error:
                    dead.append(self._dead_letter(record, error.reason))
                    continue
                if value is not None:
                    received.append(
                        Received(value, record.topic, record.partition, record.offset, record.key, record.headers)
                    )
        return received, dead

    def _dead_letter(self, record: ConsumerRecord, reason: str) -> Outgoing:
        log.warning(
            "dead_letter",
            group=self._group,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            reason=reason,
        )
        name = self._topics[record.topic].dead_letter_name(self._group, self._config.topic_prefix)
        return dead_letter(record, reason, name)

    async def _await_publishing(self) -> None:
        if self._publishing is not None:
            publishing, self._publishing = self._publishing, None
            await publishing

    async def _hint(self, consumer: AIOKafkaConsumer, force: bool = False) -> None:
        """Kafka's own committed offset is a hint for lag tools; losing one loses nothing."""
        now = self._clock.monotonic()
        if not self._owned or (now - self._hint_at < HINT_SECONDS and not force):
            return
        self._hint_at = now
        try:
            await consumer.commit({partition: self._owned[partition].next_offset for partition in self._owned})
            ends = {partition: consumer.highwater(partition) for partition in self._owned}
        except (KafkaError, AssertionError) as error:
            log.info("hint_failed", group=self._group, **failure(error))
            return
        lag: dict[str, int] = {}
        for partition in self._owned:
            behind = max(0, (ends[partition] or 0) - self._owned[partition].next_offset)
            lag[partition.topic] = lag.get(partition.topic, 0) + behind
        for topic, records in lag.items():
            metrics.LAG.labels(self._group, topic).set(records)

    def _down(self, error: BaseException) -> None:
        if self._check is not None:
            self._check.down(type(error).__name__)


def _size(cut: dict[TopicPartition, list[ConsumerRecord]]) -> int:
    return sum(map(len, cut.values()))


async def _sleep_or(stop: asyncio.Event, seconds: float) -> None:
    # Not `wait_for`: Python 3.11's forgets a cancellation that comes with the event, and by one this loop ends.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
