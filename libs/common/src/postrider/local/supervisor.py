"""Keeps processes running: restarts what dies, with a back-off, and says so.

The policy is a pure function of a table; the loop obeys it. Does not know what the processes do, and does not stop
them: their owner does, after the loop has ended.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

RESTART_DELAYS_SECONDS = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
"""By the number of quick deaths in a row; the last one repeats."""
STEADY_SECONDS = 10.0
"""A process that lived this long has worked: its next death counts as the first."""
LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class Restart:
    """What to do about a death."""

    deaths: int
    """Quick deaths in a row, this one included."""
    delay_seconds: float


def decide_restart(deaths_before: int, lived_seconds: float) -> Restart:
    """The policy: `deaths_before` quick deaths in a row, then one more after `lived_seconds`."""
    deaths = 1 if lived_seconds >= STEADY_SECONDS else deaths_before + 1
    return Restart(deaths, RESTART_DELAYS_SECONDS[min(deaths, len(RESTART_DELAYS_SECONDS)) - 1])


def describe_exit(code: int) -> str:
    """ "code 3", or "signal 9"."""
    return f"signal {-code}" if code < 0 else f"code {code}"


class Running(Protocol):
    """A started process, as the supervisor needs it (`process.Child` is one)."""

    @property
    def pid(self) -> int: ...

    @property
    def started_at(self) -> float: ...

    @property
    def log(self) -> Path: ...

    def exit_code(self) -> int | None: ...


class Restartable(Protocol):
    """What can be started again."""

    @property
    def name(self) -> str: ...

    @property
    def child(self) -> Running | None: ...

    def spawn(self) -> Running: ...


@dataclass
class _Watch:
    part: Restartable
    deaths: int = 0
    due_at: float | None = None
    """When to start it again (monotonic clock); None while it runs."""


class Supervisor:
    """Watches the given processes, all of them started already."""

    def __init__(
        self,
        parts: Iterable[Restartable],
        say: Callable[[str], None],
        *,
        on_start: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_start` is called after every restart."""
        self._watches = [_Watch(part) for part in parts]
        self._say = say
        self._on_start = on_start
        self._clock = clock

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """One round: notice deaths, start what is due."""
        now = self._clock()
        for watch in self._watches:
            if watch.due_at is None:
                self._notice_death(watch, now)
            elif now >= watch.due_at:
                self._start_again(watch, now)

    def _notice_death(self, watch: _Watch, now: float) -> None:
        child = watch.part.child
        code = None if child is None else child.exit_code()
        if child is None or code is None:
            return
        restart = decide_restart(watch.deaths, now - child.started_at)
        watch.deaths, watch.due_at = restart.deaths, now + restart.delay_seconds
        self._say(
            f"{watch.part.name}: pid {child.pid} died ({describe_exit(code)}), "
            f"starting it again in {restart.delay_seconds:g} s; its log: {child.log}"
        )

    def _start_again(self, watch: _Watch, now: float) -> None:
        try:
            child = watch.part.spawn()
        except OSError as error:  # no memory, no process slots: the machine may recover
            restart = decide_restart(watch.deaths, 0.0)
            watch.deaths, watch.due_at = restart.deaths, now + restart.delay_seconds
            self._say(f"{watch.part.name}: cannot be started ({error}), next try in {restart.delay_seconds:g} s")
            return
        watch.due_at = None
        self._say(f"{watch.part.name}: started again, pid {child.pid}")
        self._on_start()
