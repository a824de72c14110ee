"""The four services as processes: their names, ports and environment; pure but for `ServiceProcess`.

The environment of a service is decided here for one machine; in containers the deployment does it.
"""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from postrider.local.errors import LocalError
from postrider.local.home import Home
from postrider.local.parts import Addresses
from postrider.local.ports import LOOPBACK, free_port, require_free
from postrider.local.process import Child, Command

STOP_SECONDS = 30.0
DEVELOPMENT_KEY = "dev-admin-key"


@dataclass(frozen=True)
class Service:
    """One of the four, as api.md names it."""

    name: str
    module: str
    port_variable: str
    usual_port: int


CAMPAIGN_API = Service("campaign-api", "campaign_api", "POSTRIDER_API_PORT", 8080)
DISPATCHER = Service("dispatcher", "dispatcher", "POSTRIDER_DISPATCHER_PORT", 8081)
SEGMENT_ENGINE = Service("segment-engine", "segment_engine", "POSTRIDER_SEGMENT_ENGINE_PORT", 8082)
SCHEDULER = Service("scheduler", "scheduler", "POSTRIDER_SCHEDULER_PORT", 8083)
SERVICES = (SEGMENT_ENGINE, SCHEDULER, DISPATCHER, CAMPAIGN_API)

OWNERS_OF_A_SECRET: Mapping[str, tuple[str, ...]] = {
    "POSTRIDER_SEALING_PRIVATE_KEY": ("dispatcher",),
    "POSTRIDER_SEALING_PREVIOUS_PRIVATE_KEY": ("dispatcher",),
    "POSTRIDER_SEALING_PUBLIC_KEY": ("campaign-api",),
    "POSTRIDER_BOOTSTRAP_KEY": ("campaign-api",),
    # Whoever may open the database gets its URL, and nobody needs the password by itself.
    "POSTRIDER_POSTGRES_PASSWORD": (),
}
"""Variables that only these services may see; all others are for all four."""


def choose_ports(services: Iterable[Service], env: Mapping[str, str], *, fixed: bool) -> dict[str, int]:
    """By the name of the service: what its variable says, else the usual port (`fixed`) or a free one.

    Raises PortTaken when a port that was not chosen here is in use.
    """
    host = env.get("POSTRIDER_BIND_HOST", LOOPBACK)
    ports: dict[str, int] = {}
    for service in services:
        given = env.get(service.port_variable)
        if given and not (given.isdigit() and 0 < int(given) < 65536):
            raise LocalError(f"{service.port_variable} is {given!r}: it must be a port number")
        if given or fixed:
            port = require_free(int(given) if given else service.usual_port, service.port_variable, host)
        else:
            port = free_port()
            while port in ports.values():
                port = free_port()
        if port in ports.values():
            raise LocalError(f"{service.port_variable} is {port}, which another service has already")
        ports[service.name] = port
    return ports


def url_of(port: int) -> str:
    """How the suite's own processes reach a service."""
    return f"http://{LOOPBACK}:{port}"


def service_environment(
    service: Service,
    env: Mapping[str, str],
    *,
    home: Home,
    ports: Mapping[str, int],
    addresses: Addresses,
    secrets: Mapping[str, str],
) -> dict[str, str]:
    """This run's addresses, over `env`, over the kept secrets and the defaults; an empty variable is no variable."""
    made = {
        "POSTRIDER_BIND_HOST": LOOPBACK,
        "POSTRIDER_DEVELOPMENT": "1",
        "POSTRIDER_BOOTSTRAP_KEY": DEVELOPMENT_KEY,
        "POSTRIDER_PUBLIC_URL": url_of(ports[DISPATCHER.name]),
        "POSTRIDER_EVENT_STORE_PATH": str(home.path / "event-store"),
        "PYTHONUNBUFFERED": "1",
        **secrets,
        **{name: value for name, value in env.items() if value or not name.startswith("POSTRIDER_")},
        "POSTRIDER_HOME": str(home.path),
        "POSTRIDER_CAMPAIGN_API_URL": url_of(ports[CAMPAIGN_API.name]),
        "POSTRIDER_DISPATCHER_URL": url_of(ports[DISPATCHER.name]),
        "POSTRIDER_SEGMENT_ENGINE_URL": url_of(ports[SEGMENT_ENGINE.name]),
        "POSTRIDER_SCHEDULER_URL": url_of(ports[SCHEDULER.name]),
        **{other.port_variable: str(ports[other.name]) for other in SERVICES},
        **addresses.environment(),
    }
    return {
        name: value for name, value in made.items() if service.name in OWNERS_OF_A_SECRET.get(name, (service.name,))
    }


class ServiceProcess:
    """`python -m <module>`, its JSON log appended to the home's logs."""

    def __init__(self, service: Service, home: Home, port: int, env: Mapping[str, str]) -> None:
        self.name = service.name
        self.port = port
        self.child: Child | None = None
        self._command = Command(
            name=service.name,
            argv=[sys.executable, "-m", service.module],
            env=env,
            log=home.logs / f"{service.name}.log",
            pid_file=home.pids / f"{service.name}.json",
        )

    def spawn(self) -> Child:
        self.child = Child(self._command)
        return self.child

    async def stop(self) -> None:
        """SIGTERM, time to drain, SIGKILL."""
        if self.child is not None:
            await self.child.stop(STOP_SECONDS)
            self.child = None
