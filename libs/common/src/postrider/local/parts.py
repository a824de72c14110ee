"""Where Kafka and Postgres come from, decided in one place: an address in the environment, then containers when asked
for (PARTS=containers), then embedded; else one message that names what to install.

Does not create topics or schemas, and stops only what it started.
"""

import asyncio
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import TracebackType

from postrider.local.containers import ContainerKafka, ContainerPostgres
from postrider.local.errors import LocalError
from postrider.local.home import Home, load_secrets
from postrider.local.kafka import EmbeddedKafka
from postrider.local.ports import KAFKA_PORT_VARIABLE, POSTGRES_PORT_VARIABLE
from postrider.local.postgres import EmbeddedPostgres

KAFKA_PORT = 9092
POSTGRES_PORT = 54329


class Source(Enum):
    """Where one part comes from."""

    GIVEN = "given"
    CONTAINER = "container"
    EMBEDDED = "embedded"


@dataclass(frozen=True)
class Addresses:
    """How the suite reaches its parts."""

    bootstrap_servers: str
    database_url: str
    """`postgresql://user:password@host:port/database`, of the owner that may create schemas and roles."""

    def environment(self) -> dict[str, str]:
        return {"KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers, "DATABASE_URL": self.database_url}


def source_of(variable: str, env: Mapping[str, str]) -> Source:
    """The order of design.md for the part whose address `variable` holds."""
    if env.get(variable):
        return Source.GIVEN
    wish = env.get("PARTS", "embedded")
    if wish not in ("embedded", "containers"):
        raise LocalError(f"PARTS is {wish!r}: it may be embedded (the default) or containers")
    return Source.CONTAINER if wish == "containers" else Source.EMBEDDED


def print_line(line: str) -> None:
    """Progress for the person at the terminal."""
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except OSError:  # the terminal or the pipe is gone; what is running still has to be stopped in order
        return


class Parts:
    """Kafka and Postgres for one home; each starts on its own or both together, and `stop` ends what was started.

    The caller owns the home: a launcher holds its lock, tests use a fresh directory.
    """

    def __init__(
        self,
        home: Home,
        env: Mapping[str, str],
        say: Callable[[str], None] = print_line,
        *,
        fixed_ports: bool = False,
        jars: Path | None = None,
    ) -> None:
        """`fixed_ports`: the product's port numbers unless POSTRIDER_KAFKA_PORT and POSTRIDER_POSTGRES_PORT say others;
        otherwise those variables or free ports. `jars`: a folder of Kafka's jars shared by several homes.
        """
        self._home = home
        self._env = env
        self._say = say
        self._fixed_ports = fixed_ports
        self._jars = jars
        self.kafka: EmbeddedKafka | ContainerKafka | None = None
        """What was started here; None while not started, or when the address was given."""
        self.postgres: EmbeddedPostgres | ContainerPostgres | None = None

    async def __aenter__(self) -> Addresses:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> Addresses:
        """Both parts, at the same time. When one cannot start, the other is stopped again and the error raised."""
        try:
            async with asyncio.TaskGroup() as group:
                kafka = group.create_task(self.start_kafka())
                postgres = group.create_task(self.start_postgres())
        except BaseException as error:
            await self.stop()
            problems = error.split((LocalError, OSError))[0] if isinstance(error, BaseExceptionGroup) else None
            if problems is None:
                raise
            raise LocalError("\n".join(str(problem) for problem in problems.exceptions)) from error
        return Addresses(kafka.result(), postgres.result())

    async def start_kafka(self) -> str:
        """The bootstrap servers."""
        source = source_of("KAFKA_BOOTSTRAP_SERVERS", self._env)
        if source is Source.GIVEN:
            return self._env["KAFKA_BOOTSTRAP_SERVERS"]
        port = self._port(KAFKA_PORT_VARIABLE, KAFKA_PORT)
        self._home.create()
        if source is Source.CONTAINER:
            self.kafka = ContainerKafka(self._home, self._env, self._say, port=port)
        else:
            self.kafka = EmbeddedKafka(self._home, self._env, self._say, port=port, libs=self._jars)
        await self.kafka.start()
        return self.kafka.bootstrap_servers

    async def start_postgres(self) -> str:
        """The URL of the database, as its owner."""
        source = source_of("DATABASE_URL", self._env)
        if source is Source.GIVEN:
            return self._env["DATABASE_URL"]
        port = self._port(POSTGRES_PORT_VARIABLE, POSTGRES_PORT)
        self._home.create()
        password = load_secrets(self._home)["POSTRIDER_POSTGRES_PASSWORD"]
        if source is Source.CONTAINER:
            self.postgres = ContainerPostgres(self._home, self._env, self._say, password=password, port=port)
        else:
            self.postgres = EmbeddedPostgres(self._home, self._env, self._say, password=password, port=port)
        await self.postgres.start()
        return self.postgres.database_url

    async def stop(self) -> None:
        """Both parts, at the same time; safe to call more than once."""
        await asyncio.gather(*(part.stop() for part in (self.kafka, self.postgres) if part is not None))
        self.kafka = self.postgres = None

    def embedded(self) -> list[EmbeddedKafka | EmbeddedPostgres]:
        """The parts that run as children of this process."""
        return [part for part in (self.kafka, self.postgres) if isinstance(part, EmbeddedKafka | EmbeddedPostgres)]

    def _port(self, variable: str, usual: int) -> int | None:
        given = self._env.get(variable)
        if given and not (given.isdigit() and 0 < int(given) < 65536):
            raise LocalError(f"{variable} is {given!r}: it must be a port number")
        if not given and not self._fixed_ports:
            return None
        return int(given) if given else usual
