"""The consumer loop, outbox and definitions reader against real Kafka and Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from postrider import metrics
from postrider.clock import SystemClock
from postrider.contracts import codec
from postrider.contracts.codec import Unreadable
from postrider.contracts.definitions import CAMPAIGN_TYPE, CampaignDefinition, What, When, Who
from postrider.contracts.envelope import Outgoing, headers_of
from postrider.contracts.topics import CAMPAIGN_DEFINITIONS, QUALIFIED_USERS, SEND_JOBS, Topic
from postrider.kafka.clients import KafkaConfig, make_consumer, make_producer, start_client, stop_quietly
from postrider.kafka.definitions import DefinitionsReader
from postrider.kafka.loop import Batch, ConsumerLoop
from postrider.kafka.publisher import Publisher
from postrider.kafka.topics import create_topics
from postrider.postgres.database import Database, open_database
from postrider.postgres.migrate import kernel_tables_sql
from postrider.postgres.outbox import Outbox
from tests.support.eventually import eventually
from tests.support.topic_log import TopicLog

pytestmark = pytest.mark.integration

SOURCE: Topic = QUALIFIED_USERS
TARGET: Topic = SEND_JOBS


@dataclass
class Bench:
    """One group with a table `seen` of the values it handled and a copy of each record on the target topic."""

    config: KafkaConfig
    database: Database
    publisher: Publisher
    outbox: Outbox
    fail_on: set[str] = field(default_factory=set)
    batches: list[Batch[str]] = field(default_factory=list)
    die_before_commit: bool = False

    def decode(self, record: ConsumerRecord) -> str | None:
        value = (record.value or b"").decode()
        if value.startswith("bad"):
            raise Unreadable("starts with bad")
        return value

    async def handle(self, tx: AsyncConnection, batch: Batch[str]) -> Sequence[Outgoing]:
        self.batches.append(batch)
        values = [record.value for record in batch.records]
        if self.fail_on.intersection(values):
            raise RuntimeError("handler bug")
        await tx.execute(text("INSERT INTO seen SELECT unnest(CAST(:v AS text[]))"), {"v": values})
        if self.die_before_commit:
            raise RuntimeError("killed")
        topic = TARGET.full_name(self.config.topic_prefix)
        return [Outgoing(topic, value.encode(), value.encode()) for value in values]

    def loop(self, **options: Any) -> ConsumerLoop[str]:
        return ConsumerLoop(
            self.config, self.database, self.outbox, "scheduler", [SOURCE], self.decode, self.handle, **options
        )

    async def send(self, *values: str) -> None:
        topic = SOURCE.full_name(self.config.topic_prefix)
        await self.publisher.publish([Outgoing(topic, value.encode(), value.encode()) for value in values])

    async def seen(self) -> list[str]:
        async with self.database.begin() as tx:
            return sorted((await tx.execute(text("SELECT value FROM seen"))).scalars())

    async def on_topic(self, name: str) -> list[ConsumerRecord]:
        log = TopicLog(self.config)
        try:
            return await log.read(name)
        finally:
            await log.close()


@pytest.fixture
async def bench(kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str) -> AsyncIterator[Bench]:
    config = KafkaConfig(kafka, topic_prefix + ".")
    await create_topics(config)
    database = open_database(await fresh_database(), "public")
    async with database.begin() as tx:
        for statement in [*kernel_tables_sql(), "CREATE TABLE seen (value text)"]:
            await tx.execute(text(statement))
    publisher = Publisher(config)
    await publisher.start()
    yield Bench(config, database, publisher, Outbox(database, publisher, "test", config.topic_prefix))
    await publisher.stop()
    await database.close()


@asynccontextmanager
async def running(loop: ConsumerLoop[str]) -> AsyncIterator[asyncio.Task[None]]:
    stop = asyncio.Event()
    task = asyncio.create_task(loop.run(stop))
    try:
        yield task
    finally:
        stop.set()
        await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), 20)


async def test_each_record_has_its_effect_once_over_restarts(bench: Bench) -> None:
    await bench.send(*(f"a{number}" for number in range(300)))
    async with running(bench.loop(max_records=50)):
        await eventually(lambda: _has(bench, 300))
    await bench.send(*(f"b{number}" for number in range(100)))
    async with running(bench.loop(max_records=50)):
        await eventually(lambda: _has(bench, 400))
    expected = sorted([f"a{number}" for number in range(300)] + [f"b{number}" for number in range(100)])
    assert await bench.seen() == expected
    published = await bench.on_topic(TARGET.full_name(bench.config.topic_prefix))
    assert sorted(record.value.decode() for record in published) == expected


async def _has(bench: Bench, count: int) -> bool:
    return len(await bench.seen()) >= count


async def test_an_unreadable_record_goes_to_the_dead_letter_topic_and_the_rest_goes_on(bench: Bench) -> None:
    await bench.send("good-1", "bad-1", "good-2")
    async with running(bench.loop()):
        await eventually(lambda: _has(bench, 2))
    (dead,) = await bench.on_topic(SOURCE.dead_letter_name("scheduler", bench.config.topic_prefix))
    assert dead.value == b"bad-1"
    headers = dict(dead.headers)
    assert headers["reason"] == b"starts with bad"
    assert headers["topic"].decode() == SOURCE.full_name(bench.config.topic_prefix)
    assert set(headers) >= {"partition", "offset"}


class NotUtf8(str):
    """A header name as another client may publish it."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return b"\xff\xfe"


