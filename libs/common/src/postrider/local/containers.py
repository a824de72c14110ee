"""Kafka and Postgres as containers, when PARTS=containers asks for them and a Docker engine answers.

Throw-away: their data goes with them (deploy/compose.yaml is the way to keep a suite in containers). They carry a label
with the home, by which the next start finds and removes what a dead launcher left.
"""

import asyncio
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import asyncpg

from postrider.local.errors import PartMissing, StartFailed
from postrider.local.home import Home
from postrider.local.kafka import broker_answers
from postrider.local.ports import KAFKA_PORT_VARIABLE, LOOPBACK, POSTGRES_PORT_VARIABLE, free_port, require_free
from postrider.local.process import until

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer

KAFKA_IMAGE = "apache/kafka:4.3.1"
POSTGRES_IMAGE = "postgres:15"
POSTGRES_SETTINGS = ("max_connections=200", "shared_buffers=256MB", "max_wal_size=2GB", "jit=off", "timezone=UTC")
"""What the embedded server has, too; deploy/compose.yaml says the same."""
LABEL = "postrider.home"
READY_SECONDS = 90.0


def require_engine(env: Mapping[str, str]) -> None:
    """Raises PartMissing unless a Docker engine answers; a client alone proves nothing."""
    docker = shutil.which("docker", path=env.get("PATH"))
    hint = "start a Docker engine, or leave PARTS out to use the embedded parts"
    if docker is None:
        raise PartMissing(f"PARTS=containers needs Docker, and docker was not found: {hint}")
    try:
        answer = subprocess.run(
            [docker, "info"], env=dict(env), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            timeout=30,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise PartMissing(f"PARTS=containers needs a Docker engine, and `docker info` did not answer: {hint}") from None
    if answer.returncode != 0:
        problem = answer.stderr.strip()
        raise PartMissing(f"PARTS=containers needs a Docker engine, and `docker info` says {problem!r}: {hint}")


class _Container(ABC):
    """One container of ours, found again by its label."""

    name = ""
    image = ""
    inner_port = 0
    port_variable = ""

    def __init__(self, home: Home, env: Mapping[str, str], say: Callable[[str], None], *, port: int | None) -> None:
        self._home = home
        self._env = env
        self._say = say
        self.port = port or 0
        self._container: DockerContainer | None = None

    async def start(self) -> None:
        """Returns when the part answers; raises PartMissing or StartFailed."""
        await asyncio.to_thread(require_engine, self._env)
        await asyncio.to_thread(self._remove_stale)
        if self.port:
            require_free(self.port, self.port_variable)
        else:
            self.port = free_port()
        self._say(f"{self.name}: starting a container of {self.image}")
        await asyncio.to_thread(self._run)
        if not await until(self._answers, READY_SECONDS):
            tail = await asyncio.to_thread(self._log_tail)
            await self.stop()
            raise StartFailed(f"the container of {self.image} did not answer within {READY_SECONDS:.0f} s:\n{tail}")

    async def stop(self) -> None:
        if self._container is not None:
            await asyncio.to_thread(self._container.stop)
            self._container = None

    @abstractmethod
    def _variables(self) -> dict[str, str]:
        """The container's environment."""

    def _command(self) -> list[str]:
        """What the container runs; empty for the image's own."""
        return []

    @abstractmethod
    async def _answers(self) -> bool:
        """Whether the part takes requests."""

    def _run(self) -> None:
        # Imported here: testcontainers reads Docker's configuration when it is imported.
        from docker.errors import DockerException  # type: ignore[import-untyped]
        from testcontainers.core.config import testcontainers_config
        from testcontainers.core.container import DockerContainer

        testcontainers_config.ryuk_disabled = True  # one more image; the label does its work
        container = DockerContainer(self.image).with_kwargs(
            labels=self._labels(), restart_policy={"Name": "on-failure"}
        )
        for name, value in self._variables().items():
            container = container.with_env(name, value)
        if command := self._command():
            container = container.with_command(command)
        published: dict[str, Any] = container.ports
        published[str(self.inner_port)] = (LOOPBACK, self.port)  # with_bind_ports would publish to the whole network
        self._container = container
        try:
            container.start()
        except DockerException as error:
            raise StartFailed(f"a container of {self.image} could not be started: {error}") from error

    def _labels(self) -> dict[str, str]:
        return {LABEL: str(self._home.path), "postrider.part": self.name}

    def _remove_stale(self) -> None:
        from testcontainers.core.docker_client import DockerClient

        ours = {"label": [f"{key}={value}" for key, value in self._labels().items()]}
        for stale in DockerClient().client.containers.list(all=True, filters=ours):
            self._say(f"{self.name}: removing container {stale.short_id}, left behind by a launcher that died")
            stale.remove(force=True, v=True)

    def _log_tail(self) -> str:
        if self._container is None:
            return ""
        out, err = self._container.get_logs()
        return "\n".join((out + err).decode("utf-8", errors="replace").splitlines()[-15:])


class ContainerKafka(_Container):
    name = "kafka"
    image = KAFKA_IMAGE
    inner_port = 9092
    port_variable = KAFKA_PORT_VARIABLE

    @property
    def bootstrap_servers(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    def _variables(self) -> dict[str, str]:
        return {
            "KAFKA_NODE_ID": "1",
            "KAFKA_PROCESS_ROLES": "broker,controller",
            "KAFKA_LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093",
            "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://{LOOPBACK}:{self.port}",
            "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
            "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
            "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
            "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
            "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
            "KAFKA_SHARE_COORDINATOR_STATE_TOPIC_REPLICATION_FACTOR": "1",
            "KAFKA_SHARE_COORDINATOR_STATE_TOPIC_MIN_ISR": "1",
            "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
            "KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS": "1000",
            "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
            "KAFKA_MESSAGE_MAX_BYTES": str(4 * 1024 * 1024),
            "KAFKA_REPLICA_FETCH_MAX_BYTES": str(4 * 1024 * 1024),
        }

    async def _answers(self) -> bool:
        return await broker_answers(LOOPBACK, self.port)


class ContainerPostgres(_Container):
    name = "postgres"
    image = POSTGRES_IMAGE
    inner_port = 5432
    port_variable = POSTGRES_PORT_VARIABLE

    def __init__(
        self, home: Home, env: Mapping[str, str], say: Callable[[str], None], *, password: str, port: int | None
    ) -> None:
        super().__init__(home, env, say, port=port)
        self._password = password

    @property
    def database_url(self) -> str:
        return f"postgresql://postrider:{self._password}@{LOOPBACK}:{self.port}/postrider"

    def _variables(self) -> dict[str, str]:
        return {"POSTGRES_USER": "postrider", "POSTGRES_PASSWORD": self._password, "POSTGRES_DB": "postrider"}

    def _command(self) -> list[str]:
        return ["postgres", *(part for setting in POSTGRES_SETTINGS for part in ("-c", setting))]

    async def _answers(self) -> bool:
        try:
            connection = await asyncpg.connect(self.database_url, timeout=3)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        await connection.close()
        return True
