"""`make run STANDINS=1`: the suite, and vendors to try it with. One stand-in for each kind of provider listens on the
loopback, takes texts, reports them back, and plays a person's answer; how each is made a provider is printed, and kept
in `.local/standins`.

They live with the tests, which they are made for; nothing that is deployed has them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from postrider.local.errors import LocalError, StartFailed
from postrider.local.home import Home, home_from, workspace
from postrider.local.parts import print_line
from postrider.local.ports import require_free
from postrider.local.process import Child, Command, until
from postrider.local.run import run
from tests.standins.accounts import ACCOUNTS, Account

FIRST_PORT_VARIABLE, FIRST_PORT = "POSTRIDER_STANDINS_PORT", 9101
HOSTS_VARIABLE, LOOPBACK_NETWORK = "POSTRIDER_ALLOWED_PRIVATE_HOSTS", "127.0.0.0/8"
START_SECONDS = 20.0
STOP_SECONDS = 5.0


def usual_ports(env: Mapping[str, str]) -> dict[str, int]:
    """One after the other. Raises PortTaken."""
    first = env.get(FIRST_PORT_VARIABLE) or str(FIRST_PORT)
    if not first.isdigit():
        raise LocalError(f"{FIRST_PORT_VARIABLE} is {first!r}: it must be a port number")
    return {name: require_free(port, FIRST_PORT_VARIABLE) for port, name in enumerate(ACCOUNTS, start=int(first))}


class Standins:
    """`async with Standins(home, ports) as standins:` has each of them listening inside. `files`: what
    `POST /v1/providers` takes, by name."""

    def __init__(self, home: Home, ports: Mapping[str, int], say: Callable[[str], None] = print_line) -> None:
        self._home = home
        self._say = say
        self._children: list[Child] = []
        self.ports = dict(ports)
        self.folder = home.path / "standins"
        self.files: dict[str, Path] = {}

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def _start(self) -> None:
        self._home.create()
        self.folder.mkdir(exist_ok=True)
        for name, port in self.ports.items():
            account = ACCOUNTS[name]
            self._children.append(Child(self._command(name, account, port)))
            self.files[name] = self.folder / f"{name}.json"
            self.files[name].write_text(json.dumps(account.definition(f"{name} stand-in", port), indent=1) + "\n")
        async with httpx.AsyncClient(trust_env=False) as client:

            async def all_listen() -> bool:
                try:
                    for port in self.ports.values():
                        await client.get(f"http://127.0.0.1:{port}/_stats")
                except httpx.TransportError:
                    return False
                return True

            if not await until(all_listen, START_SECONDS):
                raise StartFailed(f"the stand-ins did not start within {START_SECONDS:.0f} s; logs: {self._home.logs}")
        self._say(
            "stand-ins of vendors; -d @FILE makes one a provider, and its answer goes to the stand-in's _account:"
        )
        for name, port in self.ports.items():
            answers = "" if ACCOUNTS[name].plays_inbound else ", no texts from people"
            self._say(f"  {name:14} http://127.0.0.1:{port}  {self.files[name]}{answers}")

    def _command(self, name: str, account: Account, port: int) -> Command:
        options = [*account.options, "--port", str(port), "--log", str(self.folder / f"{name}.jsonl")]
        if account.reports:
            options += ["--receipts", "delivered"]
        return Command(
            name=f"standin-{name}",
            argv=[sys.executable, "-m", f"tests.standins.{account.module}", *options],
            env=os.environ,
            log=self._home.logs / f"standin-{name}.log",
            pid_file=self._home.pids / f"standin-{name}.json",
            cwd=workspace(),
        )

    async def _stop(self) -> None:
        await asyncio.gather(*(child.stop(STOP_SECONDS) for child in self._children))
        self._children = []


async def main(*, with_parent: bool) -> int:
    """The exit code."""
    hosts = os.environ.get(HOSTS_VARIABLE, "")
    os.environ[HOSTS_VARIABLE] = f"{hosts},{LOOPBACK_NETWORK}".lstrip(",")
    async with AsyncExitStack() as running:
        try:
            await running.enter_async_context(Standins(Home(home_from(os.environ)), usual_ports(os.environ)))
        except (LocalError, OSError) as error:
            print_line(f"error: {error}")
            return 1
        return await run(parts_only=False, with_parent=with_parent)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m demo.standins", description=__doc__)
    parser.add_argument(
        "--stop-with-parent", action="store_true", help="stop when make, which starts it, is stopped (Linux)"
    )
    sys.exit(asyncio.run(main(with_parent=parser.parse_args().stop_with_parent)))
