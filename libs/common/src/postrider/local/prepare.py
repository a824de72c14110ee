"""What has to exist before the services start: their schemas and the topics. Runs the commands that make them.

Each is a process of its own, with the environment of the service it belongs to: the launcher imports no service.
"""

import asyncio
import sys
from collections.abc import Mapping

from postrider.local.errors import StartFailed
from postrider.local.home import Home
from postrider.local.process import Command, log_tail, run_to_end
from postrider.local.services import Service

PATIENCE_SECONDS = 120.0


async def prepare(home: Home, environments: Mapping[Service, Mapping[str, str]]) -> None:
    """Migrates every service's schema and creates the topics, all at once; idempotent. Raises StartFailed."""
    runs = [
        _run(home, f"migrate-{service.name}", [service.module, "migrate"], env) for service, env in environments.items()
    ]
    any_service = next(iter(environments.values()))
    failures = await asyncio.gather(*runs, _run(home, "topics", ["postrider.kafka.topics"], any_service))
    told = [failure for failure in failures if failure is not None]
    if told:
        raise StartFailed("\n".join(told))


async def _run(home: Home, name: str, module: list[str], env: Mapping[str, str]) -> str | None:
    log = home.logs / f"{name}.log"
    command = Command(name, [sys.executable, "-m", *module], env, log, pid_file=None)
    code = await run_to_end(command, PATIENCE_SECONDS)
    return (
        None if code == 0 else f"python -m {' '.join(module)} ended with {code} (all of it in {log}):\n{log_tail(log)}"
    )