async def test_a_header_name_that_is_no_utf8_stops_nobody(bench: Bench) -> None:
    topic = SOURCE.full_name(bench.config.topic_prefix)
    producer = AIOKafkaProducer(bootstrap_servers=bench.config.bootstrap_servers)
    try:
        await producer.start()
        batch = producer.create_batch()
        batch._builder = _DefaultRecordBatchBuilderPy(2, 0, 0, -1, -1, 0, 100_000)  # the fast one takes text alone
        for value in ("v0", "v1", "bad", "v2"):
            batch.append(key=b"k", value=value.encode(), headers=[(NotUtf8("x"), b"1")], timestamp=None)
        sent = await producer.send_batch(batch, topic, partition=0)
        await asyncio.wait_for(sent, 15)
    finally:
        await producer.stop()
    await bench.send("v3")
    async with running(bench.loop()):
        await eventually(lambda: _has(bench, 4), 30)
    assert await bench.seen() == ["v0", "v1", "v2", "v3"]
    (dead,) = await bench.on_topic(SOURCE.dead_letter_name("scheduler", bench.config.topic_prefix))
    assert dict(dead.headers)["original-\\xff\\xfe"] == b"1"


async def test_a_record_that_fails_its_handler_is_isolated(bench: Bench) -> None:
    bench.fail_on = {"v7"}
    await bench.send(*(f"v{number}" for number in range(12)))
    async with running(bench.loop()):
        await eventually(lambda: _has(bench, 11), 30)
    assert await bench.seen() == sorted(f"v{number}" for number in range(12) if number != 7)
    (dead,) = await bench.on_topic(SOURCE.dead_letter_name("scheduler", bench.config.topic_prefix))
    assert dead.value == b"v7"


@pytest.mark.parametrize("error", [KafkaError("lost"), asyncio.CancelledError()])
async def test_a_client_whose_stop_fails_leaves_no_connection_open(bench: Bench, error: BaseException) -> None:
    async def fail() -> None:
        raise error

    consumer, producer = make_consumer(bench.config, None), make_producer(bench.config)
    try:
        await start_client(consumer.start(), 30)
        await start_client(producer.start(), 30)
        topic = SOURCE.full_name(bench.config.topic_prefix)
        await producer.send_and_wait(topic, b"v")
        await consumer.end_offsets([TopicPartition(topic, 0)])
        connections = [*consumer._client._conns.values(), *producer.client._conns.values()]
        assert sum(connection.connected() for connection in connections) >= 2
        consumer._coordinator.close = producer._sender.close = fail
    finally:
        await stop_quietly(consumer.stop(), "consumer")
        await stop_quietly(producer.stop(), "producer")
    assert not [connection for connection in connections if connection.connected()]


