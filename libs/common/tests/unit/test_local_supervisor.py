"""The restart policy as a table, and the supervisor's rounds on fake processes and a fake clock."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from postrider.local.supervisor import (
    RESTART_DELAYS_SECONDS,
    STEADY_SECONDS,
    Restart,
    Supervisor,
    decide_restart,
    describe_exit,
)


@pytest.mark.parametrize(
    ("deaths_before", "lived_seconds", "expected"),
    [
        (0, 0.1, Restart(1, 0.2)),
        (1, 0.1, Restart(2, 0.5)),
        (4, STEADY_SECONDS - 0.1, Restart(5, 4.0)),
        (5, 0.0, Restart(6, 8.0)),
        (99, 0.0, Restart(100, 8.0)),
        (99, STEADY_SECONDS, Restart(1, 0.2)),
        (0, 3600.0, Restart(1, 0.2)),
    ],
)
def test_policy(deaths_before: int, lived_seconds: float, expected: Restart) -> None:
    assert decide_restart(deaths_before, lived_seconds) == expected


def test_delays_grow_and_end() -> None:
    assert list(RESTART_DELAYS_SECONDS) == sorted(RESTART_DELAYS_SECONDS)
    assert RESTART_DELAYS_SECONDS[-1] < STEADY_SECONDS, "a process that keeps dying at once would count as steady"


def test_exit_codes_are_told_apart_from_signals() -> None:
    assert (describe_exit(3), describe_exit(-9)) == ("code 3", "signal 9")


@dataclass
class FakeProcess:
    pid: int
    started_at: float
    code: int | None = None
    log: Path = Path("x.log")

    def exit_code(self) -> int | None:
        return self.code


@dataclass
class FakePart:
    clock: list[float]
    name: str = "dispatcher"
    started: list[FakeProcess] = field(default_factory=list)
    refuse: bool = False

    @property
    def child(self) -> FakeProcess | None:
        return self.started[-1] if self.started else None

    def spawn(self) -> FakeProcess:
        if self.refuse:
            raise BlockingIOError("no more processes")
        self.started.append(FakeProcess(100 + len(self.started), self.clock[0]))
        return self.started[-1]


class World:
    """A supervisor over one part, at a time that the test moves."""

    def __init__(self) -> None:
        self.clock = [0.0]
        self.part = FakePart(self.clock)
        self.part.spawn()
        self.said: list[str] = []
        self.starts = 0
        self.supervisor = Supervisor([self.part], self.said.append, on_start=self._count, clock=lambda: self.clock[0])

    def _count(self) -> None:
        self.starts += 1

    def at(self, seconds: float) -> None:
        self.clock[0] = seconds
        self.supervisor.look()


def test_what_runs_is_left_alone() -> None:
    world = World()
    world.at(5.0)
    assert (len(world.part.started), world.said) == (1, [])


def test_a_death_is_told_once_and_the_process_comes_back_after_its_delay() -> None:
    world = World()
    world.part.started[-1].code = -9
    world.at(1.0)
    world.at(1.19)
    assert world.said == ["dispatcher: pid 100 died (signal 9), starting it again in 0.2 s; its log: x.log"]
    assert world.starts == 0
    world.at(1.2)
    assert world.said[1:] == ["dispatcher: started again, pid 101"]
    assert (len(world.part.started), world.starts) == (2, 1)


def test_quick_deaths_wait_longer_and_a_steady_life_forgives() -> None:
    world = World()
    now, delays = 0.0, []
    for _ in range(3):
        world.part.started[-1].code = 1
        world.at(now)
        delays.append(world.said[-1].partition("again in ")[2].partition(" s;")[0])
        now += 1.0
        world.at(now)
    assert delays == ["0.2", "0.5", "1"]
    world.part.started[-1].code = 1
    world.at(now + STEADY_SECONDS)
    assert "starting it again in 0.2 s" in world.said[-1]


def test_a_start_that_the_machine_refuses_is_tried_again_later() -> None:
    world = World()
    world.part.started[-1].code = 1
    world.at(0.0)
    world.part.refuse = True
    world.at(0.2)
    assert world.said[-1] == "dispatcher: cannot be started (no more processes), next try in 0.5 s"
    world.part.refuse = False
    world.at(0.69)
    assert len(world.part.started) == 1
    world.at(0.7)
    assert len(world.part.started) == 2
