"""Kills and stops the suite's processes at random moments, by the pids in the run files, and nothing else; cuts the
wire to Postgres; takes providers away.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Protocol

from tests.faults.providers import Providers

SERVICES = ("campaign-api", "segment-engine", "scheduler", "dispatcher", "dispatcher-2")
WEIGHTS = (2, 3, 3, 4, 4)
PARTS = ("kafka", "postgres")
SECONDS_A_KILL = 2.2
"""About; with what the launcher waits before it starts what died again."""
STOPS_SECONDS = (1.0, 4.0, 12.0, 28.0, 50.0)
"""Of a service: shorter and longer than a lease (22 s) and a session (45 s)."""
STEADY_SECONDS = 8.0
"""Between two outages: time for everybody to be back."""
LAUNCHER_SECONDS = 15.0
"""Within which the launcher has started what died again and again, and it answers."""
CUT_SHARE = 0.02
ACTS = 7
"""Of one run."""


class Wire(Protocol):
    """What lies between the services and Postgres (`tests.standins.postgres_proxy`)."""

    cut_share: float

    def black_hole(self) -> contextlib.AbstractAsyncContextManager[None]: ...

    async def refuse(self) -> None: ...

    async def admit(self) -> None: ...


class Chaos:
    """`run`: every few seconds SIGKILL, to one service or several, until `kills` are made; meanwhile, one after the
    other, services stand still, a deploy rolls over them, and providers hang or are down. With `outages` the parts go
    away first, in every way there is, in an order of the seed. The launchers start again what died.

    `ledger` gets a line for each outage that everybody has to notice: what was away, from when to when; one without
    parts for the time in which no service is touched; and one of each service that stood still, and each provider.
    """

    def __init__(
        self,
        run_files: Sequence[Path],
        providers: Providers,
        seed: int,
        say: Callable[[str], None],
        ledger: Path,
        wire: Wire,
        *,
        kills: int,
        outages: bool = False,
    ) -> None:
        self._run_files = run_files
        self._providers = providers
        self._chance = random.Random(seed)
        self._say = say
        self._ledger = ledger
        self._wire = wire
        self._wanted = kills
        self._outages = outages
        self.kills = 0
        self.acts: dict[str, int] = {}

    async def run(self) -> None:
        if self._outages:
            await self._take_parts_away()
        standing_still = asyncio.create_task(self._stand_still())
        try:
            while self.kills < self._wanted:
                await asyncio.sleep(self._chance.uniform(0.3, 5.0))
                if standing_still.done():
                    await standing_still  # it ends by itself only by an error
                most = self._chance.choices((1, 2, len(SERVICES)), (6, 3, 1))[0]
                for service in dict.fromkeys(self._chance.choices(SERVICES, WEIGHTS, k=most)):
                    if self.kills < self._wanted and self._signal_one(service, signal.SIGKILL):
                        self.kills += 1
        finally:
            standing_still.cancel()
            await asyncio.gather(standing_still, return_exceptions=True)

    async def _stand_still(self) -> None:
        while True:
            await asyncio.sleep(self._chance.uniform(1.0, 8.0))
            lot = self._chance.random()
            if lot < 0.15:
                await self._roll()
                continue
            if lot < 0.6:
                service = self._chance.choices(SERVICES, WEIGHTS)[0]
                async with self._noted((), service=service):
                    await self._stop_for(self._chance.choice(STOPS_SECONDS), (service,))
                continue
            name = self._chance.choice(list(self._providers.standins))
            if self._chance.random() < 0.5:
                await self._provider_hangs(name, self._chance.choice((5.0, 30.0)))
            else:
                await self._provider_is_down(name, self._chance.uniform(5.0, 15.0))

    async def _take_parts_away(self) -> None:
        """Restarts, hangs, refusals, a dead wire, cut commits: some of what can happen, in any order."""
        chance = self._chance
        acts: list[Coroutine[None, None, None]] = [
            self._restart("kafka", signal.SIGKILL),
            self._restart("kafka", signal.SIGTERM),
            self._restart("postgres", chance.choice((signal.SIGKILL, signal.SIGQUIT))),
            self._restart("postgres", signal.SIGINT),
            self._hang(chance.choice((15.0, 30.0, 65.0)), "kafka"),
            self._hang(chance.choice((15.0, 30.0)), "postgres"),
            self._hang(chance.uniform(12.0, 25.0), *PARTS),
            self._kill_again_and_again("kafka", 25.0),
            self._refuse(20.0),
            self._black_hole(chance.choice((8.0, 25.0))),
            self._provider_hangs(chance.choice(list(self._providers.standins)), 20.0),
        ]
        chance.shuffle(acts)
        self._wire.cut_share = CUT_SHARE
        async with self._noted(()):
            await asyncio.sleep(chance.uniform(0.0, 3.0))
            for act in acts[:ACTS]:
                await act
                await asyncio.sleep(STEADY_SECONDS + chance.uniform(0.0, 4.0))
        for act in acts[ACTS:]:
            act.close()
        self._wire.cut_share = 0.0

    # Ways to be away

    async def _roll(self) -> None:
        """A deploy: each service in turn is asked to stop, and another takes its place."""
        for service in self._chance.sample(SERVICES, len(SERVICES)):
            self._signal_one(service, signal.SIGTERM)
            await asyncio.sleep(self._chance.uniform(1.0, 4.0))

    async def _restart(self, part: str, number: signal.Signals) -> None:
        self._signal_one(part, number)

    async def _hang(self, seconds: float, *parts: str) -> None:
        async with self._noted(parts):
            await self._stop_for(seconds, parts)

    async def _kill_again_and_again(self, part: str, seconds: float) -> None:
        """Its launcher starts it each time; it seldom lives to answer."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._signal_one(part, signal.SIGKILL)
            await asyncio.sleep(self._chance.uniform(0.5, 3.0))
        await asyncio.sleep(LAUNCHER_SECONDS)

    async def _refuse(self, seconds: float) -> None:
        self._count("refused connections", f"to Postgres for {seconds:.0f} s")
        async with self._noted(("postgres",)):
            await self._wire.refuse()
            try:
                await asyncio.sleep(seconds)
            finally:
                await self._wire.admit()

    async def _black_hole(self, seconds: float) -> None:
        self._count("black hole", f"before Postgres for {seconds:.0f} s")
        async with self._noted(("postgres",)), self._wire.black_hole():
            await asyncio.sleep(seconds)

    async def _provider_hangs(self, name: str, seconds: float) -> None:
        pid = self._providers.standins[name].pid
        if pid is not None:
            async with self._noted((), provider=name):
                await self._stop_pids([pid], f"provider {name}", seconds)

    async def _provider_is_down(self, name: str, seconds: float) -> None:
        """Killed, texts in its hands; connections are refused until it is back."""
        self._count(f"provider {name} down", f"for {seconds:.0f} s")
        standin = self._providers.standins[name]
        async with self._noted((), provider=name):
            await standin.kill()
            try:
                await asyncio.sleep(seconds)
            finally:
                await standin.start()

    @contextlib.asynccontextmanager
    async def _noted(self, parts: Sequence[str], **more: Any) -> AsyncIterator[None]:
        began = time.time()
        try:
            yield
        finally:
            with self._ledger.open("a") as file:
                line = {"parts": list(parts), "began": began, "ended": time.time(), **more}
                file.write(json.dumps(line) + "\n")

    # Signals

    async def _stop_for(self, seconds: float, names: Sequence[str]) -> None:
        pids = [each for name in names if (pid := self._pid(name)) is not None for each in _tree(pid)]
        await self._stop_pids(pids, " and ".join(names), seconds)

    async def _stop_pids(self, pids: Sequence[int], whose: str, seconds: float) -> None:
        self._count(f"SIGSTOP {whose}", f"for {seconds:.0f} s")
        self._signal(pids, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._signal(pids, signal.SIGCONT)

    def _signal_one(self, name: str, number: signal.Signals) -> bool:
        """Whether there was somebody to get it."""
        pid = self._pid(name)
        if pid is None or not self._signal([pid], number):
            return False
        self._count(f"{number.name} {name}")
        return True

    def _count(self, act: str, more: str = "") -> None:
        self._say(f"chaos: {act} {more}".rstrip())
        self.acts[act] = self.acts.get(act, 0) + 1

    def _pid(self, name: str) -> int | None:
        for run_file in self._run_files:
            entry = json.loads(run_file.read_text()).get(name)
            if entry is not None:
                return int(entry["pid"])
        return None

    def _signal(self, pids: Sequence[int], number: signal.Signals) -> int:
        """How many of them are there: the launcher starts some of them again just now."""
        reached = 0
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
                reached += 1
        return reached


def _tree(pid: int) -> list[int]:
    """The process and its children (Postgres: every backend), from /proc; itself alone where there is none."""
    found, waiting = [], [pid]
    while waiting:
        each = waiting.pop()
        found.append(each)
        for task in Path("/proc").glob(f"{each}/task/*/children"):
            waiting += [int(child) for child in task.read_text().split()]
    return found
