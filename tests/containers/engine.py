"""The container engine, through its command line alone, so that any engine with a `docker` command will do.

Commands run in a session of their own: a Ctrl-C at the terminal reaches this program, which ends them in order.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from postrider.local.containers import require_engine
from postrider.local.errors import PartMissing

GENTLY_SECONDS = 30.0
PROJECT_LABEL = "com.docker.compose.project"
SERVICE_LABEL = "com.docker.compose.service"


class CommandFailed(Exception):
    """A command ended with another code than 0, or not in time; the message carries the end of what it wrote."""


def run(
    command: Sequence[str], *, timeout: float = 60, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> str:
    """Its standard output. Interrupted, the command is asked to end and waited for before the interrupt goes on."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, cwd=cwd,
        start_new_session=True,
    )  # fmt: skip
    try:
        out, err = process.communicate(timeout=timeout)
    except BaseException as error:
        process.terminate()
        try:
            process.communicate(timeout=GENTLY_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise CommandFailed(f"{' '.join(command)} did not end within {timeout:.0f} s") from None
        raise
    if process.returncode != 0:
        tail = "\n".join((err + out).strip().splitlines()[-15:])
        raise CommandFailed(f"{' '.join(command)} ended with {process.returncode}:\n{tail}")
    return out


def docker(*arguments: str, timeout: float = 60) -> str:
    return run(["docker", *arguments], timeout=timeout)


def compose_command() -> list[str]:
    """`docker compose` where the plugin is there, else `docker-compose`. Raises PartMissing when nothing answers."""
    require_engine(os.environ)
    try:
        docker("compose", "version")
        return ["docker", "compose"]
    except CommandFailed:
        standalone = shutil.which("docker-compose")
    if standalone is None:
        raise PartMissing("compose is missing: install its plugin (docker compose) or docker-compose")
    return [standalone]


def inspect(ids: Iterable[str]) -> list[dict[str, Any]]:
    names = list(ids)
    found: list[dict[str, Any]] = json.loads(docker("inspect", *names)) if names else []
    return found


def containers_of(project: str) -> list[dict[str, Any]]:
    """Every container of a compose project, also those that ended, as `docker inspect` shows them."""
    return inspect(docker("ps", "-aq", "--filter", f"label={PROJECT_LABEL}={project}").split())


def service_of(container: Mapping[str, Any]) -> str:
    return str(container["Config"]["Labels"][SERVICE_LABEL])


def left_of(project: str) -> list[str]:
    """What the engine still has of a compose project: containers, volumes, networks."""
    label = f"label={PROJECT_LABEL}={project}"
    lists = {
        "container": docker("ps", "-aq", "--filter", label),
        "volume": docker("volume", "ls", "-q", "--filter", label),
        "network": docker("network", "ls", "-q", "--filter", label),
    }
    return [f"{kind} {name}" for kind, names in lists.items() for name in names.split()]
