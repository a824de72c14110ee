"""The four services as processes on a test's broker and database, with an environment that the test changes."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from postrider.kafka.clients import KafkaConfig
from postrider.kafka.topics import create_topics
from postrider.local.home import Home, load_secrets
from postrider.local.parts import Addresses
from postrider.local.ports import free_port
from postrider.local.services import SERVICES, Service, service_environment
from postrider.postgres.migrate import migrate

SOON_SECONDS = 90.0
"""A bound for a busy machine; what takes time in the services is bounded by seconds."""


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Place:
    """A broker with topics, a database with every schema, and ports."""

    home: Home
    kafka: str
    database: str
    prefix: str
    ports: Mapping[str, int]

    def through(self, database: str) -> Place:
        """The same by another way to the database."""
        return replace(self, database=database)

    def url(self, service: Service) -> str:
        return f"http://127.0.0.1:{self.ports[service.name]}"

    def environment(self, service: Service, changes: Mapping[str, str]) -> dict[str, str]:
        """As `make run` has it, but for the changes; an empty one is missing."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("POSTRIDER_", "KAFKA_"))}
        made = service_environment(
            service, kept | {"POSTRIDER_TOPIC_PREFIX": self.prefix}, home=self.home, ports=self.ports,
            addresses=Addresses(self.kafka, self.database), secrets=load_secrets(self.home),
        )  # fmt: skip
        return {name: value for name, value in {**made, **changes}.items() if value}

    async def run(self, service: Service, changes: Mapping[str, str], *more: str) -> Ended:
        """Until it ends by itself, which must be soon."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", service.module, *more, env=self.environment(service, changes),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            out, err = await asyncio.wait_for(process.communicate(), SOON_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise AssertionError(f"{service.name} with {changes} runs on") from None
        assert process.returncode is not None
        return Ended(process.returncode, out.decode(), err.decode())

    @asynccontextmanager
    async def all_running(self, log: Path) -> AsyncIterator[list[asyncio.subprocess.Process]]:
        """The four of them; killed at the end of the block if they still run. `log` gets what they say."""
        processes: list[asyncio.subprocess.Process] = []
        with log.open("ab") as file:
            try:
                for service in SERVICES:
                    processes.append(
                        await asyncio.create_subprocess_exec(
                            sys.executable,
                            "-m",
                            service.module,
                            env=self.environment(service, {}),
                            stdout=file,
                            stderr=file,
                        )
                    )
                yield processes
            finally:
                for process in processes:
                    if process.returncode is None:
                        process.kill()
                    await process.wait()


async def make_place(kafka: str, database: str, topic_prefix: str, folder: Path) -> Place:
    ports: dict[str, int] = {}
    for service in SERVICES:
        port = free_port()
        while port in ports.values():
            port = free_port()
        ports[service.name] = port
    made = Place(Home(folder), kafka, database, topic_prefix + ".", ports)
    await create_topics(KafkaConfig(kafka, made.prefix))
    for service in SERVICES:
        await migrate(made.database, service.name, service.module)
    return made
