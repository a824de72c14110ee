"""How far a long job is: on the terminal, and in a file from which the next run goes on."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import msgspec

WIDTH = 30
EVERY_SECONDS = 0.5
EVERY_SECONDS_IN_A_LOG = 10.0


class State(msgspec.Struct):
    """`size`: of the file when it was last begun. `lines`: its rows that are done for good; of the rejects file
    `rejects_bytes` belong to them."""

    size: int
    fingerprint: str
    arguments: str
    lines: int = 0
    accepted: int = 0
    rejected: int = 0
    ignored: int = 0
    rejects_bytes: int = 0
    done: bool = False


def load(path: Path) -> State | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=State)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError:
        return None  # as if nothing were known: a repeat changes nothing


def save(path: Path, state: State) -> None:
    """All or nothing: a crash leaves the old one."""
    new = path.with_name(path.name + ".new")
    with new.open("wb") as file:
        file.write(msgspec.json.encode(state))
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


class ProgressBar:
    """One line that is written again and again; where nobody looks (a log), a line every ten seconds."""

    def __init__(
        self,
        what: str,
        total: int,
        *,
        out: TextIO | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what = what
        self._total = max(1, total)
        self._out = out or sys.stderr
        self._monotonic = monotonic
        self._live = self._out.isatty()
        self._began = monotonic()
        self._told = float("-inf") if self._live else self._began

    def show(self, done: int, rows: int, *, last: bool = False) -> None:
        """`done` of the total, in its unit; `rows` worked off."""
        now = self._monotonic()
        if not last and now - self._told < (EVERY_SECONDS if self._live else EVERY_SECONDS_IN_A_LOG):
            return
        self._told = now
        self._out.write(("\r" if self._live else "") + self._line(done, rows, now) + ("" if self._live else "\n"))
        if last and self._live:
            self._out.write("\n")
        self._out.flush()

    def _line(self, done: int, rows: int, now: float) -> str:
        share = min(1.0, done / self._total)
        filled = int(share * WIDTH)
        took = max(now - self._began, 1e-9)
        left = f", {took / share - took:,.0f} s left" if 0 < share < 1 else ""
        bar = "#" * filled + "." * (WIDTH - filled)
        return f"{self._what} [{bar}] {share:4.0%} {rows:,} rows, {rows / took:,.0f}/s{left}   "
