"""The parts as real processes: they answer, survive kill -9 with their data, and leave nothing behind."""

import asyncio
import json
import os
import signal
import sys
import uuid
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import asyncpg
import httpx
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from postrider.local.errors import HomeInUse, StartFailed
from postrider.local.home import Home, workspace
from postrider.local.kafka import EmbeddedKafka, broker_answers
from postrider.local.parts import Parts
from postrider.local.ports import free_port
from postrider.local.postgres import EmbeddedPostgres
from postrider.local.process import recorded_pid, until
from postrider.local.services import SERVICES, Service
from postrider.local.suite import Suite
from tests.support.parts import quiet

pytestmark = pytest.mark.integration

JARS = workspace() / ".local" / "kafka" / "libs"


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
    broker = EmbeddedKafka(closed_home, os.environ, quiet, libs=JARS)
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


@pytest.mark.containers
async def test_containers_answer_and_are_replaced_after_a_dead_launcher(tmp_path: Path) -> None:
    home, env, said = Home(tmp_path), {**os.environ, "PARTS": "containers"}, list[str]()
    for name in ("KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL"):
        env.pop(name, None)
    abandoned = Parts(home, env, quiet)
    await abandoned.start()
    parts = Parts(home, env, said.append)
    async with parts as addresses:
        assert await _fetch(addresses.database_url, "SELECT 1") == 1
        host, _, port = addresses.bootstrap_servers.rpartition(":")
        assert host == "127.0.0.1"
        assert await broker_answers(host, int(port))
        assert sum("left behind by a launcher that died" in line for line in said) == 2


async def test_given_addresses_start_nothing(tmp_path: Path) -> None:
    env = {"KAFKA_BOOTSTRAP_SERVERS": "broker:9092", "DATABASE_URL": "postgresql://u:p@db/x"}
    parts = Parts(Home(tmp_path / "home"), env, quiet)
    async with parts as addresses:
        assert addresses.environment() == env
        assert parts.kafka is None and parts.postgres is None
    assert not (tmp_path / "home").exists()


@pytest.fixture
def stand_ins(tmp_path: Path) -> tuple[list[Service], dict[str, str]]:
    """Four services that are none, and the environment in which `python -m` finds them."""
    folder = tmp_path / "modules"
    folder.mkdir()
    services = [replace(service, module=f"fake_{service.module}") for service in SERVICES]
    for service in services:
        text = f'from tests.support.fake_service import main\n\nmain("{service.port_variable}")\n'
        (folder / f"{service.module}.py").write_text(text, "utf-8")
    return services, {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{workspace()}"}


async def test_the_suite_restarts_what_dies_and_leaves_nothing_running(
    tmp_path: Path, stand_ins: tuple[list[Service], dict[str, str]]
) -> None:
    services, env = stand_ins
    said: list[str] = []
    home = tmp_path / "home"
    suite = Suite(home, env, said.append, jars=JARS, services=services)
    async with suite, httpx.AsyncClient() as client:
        first = suite.pids()
        assert set(first) == {"kafka", "postgres", "campaign-api", "dispatcher", "scheduler", "segment-engine"}
        recorded = json.loads((home / "run.json").read_text("ascii"))
        assert {name: entry["pid"] for name, entry in recorded.items()} == first

        seen = {service.name: (await client.get(f"{suite.url(service)}/environment")).json() for service in services}
        private, public = "POSTRIDER_SEALING_PRIVATE_KEY", "POSTRIDER_SEALING_PUBLIC_KEY"
        assert [name for name, given in seen.items() if private in given] == ["dispatcher"]
        assert [name for name, given in seen.items() if public in given] == ["campaign-api"]

        with pytest.raises(HomeInUse):
            await Suite(home, env, quiet, jars=JARS, services=services).start()

        for name in ("kafka", "postgres", "dispatcher"):
            os.kill(first[name], signal.SIGKILL)
        os.kill(first["scheduler"], signal.SIGSTOP)  # has to be continued to be stopped

        async def all_are_back() -> bool:
            now = suite.pids()
            return all(now[name] != first[name] and _alive(now[name]) for name in ("kafka", "postgres", "dispatcher"))

        assert await until(all_are_back, 20)
        assert suite.addresses is not None

        async def parts_answer() -> bool:
            assert suite.addresses is not None
            host, _, port = suite.addresses.bootstrap_servers.rpartition(":")
            return await broker_answers(host, int(port)) and await _postgres_answers(suite.addresses.database_url)

        assert await until(parts_answer, 30)
        last = suite.pids()
        assert any(line.startswith(f"dispatcher: pid {first['dispatcher']} died (signal 9)") for line in said)
    assert not [name for name, pid in {**first, **last}.items() if _alive(pid)]
    assert json.loads((home / "run.json").read_text("ascii")) == {}
    assert list((home / "pids").iterdir()) == []


async def test_a_failed_migration_is_told_and_stops_what_was_started(
    tmp_path: Path, stand_ins: tuple[list[Service], dict[str, str]]
) -> None:
    services, env = stand_ins
    env |= {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}  # nobody there: the topics cannot be made, either
    broken = replace(services[0], module="no_such_module")
    suite = Suite(tmp_path / "home", env, quiet, jars=JARS, services=[broken, *services[1:]])
    with pytest.raises(StartFailed, match="No module named no_such_module"):
        async with suite:
            pass
    assert suite.pids() == {}
    assert list((tmp_path / "home" / "pids").iterdir()) == []


async def test_children_die_with_a_killed_launcher_and_the_next_start_works(tmp_path: Path) -> None:
    home = tmp_path / "home"
    env = {
        **os.environ,
        "POSTRIDER_HOME": str(home),
        "POSTRIDER_POSTGRES_PORT": str(free_port()),
        "KAFKA_BOOTSTRAP_SERVERS": "given:9092",
    }
    for _ in range(2):
        launcher = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "postrider.local.run", "--parts-only", env=env, stdout=asyncio.subprocess.PIPE
        )
        assert launcher.stdout is not None
        lines: list[str] = []
        while lines[-1:] != ["ready"]:
            lines.append((await launcher.stdout.readline()).decode("utf-8").rstrip("\n"))
            assert lines[-1] or not launcher.stdout.at_eof(), lines
        pid = recorded_pid(home / "pids" / "postgres.json")
        assert pid is not None
        launcher.kill()
        await launcher.communicate()

    async def child_is_gone() -> bool:
        return recorded_pid(home / "pids" / "postgres.json") is None

    assert await until(child_is_gone, 20)


async def _postgres_answers(url: str) -> bool:
    try:
        return await _fetch(url, "SELECT 1") == 1
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False


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
