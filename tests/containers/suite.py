"""deploy/compose.yaml brought up under a project of its own, on free ports and with fresh secrets, and taken down again
with everything it made: also when it fails, when it is interrupted, and after a run that was killed.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from postrider.local.home import Home, HomeLock, workspace
from postrider.local.ports import KAFKA_PORT_VARIABLE, LOOPBACK, free_port
from postrider.local.services import CAMPAIGN_API, SERVICES, Service
from tests.containers.engine import CommandFailed, compose_command, containers_of, docker, left_of, run, service_of

PROJECT = "postrider-smoke"
UP_SECONDS = 240.0
DOWN_SECONDS = 200.0
HEALTHY_SECONDS = 120.0
SECRETS_IMAGE = "postrider/dispatcher"
_INTERRUPTS = (signal.SIGTERM, signal.SIGHUP)


class NotUp(Exception):
    """The containers did not become healthy; the message says what each of them is and ends with their logs."""


class LeftBehind(Exception):
    """The engine still has something of the project after it was taken down."""


class ComposeSuite:
    """One installation. `up`, `stop` and `down` may be called in any order."""

    def __init__(self, project: str, env_file: Path) -> None:
        self.project = project
        self.ports = {service.name: free_port() for service in SERVICES}
        self.kafka_port = free_port()
        self._command = [
            *compose_command(), "-p", project, "--env-file", str(env_file),
            "-f", str(workspace() / "deploy" / "compose.yaml"),
        ]  # fmt: skip
        self._env = {name: value for name, value in os.environ.items() if not name.startswith("POSTRIDER_")}
        self._env["POSTRIDER_TAG"] = tag = os.environ.get("POSTRIDER_TAG", "local")
        made = docker("run", "--rm", "--read-only", "--network", "none", f"{SECRETS_IMAGE}:{tag}", "new-env")
        self.secrets = dict(line.split("=", 1) for line in made.splitlines())
        ports = {service.port_variable: self.ports[service.name] for service in SERVICES}
        lines = [*made.splitlines(), *(f"{name}={port}" for name, port in ports.items())]
        lines.append(f"{KAFKA_PORT_VARIABLE}={self.kafka_port}")
        env_file.touch(mode=0o600)
        env_file.write_text("\n".join(lines) + "\n", "ascii")

    @property
    def key(self) -> str:
        return self.secrets["POSTRIDER_BOOTSTRAP_KEY"]

    @property
    def kafka(self) -> str:
        return f"{LOOPBACK}:{self.kafka_port}"

    def url(self, service: Service = CAMPAIGN_API) -> str:
        return f"http://{LOOPBACK}:{self.ports[service.name]}"

    def compose(self, *arguments: str, timeout: float = 60.0) -> str:
        return run([*self._command, *arguments], timeout=timeout, env=self._env)

    def up(self) -> None:
        """Returns when every container that stays is healthy. Raises NotUp."""
        try:
            self.compose("up", "-d", "--no-build", timeout=UP_SECONDS)
            deadline = time.monotonic() + HEALTHY_SECONDS
            while unhealthy := self.unhealthy():
                if time.monotonic() > deadline:
                    raise NotUp(f"not healthy after {HEALTHY_SECONDS:.0f} s: {unhealthy}\n{self._logs()}")
                time.sleep(0.5)
        except CommandFailed as error:
            raise NotUp(f"{error}\n{self.unhealthy()}\n{self._logs()}") from error

    def unhealthy(self) -> dict[str, str]:
        """What is wrong, by service: a container that runs and is not healthy, or that ended although it should not."""
        found = {}
        for container in containers_of(self.project):
            state = container["State"]
            health = state.get("Health", {}).get("Status", "no health check")
            if container["HostConfig"]["RestartPolicy"]["Name"] == "no":
                if state["Status"] != "exited" or state["ExitCode"] != 0:
                    found[service_of(container)] = f"{state['Status']}, exit code {state['ExitCode']}"
            elif state["Status"] != "running" or health != "healthy":
                found[service_of(container)] = f"{state['Status']}, {health}"
        return found

    def down(self, *, volumes: bool) -> None:
        """Stops in order and removes. With `volumes` nothing of the project is left, or LeftBehind is raised."""
        options = ["--remove-orphans", *(["-v"] if volumes else [])]
        self.compose("down", *options, timeout=DOWN_SECONDS)
        if volumes and left_of(self.project):
            self.compose("down", *options, timeout=DOWN_SECONDS)  # what an interrupted `up` was just about to make
            if left := left_of(self.project):
                raise LeftBehind(f"still there after `down -v`: {', '.join(left)}")

    def _logs(self) -> str:
        try:
            return self.compose("logs", "--no-color", "--tail=8")[-6000:]
        except CommandFailed as error:
            return str(error)


@contextmanager
def compose_suite(say: Callable[[str], None], project: str = PROJECT) -> Iterator[ComposeSuite]:
    """Up and healthy inside; nothing of it is left afterwards, however the block ends."""
    home = Home(workspace() / ".local" / "containers" / project)
    with interrupts_raise(), HomeLock(home):
        suite = ComposeSuite(project, home.path / "env")
        if left := left_of(project):
            say(f"removing what a killed run left: {', '.join(left)}")
            suite.down(volumes=True)
        try:
            suite.up()
            yield suite
        finally:
            with interrupts_wait():
                say("stopping and removing everything")
                suite.down(volumes=True)
                (home.path / "env").unlink()


@contextmanager
def interrupts_raise() -> Iterator[None]:
    """A request to end, however it is made, takes the way of Ctrl-C: through every `finally`."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with _handling(dict.fromkeys(_INTERRUPTS, interrupt)):
        yield


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Taking down is bounded in time and is not itself interrupted."""
    with _handling(dict.fromkeys((*_INTERRUPTS, signal.SIGINT), signal.SIG_IGN)):
        yield


@contextmanager
def _handling(
    handlers: dict[signal.Signals, Callable[[int, FrameType | None], None] | signal.Handlers],
) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
