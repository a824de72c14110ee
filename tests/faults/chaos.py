"""Kills and stops the suite's services at random moments, by the pids in the run file. Touches nothing else."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

SERVICES = ("campaign-api", "segment-engine", "scheduler", "dispatcher")


class Chaos:
    """`run` until cancelled: each few seconds SIGKILL, or SIGSTOP for a while, one service."""

    def __init__(self, run_file: Path, seed: int, say: Callable[[str], None]) -> None:
        self._run_file = run_file
        self._chance = random.Random(seed)
        self._say = say
        self.kills: dict[str, int] = dict.fromkeys(SERVICES, 0)
        self.stops: dict[str, int] = dict.fromkeys(SERVICES, 0)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self._chance.uniform(0.3, 3.0))
            service = self._chance.choices(SERVICES, weights=(1, 2, 2, 4))[0]
            pid = self._pid(service)
            if pid is None:
                continue
            if self._chance.random() < 0.7:
                self._signal(pid, signal.SIGKILL)
                self.kills[service] += 1
                self._say(f"chaos: SIGKILL {service}")
            else:
                seconds = self._chance.choice((1.0, 4.0, 12.0))
                self._say(f"chaos: SIGSTOP {service} for {seconds:.0f} s")
                self._signal(pid, signal.SIGSTOP)
                self.stops[service] += 1
                try:
                    await asyncio.sleep(seconds)
                finally:
                    self._signal(pid, signal.SIGCONT)

    def _pid(self, service: str) -> int | None:
        running = json.loads(self._run_file.read_text())
        entry = running.get(service)
        return None if entry is None else int(entry["pid"])

    def _signal(self, pid: int, number: signal.Signals) -> None:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            self._say(f"chaos: pid {pid} was gone already")
