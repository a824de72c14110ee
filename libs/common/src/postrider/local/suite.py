"""The whole suite on one machine: parts, schemas and topics, four services, supervision; one start and one stop.

`make run`, the demonstration, the end-to-end tests and the fault runs all use it, so they run the same thing.
"""

import asyncio
import json
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from postrider.local.errors import StartFailed
from postrider.local.home import Home, HomeLock, load_secrets
from postrider.local.parts import Addresses, Parts, print_line
from postrider.local.prepare import prepare
from postrider.local.process import end_orphan, until
from postrider.local.services import SERVICES, Service, ServiceProcess, choose_ports, service_environment, url_of
from postrider.local.supervisor import Supervisor

ORPHAN_SECONDS = 10.0
READY_SECONDS = 120.0


class Suite:
    """`async with Suite(home, env) as suite:` has every service ready inside and nothing running after."""

    def __init__(
        self,
        home: Path,
        env: Mapping[str, str],
        say: Callable[[str], None] = print_line,
        *,
        fixed_ports: bool = False,
        jars: Path | None = None,
        services: Sequence[Service] = SERVICES,
    ) -> None:
        """`env` is what the services get beside what this run decides (pass os.environ with overrides).

        `fixed_ports`: the product's usual ports, as `make run` has them, else free ones; the variables win over both.
        `services` is empty when the parts alone shall run; tests put stand-ins of the same names there.
        """
        self.home = Home(home)
        self._env = dict(env)
        self._say = say
        self._fixed_ports = fixed_ports
        self._services = tuple(services)
        self._lock = HomeLock(self.home)
        self._parts = Parts(self.home, self._env, say, fixed_ports=fixed_ports, jars=jars)
        self._processes: list[ServiceProcess] = []
        self._supervision: asyncio.Task[None] | None = None
        self.addresses: Addresses | None = None
        self.ports: dict[str, int] = {}
        """Of the services, by name."""

    async def __aenter__(self) -> Self:
        try:
            await self.start()
            await self.until_ready()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def url(self, service: Service) -> str:
        """`http://127.0.0.1:port` of a service."""
        return url_of(self.ports[service.name])

    def pids(self) -> dict[str, int]:
        """What runs at this moment, by name: the services, and the embedded parts (`kafka`, `postgres`)."""
        return {name: entry["pid"] for name, entry in self._running().items()}

    async def start(self) -> None:
        """Parts, schemas, topics, then all services at once. Raises LocalError; call `stop` afterwards in any case."""
        self.home.create()
        self._lock.__enter__()
        for service in self._services:
            await self._end_orphan(service)
        if self._services:
            self.ports = choose_ports(self._services, self._env, fixed=self._fixed_ports)
        self.addresses = await self._parts.start()
        self._say(f"kafka: {self.addresses.bootstrap_servers}")
        self._say(f"postgres: {self.addresses.database_url.rpartition('@')[2]}")
        if self._services:
            await self._start_services(self.addresses)
        self._record()
        watched = [*self._parts.embedded(), *self._processes]
        supervisor = Supervisor(watched, self._say, on_start=self._record)
        self._supervision = asyncio.create_task(supervisor.run(), name="supervisor")

    async def supervised(self) -> None:
        """Does not return while the suite runs; raises what ended the supervision, should that ever happen."""
        if self._supervision is not None:
            await asyncio.shield(self._supervision)

    async def until_ready(self, patience_seconds: float = READY_SECONDS) -> None:
        """Waits for every /readyz to be 200. Raises StartFailed when patience runs out, with what each one said."""
        waiting: dict[str, str] = {}

        async def all_ready() -> bool:
            waiting.clear()
            for process in self._processes:
                problem = await _readiness(client, url_of(process.port))
                if problem is not None:
                    waiting[process.name] = problem
            return not waiting

        async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
            if not await until(all_ready, patience_seconds, poll_seconds=0.25):
                told = "\n".join(f"{name}: {problem}" for name, problem in waiting.items())
                raise StartFailed(f"not ready after {patience_seconds:g} s (logs: {self.home.logs}):\n{told}")

    async def stop(self) -> None:
        """Services first (they drain), then the parts. Safe to call at any point of a start, and twice."""
        if self._supervision is not None:
            self._supervision.cancel()
            await asyncio.gather(self._supervision, return_exceptions=True)
            self._supervision = None
        await asyncio.gather(*(process.stop() for process in self._processes))
        self._processes = []
        await self._parts.stop()
        if self._lock.held:
            self._record()
            self._lock.__exit__(None, None, None)

    async def _start_services(self, addresses: Addresses) -> None:
        secrets = load_secrets(self.home)
        environments = {
            service: service_environment(
                service, self._env, home=self.home, ports=self.ports, addresses=addresses, secrets=secrets
            )
            for service in self._services
        }
        await prepare(self.home, environments)
        self._processes = [
            ServiceProcess(service, self.home, self.ports[service.name], environments[service])
            for service in self._services
        ]
        for process in self._processes:
            child = process.spawn()
            self._say(f"{process.name}: {url_of(process.port)} (pid {child.pid}, log appended to {child.command.log})")

    async def _end_orphan(self, service: Service) -> None:
        pid_file = self.home.pids / f"{service.name}.json"
        pid = await end_orphan(pid_file, signal.SIGTERM, ORPHAN_SECONDS)
        if pid is not None:
            self._say(f"{service.name}: ended pid {pid}, left behind by a launcher that died")

    def _running(self) -> dict[str, dict[str, int]]:
        return {
            part.name: {"pid": part.child.pid, "port": part.port}
            for part in [*self._parts.embedded(), *self._processes]
            if part.child is not None
        }

    def _record(self) -> None:
        partial = self.home.run_file.with_suffix(".partial")
        partial.write_text(json.dumps(self._running(), indent=1), "ascii")
        partial.replace(self.home.run_file)


async def _readiness(client: httpx.AsyncClient, url: str) -> str | None:
    """None when ready; else what stands in the way."""
    try:
        answer = await client.get(f"{url}/readyz")
    except httpx.HTTPError as error:
        return f"{type(error).__name__} {error}"
    return None if answer.status_code == 200 else f"{answer.status_code} {answer.text[:300]}"
