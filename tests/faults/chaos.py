"""Kills and stops the suite's services and parts at random moments, by the pids in the run file, and nothing else."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

SERVICES = ("campaign-api", "segment-engine", "scheduler", "dispatcher")
PARTS = ("kafka", "postgres")


class Chaos:
    """`run` until cancelled: each few seconds SIGKILL, or SIGSTOP for a while, one service; with `outages` also Kafka,
    Postgres or both, for up to half a minute. The launcher starts again what died."""

    def __init__(self, run_file: Path, seed: int, say: Callable[[str], None], *, outages: bool = False) -> None:
        self._run_file = run_file
        self._chance = random.Random(seed)
        self._say = say
        self._outages = outages
        self.kills: dict[str, int] = dict.fromkeys((*SERVICES, *PARTS), 0)
        self.stops: dict[str, int] = dict.fromkeys((*SERVICES, *PARTS), 0)

    async def run(self) -> None:
        if self._outages:
            await self._take_parts_away()
        while True:
            await asyncio.sleep(self._chance.uniform(0.3, 3.0))
            service = self._chance.choices(SERVICES, weights=(1, 2, 2, 4))[0]
            if self._chance.random() < 0.7:
                self._kill(service)
            else:
                await self._stop_for(self._chance.choice((1.0, 4.0, 12.0)), (service,))

    async def _take_parts_away(self) -> None:
        """Each part killed once, each stopped once for seconds and once for half a minute, and both at once."""
        stopped = [(seconds, (part,)) for seconds in (6.0, 30.0) for part in PARTS] + [(20.0, PARTS)]
        acts: list[tuple[float, tuple[str, ...]]] = [(0.0, (part,)) for part in PARTS] + [(0.0, PARTS), *stopped]
        self._chance.shuffle(acts)
        for seconds, parts in acts:
            await asyncio.sleep(self._chance.uniform(1.0, 6.0))
            if seconds:
                await self._stop_for(seconds, parts)
            else:
                for part in parts:
                    self._kill(part)

    def _kill(self, name: str) -> None:
        pid = self._pid(name)
        if pid is not None:
            self._say(f"chaos: SIGKILL {name}")
            self._signal([pid], signal.SIGKILL)
            self.kills[name] += 1

    async def _stop_for(self, seconds: float, names: tuple[str, ...]) -> None:
        pids = [each for name in names if (pid := self._pid(name)) is not None for each in _tree(pid)]
        self._say(f"chaos: SIGSTOP {' and '.join(names)} for {seconds:.0f} s")
        self._signal(pids, signal.SIGSTOP)
        for name in names:
            self.stops[name] += 1
        try:
            await asyncio.sleep(seconds)
        finally:
            self._signal(pids, signal.SIGCONT)

    def _pid(self, name: str) -> int | None:
        entry = json.loads(self._run_file.read_text()).get(name)
        return None if entry is None else int(entry["pid"])

    def _signal(self, pids: list[int], number: signal.Signals) -> None:
        for pid in pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                self._say(f"chaos: pid {pid} was gone already")


def _tree(pid: int) -> list[int]:
    """The process and its children (Postgres: every backend), from /proc; itself alone where there is none."""
    found, waiting = [], [pid]
    while waiting:
        each = waiting.pop()
        found.append(each)
        for task in Path("/proc").glob(f"{each}/task/*/children"):
            waiting += [int(child) for child in task.read_text().split()]
    return found
