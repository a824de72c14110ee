"""`make test`: pytest in a few processes that share the test files, and other checks beside them.

`python -m tests.lanes [--lanes N] [--check COMMAND]… -- PYTEST'S ARGUMENTS`. Prints a line for each file, then
all that failed, then the totals, `N passed, M failed`, as the last line. Whatever goes wrong outside a test counts as
one failure each: a check, a lane that died, an error at the end of its session.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from postrider.local.child import die_with
from postrider.local.parts import print_line

POLL_SECONDS = 0.2
NO_TESTS = 5
INTERRUPTED = 130


@dataclass
class Told:
    """What the lanes have said so far. `broken`: a line for each failure, once, whichever lanes saw it."""

    collected: int = 0
    passed: int = 0
    skipped: int = 0
    broken: dict[str, None] = field(default_factory=dict)
    by_lane: dict[int, int] = field(default_factory=dict)

    def hear(self, lane: int, line: str) -> None:
        said: dict[str, Any] = json.loads(line)
        if "collected" in said:
            self.collected = said["collected"]
        elif "file" in said:
            self.passed += said["passed"]
            failed = f", {said['broken_in_file']} failed" if said["broken_in_file"] else ""
            print_line(f"{said['seconds']:6.1f} s  {said['file']}: {said['passed']} passed{failed}")
        elif "skipped" in said:
            self.skipped += 1
            print_line(f"skipped: {said['skipped']}")
        else:
            self.by_lane[lane] = self.by_lane.get(lane, 0) + 1
            self.fail(f"{said['broken']} ({said['when']})")

    def fail(self, what: str) -> None:
        if what not in self.broken:
            self.broken[what] = None
            print_line(f"FAILED {what}")


class Run:
    """One `make test`."""

    def __init__(self, folder: Path, told: Told) -> None:
        self.interrupted = False
        self._folder = folder
        self._told = told
        self._processes: list[asyncio.subprocess.Process] = []

    def interrupt(self) -> None:
        """Everything ends in order: pytest tears its fixtures down."""
        self.interrupted = True
        for process in self._processes:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGINT)

    async def command(self, name: str, *command: str) -> tuple[int, str]:
        """Its exit code and what it printed. In a group of its own: what interrupts it is `interrupt`, once."""
        log = self._folder / f"{name}.log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        self._processes.append(process)
        if self.interrupted:
            self.interrupt()
        return await process.wait(), log.read_text("utf-8", errors="replace")

    async def checks(self, commands: list[list[str]]) -> None:
        for command in commands:
            code, output = await self.command("check", *command)
            if output:
                print_line(output.rstrip("\n"))
            if code != 0 and not self.interrupted:
                self._told.fail(f"{' '.join(command)} (ended with {code})")

    async def lane(self, number: int, arguments: list[str], show: bool) -> tuple[int, str]:
        """Its exit code, and what is to be shown of its output in the end."""
        command = [sys.executable, "-m", "pytest", "-p", "tests.lanes.plugin"]
        where = ["--lanes", str(self._folder), "--lane", str(number)]
        lane = asyncio.ensure_future(self.command(f"lane-{number}", *command, *where, *arguments))
        events, heard = self._folder / f"events-{number}", 0
        while True:
            over = lane.done()
            if events.exists():
                complete = events.read_text("utf-8").rpartition("\n")[0].split("\n")
                for line in complete[heard:] if complete != [""] else []:
                    self._told.hear(number, line)
                    heard += 1
            if over:
                break
            await asyncio.wait({lane}, timeout=POLL_SECONDS)
        code, output = await lane
        if code not in (0, NO_TESTS) and not self._told.by_lane.get(number) and not self.interrupted:
            self._told.fail(f"lane {number} (ended with {code})")
        return code, output if show or code not in (0, NO_TESTS) else ""


async def run(options: argparse.Namespace) -> int:
    began = time.monotonic()
    told = Told()
    with tempfile.TemporaryDirectory(prefix="postrider-lanes-") as folder:
        this = Run(Path(folder), told)
        loop = asyncio.get_running_loop()
        for wish in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(wish, this.interrupt)
        async with asyncio.TaskGroup() as group:
            group.create_task(this.checks([check.split() for check in options.check]))
            lanes = [
                group.create_task(this.lane(number, options.pytest, options.show)) for number in range(options.lanes)
            ]
    results = [lane.result() for lane in lanes]
    if not told.broken and told.passed + told.skipped != told.collected and not this.interrupted:
        told.fail(f"{told.collected} tests were found and {told.passed + told.skipped} were run")
    for number, (_, output) in enumerate(results):
        if output:
            print_line(f"\nlane {number}:\n{output.rstrip()}")
    for what in told.broken:
        print_line(f"FAILED {what}")
    if this.interrupted:
        print_line("interrupted")
    print_line(f"{time.monotonic() - began:.0f} s in {options.lanes} lanes")
    print_line(f"{told.passed} passed, {len(told.broken)} failed")
    if this.interrupted:
        return INTERRUPTED
    if told.broken:
        return 1
    return NO_TESTS if all(code == NO_TESTS for code, _ in results) else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.lanes", description=__doc__)
    parser.add_argument("--lanes", type=int, default=3, help="how many processes of pytest")
    parser.add_argument("--check", action="append", default=[], metavar="COMMAND", help="runs beside the tests")
    parser.add_argument("--show", action="store_true", help="pytest's own output, also where nothing failed")
    parser.add_argument("pytest", nargs="*", help="pytest's arguments, after --")
    options = parser.parse_args()
    die_with(os.getppid(), signal.SIGTERM)
    return asyncio.run(run(options))


if __name__ == "__main__":
    sys.exit(main())
