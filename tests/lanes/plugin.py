"""Makes a pytest process one of several lanes that share the test files among them.

Every lane collects everything; a file, with the fixtures of its module, is run by the lane that claims it first. What
the runner (`tests/lanes/__main__.py`) has to know goes line by line into the lane's file in the folder of the run.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest

from postrider.local.child import die_with
from postrider.runtime import COLLECT_AFTER

STOP = "stop"
TIERS = ("e2e", "integration", "contract", "unit")
"""In this order files are claimed: what waits most first, what computes most last."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--lanes", type=Path, required=True, help="the folder in which the lanes of a run meet")
    parser.addoption("--lane", type=int, required=True, help="the number of this one; lane 0 claims from the end")


def pytest_configure(config: pytest.Config) -> None:
    die_with(os.getppid(), signal.SIGINT)
    gc.set_threshold(*COLLECT_AFTER)  # as in the services' own processes
    config.pluginmanager.register(Lane(config.getoption("lanes"), config.getoption("lane")))


class Lane:
    """Its loop over the tests takes the place of pytest's own."""

    def __init__(self, folder: Path, number: int) -> None:
        self._folder = folder
        self._number = number
        self._passed = 0
        self._broken = 0

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        if session.testsfailed or session.config.option.collectonly:
            return None  # the collection is broken, or all that is asked for: pytest's own loop says so
        self._tell(collected=len(session.items))
        # Thousands of tests and all that they import stay to the end: no collection has to look at them again.
        gc.collect()
        gc.freeze()
        for of_file in self._claimed_files(session.items):
            began = time.monotonic()
            # After each test pytest puts away what the next one does not need. Which file is next is not known before
            # the last test is over: what only the session needs stays.
            try:
                for test, following in zip(of_file, [*of_file[1:], session], strict=True):
                    if (self._folder / STOP).exists():
                        return True
                    session.config.hook.pytest_runtest_protocol(item=test, nextitem=following)
                    if session.shouldfail:  # -x is for all lanes
                        (self._folder / STOP).touch()
                        raise session.Failed(session.shouldfail)
                    if session.shouldstop:
                        raise session.Interrupted(session.shouldstop)
            finally:
                self._end_of_file(of_file[0], time.monotonic() - began)
        return True

    def _claimed_files(self, tests: list[pytest.Item]) -> Iterator[list[pytest.Item]]:
        files = [list(of_file) for _, of_file in groupby(tests, key=lambda test: test.path)]
        files.sort(key=lambda of_file: _tier(of_file[0].path))
        for of_file in files if self._number else reversed(files):
            try:
                (self._folder / _name(of_file[0]).replace("/", "+")).touch(exist_ok=False)
            except FileExistsError:
                continue
            yield of_file

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._tell(broken=report.nodeid, when="collection")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._broken += 1
            self._tell(broken=report.nodeid, when=report.when)
        elif report.skipped:
            self._tell(skipped=report.nodeid)
        elif report.when == "call":
            self._passed += 1

    def _end_of_file(self, test: pytest.Item, seconds: float) -> None:
        self._tell(file=_name(test), passed=self._passed, broken_in_file=self._broken, seconds=seconds)
        self._passed = self._broken = 0

    def _tell(self, **what: object) -> None:
        with (self._folder / f"events-{self._number}").open("a", encoding="utf-8") as events:
            events.write(json.dumps(what) + "\n")


def _name(test: pytest.Item) -> str:
    return test.path.relative_to(test.config.rootpath).as_posix()


def _tier(path: Path) -> int:
    return min((TIERS.index(part) for part in path.parts if part in TIERS), default=len(TIERS))