async def test_two_members_share_the_partitions_and_nothing_is_handled_twice(bench: Bench) -> None:
    await bench.send(*(f"a{number}" for number in range(200)))
    async with running(bench.loop(max_records=20)):
        await eventually(lambda: _has(bench, 40))
        async with running(bench.loop(max_records=20)):
            await bench.send(*(f"b{number}" for number in range(200)))
            await eventually(lambda: _has(bench, 400), 40)
    assert len(await bench.seen()) == 400
    assert len(set(await bench.seen())) == 400


async def test_a_backlog_in_one_partition_leaves_the_others_their_share(bench: Bench) -> None:
    backlog = 20_000
    topic = SOURCE.full_name(bench.config.topic_prefix)
    await bench.publisher.publish([Outgoing(topic, b"busy", f"a{n}".encode()) for n in range(backlog)])
    async with running(bench.loop(max_records=50)):
        await eventually(lambda: _has(bench, 100), 20)
        await bench.send(*(f"b{number}" for number in range(60)))
        await eventually(lambda: _has(bench, backlog + 60), 60)
    busy = {record.partition for batch in bench.batches for record in batch.records if record.value == "a0"}
    others = [
        number
        for number, batch in enumerate(bench.batches)
        if any(record.value.startswith("b") and record.partition not in busy for record in batch.records)
    ]
    assert others[-1] < len(bench.batches) - 100  # they came behind 20,000 that were fetched already


async def test_a_takeover_replays_exactly_the_planned_range(bench: Bench) -> None:
    await bench.send(*(f"a{number}" for number in range(40)))
    bench.die_before_commit = True
    async with running(bench.loop(planned=True)) as task:
        with pytest.raises(RuntimeError, match="killed"):
            await asyncio.wait_for(task, 20)
    first = {(r.topic, r.partition): (r.from_offset, r.to_offset) for b in bench.batches for r in b.ranges}
    await bench.send(*(f"b{number}" for number in range(400)))
    bench.die_before_commit = False
    bench.batches.clear()
    async with running(bench.loop(planned=True)):
        await eventually(lambda: _has(bench, 440), 30)
    replayed: dict[tuple[str, int], tuple[int, int]] = {}
    for batch in bench.batches:
        for r in batch.ranges:
            replayed.setdefault((r.topic, r.partition), (r.from_offset, r.to_offset))
    for partition, planned in first.items():
        assert replayed[partition] == planned
    assert len(await bench.seen()) == 440


async def test_a_lane_that_fails_leaves_the_other_its_work_and_is_replayed_exactly(bench: Bench) -> None:
    await bench.send(*(f"a{number}" for number in range(40)))
    bench.fail_on = {"a7"}
    async with running(bench.loop(planned=True, lanes=2, linger_seconds=1.0)) as task:
        with pytest.raises(RuntimeError, match="handler bug"):
            await asyncio.wait_for(task, 20)
    done = await bench.seen()
    assert 0 < len(done) < 40
    (failed,) = [batch for batch in bench.batches if "a7" in [record.value for record in batch.records]]
    assert not set(done) & {record.value for record in failed.records}
    await bench.send(*(f"b{number}" for number in range(400)))
    bench.fail_on = set()
    bench.batches.clear()
    async with running(bench.loop(planned=True, lanes=2)):
        await eventually(lambda: _has(bench, 440), 30)
    assert len(set(await bench.seen())) == 440
    replayed = [each for batch in bench.batches for each in batch.ranges]
    for planned in failed.ranges:
        first = next(each for each in replayed if each.partition == planned.partition)
        assert first == planned


class Unruly(SystemClock):
    """Asked for the time, which is before each batch, it lets all partitions be taken away and given back in the next
    moment: as a rebalance can, between any two steps of a reader."""

    reader: ConsumerLoop[str] | None = None
    rebalances = 0

    def monotonic(self) -> float:
        if self.reader is not None:
            asyncio.get_running_loop().call_soon(self._rebalance, self.reader)
        return super().monotonic()

    def _rebalance(self, reader: ConsumerLoop[str]) -> None:
        owned = [TopicPartition(*where) for where in reader.positions]
        if owned:
            self.rebalances += 1
            reader._forget(owned)
            reader._adopt(owned)


