"""The embedded parts as real processes: they answer, survive kill -9 with their data, and leave nothing behind."""

import asyncio
import os
import signal
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from postrider.local.home import Home, workspace
from postrider.local.kafka import EmbeddedKafka, broker_answers
from postrider.local.parts import Parts
from postrider.local.postgres import EmbeddedPostgres
from postrider.local.process import recorded_pid

from tests.support.parts import quiet

pytestmark = pytest.mark.integration


@pytest.fixture
def closed_home(tmp_path: Path) -> Iterator[Home]:
    """A home below a directory that nobody else may enter, as `mktemp -d` makes them."""
    outer = tmp_path / "closed"
    outer.mkdir(mode=0o700)
    home = Home(outer / "home")
    home.create()
    yield home
    left = [path.name for path in home.pids.iterdir()]
    assert left == [], "pid files of processes that were not stopped"


async def test_fixtures_answer(kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str) -> None:
    host, _, port = kafka.rpartition(":")
    assert await broker_answers(host, int(port))
    connection = await asyncpg.connect(await fresh_database())
    try:
        settings = {
            name: await connection.fetchval(f"SHOW {name}")
            for name in ("fsync", "synchronous_commit", "full_page_writes", "server_encoding", "max_connections")
        }
    finally:
        await connection.close()
    assert settings == {
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "server_encoding": "UTF8",
        "max_connections": "200",
    }


async def test_postgres_keeps_its_data_over_a_kill_and_ends_with_its_owner(closed_home: Home) -> None:
    server = EmbeddedPostgres(closed_home, os.environ, quiet, password="first")
    await server.start()
    try:
        await _execute(server.database_url, "CREATE TABLE kept (n int); INSERT INTO kept VALUES (41)")
        assert server.child is not None
        server.child.kill()
        assert await server.child.wait() == -signal.SIGKILL
        await server.start()
        assert await _fetch(server.database_url, "SELECT n FROM kept") == 41
        pid = server.child.pid
    finally:
        await server.stop()
    assert not _alive(pid)
    assert list((closed_home.path / "postgres").iterdir()) == [closed_home.path / "postgres" / "data"]


async def test_an_orphan_of_a_dead_launcher_is_ended_by_the_next_start(closed_home: Home) -> None:
    first = EmbeddedPostgres(closed_home, os.environ, quiet, password="first")
    await first.start()
    said: list[str] = []
    second = EmbeddedPostgres(closed_home, os.environ, said.append, password="first")
    try:
        assert first.child is not None
        orphan = first.child.pid
        waited = asyncio.create_task(first.child.wait())
        await second.start()
        assert await waited == 0
        assert said == [f"postgres: ended pid {orphan}, left behind by a launcher that died"]
        assert await _fetch(second.database_url, "SELECT 1") == 1
    finally:
        await first.stop()
        await second.stop()


async def test_kafka_keeps_its_data_over_a_kill(closed_home: Home) -> None:
    broker = EmbeddedKafka(closed_home, os.environ, quiet, libs=workspace() / ".local" / "kafka" / "libs")
    await broker.start()
    try:
        admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
        await admin.start()
        await admin.create_topics([NewTopic("kept", num_partitions=1, replication_factor=1)])
        await admin.close()
        value = uuid.uuid4().bytes
        producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers, enable_idempotence=True)
        await producer.start()
        await producer.send_and_wait("kept", value)
        await producer.stop()
        assert broker.child is not None
        broker.child.kill()
        await broker.child.wait()
        await broker.start()
        consumer = AIOKafkaConsumer("kept", bootstrap_servers=broker.bootstrap_servers, auto_offset_reset="earliest")
        await consumer.start()
        try:
            async with asyncio.timeout(20):
                record = await consumer.getone()
        finally:
            await consumer.stop()
        assert record.value == value
        pid = broker.child.pid
    finally:
        await broker.stop()
    assert not _alive(pid)
    assert recorded_pid(broker.pid_file) is None


async def test_given_addresses_start_nothing(tmp_path: Path) -> None:
    env = {"KAFKA_BOOTSTRAP_SERVERS": "broker:9092", "DATABASE_URL": "postgresql://u:p@db/x"}
    parts = Parts(Home(tmp_path / "home"), env, quiet)
    async with parts as addresses:
        assert addresses.environment() == env
        assert parts.kafka is None and parts.postgres is None
    assert not (tmp_path / "home").exists()


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def _fetch(url: str, query: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