@pytest.mark.parametrize(("planned", "lanes"), [(False, 1), (True, 2)])
async def test_partitions_that_go_in_the_moment_before_a_batch_end_nothing_and_double_nothing(
    bench: Bench, planned: bool, lanes: int
) -> None:
    failures = metrics.BATCH_FAILURES.labels("scheduler", "handler")
    before = failures._value.get()
    await bench.send(*(f"a{number}" for number in range(60)))
    clock = Unruly()
    clock.reader = bench.loop(planned=planned, lanes=lanes, max_records=10, clock=clock)
    async with running(clock.reader) as reading:

        async def all_seen() -> bool:
            if reading.done():
                reading.result()
            return await _has(bench, 60)

        await eventually(all_seen, 30)
    assert len(set(await bench.seen())) == len(await bench.seen()) == 60
    assert clock.rebalances >= 6 and failures._value.get() == before


async def test_what_a_crash_left_in_the_outbox_is_published_by_the_next_start(bench: Bench) -> None:
    topic = TARGET.full_name(bench.config.topic_prefix)
    async with bench.database.begin() as tx:
        await bench.outbox.add(tx, [Outgoing(topic, b"k", b"left behind", (("ce_id", b"1"),))])
    assert await bench.outbox.recover() == 1
    assert await bench.outbox.recover() == 0
    (record,) = await bench.on_topic(topic)
    assert record.value == b"left behind"
    assert dict(record.headers)["ce_id"] == b"1"


async def test_definitions_are_read_to_the_end_and_older_versions_are_ignored(bench: Bench) -> None:
    def campaign(version: int, status: str) -> Outgoing:
        definition = CampaignDefinition(
            "cmp_1",
            version,
            status,
            "one_time",
            "n",
            "promotional",
            When(),
            Who(rule={"all": []}),
            1,
            {"1": What("Hi")},
        )
        return Outgoing(
            CAMPAIGN_DEFINITIONS.full_name(bench.config.topic_prefix), b"cmp_1", codec.encode(definition),
            headers_of("x", CAMPAIGN_TYPE, "test", SystemClock().now()),
        )  # fmt: skip

    await bench.publisher.publish([campaign(1, "scheduled"), campaign(3, "stopped"), campaign(2, "running")])
    changes: list[Any] = []
    reader = DefinitionsReader(bench.config, [CAMPAIGN_DEFINITIONS], changes.append)
    stop = asyncio.Event()
    task = asyncio.create_task(reader.run(stop))
    await asyncio.wait_for(reader.wait_until_read(), 20)
    assert reader.campaigns["cmp_1"].status == "stopped"
    assert [change.version for change in changes] == [1, 3]
    await eventually(lambda: reader.confirmed_within(0.5))
    await bench.publisher.publish([campaign(4, "running")])
    await asyncio.wait_for(reader.wait_until_confirmed(), 10)
    assert reader.campaigns["cmp_1"].version == 4
    stop.set()
    await asyncio.wait_for(task, 15)


async def test_a_reader_ends_when_it_is_told_to_while_somebody_asks_for_news(bench: Bench) -> None:
    reader = DefinitionsReader(bench.config, [CAMPAIGN_DEFINITIONS], confirm_seconds=60)
    reading = asyncio.create_task(reader.run(asyncio.Event()))
    await asyncio.wait_for(reader.wait_until_confirmed(), 20)
    await asyncio.sleep(0.1)  # it waits until somebody asks
    asking = asyncio.create_task(reader.wait_until_confirmed())
    await asyncio.sleep(0)
    reading.cancel()
    over, _ = await asyncio.wait({reading}, timeout=10)
    asking.cancel()
    reading.cancel()
    await asyncio.gather(reading, asking, return_exceptions=True)
    assert over
