"""One process of ours: started, watched, stopped; and what a launcher that died left behind, found by its pid file.

Signals go only to pids this module started or has verified by their birth mark; never by name.
Knows nothing of what runs in the process. Starting is synchronous: on Linux a child's life hangs on the *thread* that
started it, so start from the main thread.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from postrider.local import child
from postrider.local.child import Spec, birth_mark

POLL_SECONDS = 0.05


@dataclass(frozen=True)
class RunAs:
    """The unprivileged user for a part that refuses to run as root, with the one capability it may keep."""

    uid: int
    gid: int
    capability: int | None = None


@dataclass(frozen=True)
class Command:
    """How a process is started, and which signal asks it to stop."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    log: Path
    """Receives stdout and stderr, appended."""
    pid_file: Path | None
    cwd: Path | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    run_as: RunAs | None = None


def wrapped(
    argv: Sequence[str], *, pid_file: Path | None = None, death_signal: int = 0, run_as: RunAs | None = None
) -> list[str]:
    """`argv` behind the child shim (see `child`)."""
    spec: Spec = {
        "pid_file": None if pid_file is None else str(pid_file),
        "parent": os.getpid(),
        "death_signal": int(death_signal),
        "uid": None if run_as is None else run_as.uid,
        "gid": None if run_as is None else run_as.gid,
        "capability": None if run_as is None else run_as.capability,
    }
    return [sys.executable, "-I", "-S", str(Path(child.__file__)), json.dumps(spec), *argv]


class Child:
    """A running process in a session of its own, so that Ctrl-C at the terminal reaches the launcher alone."""

    def __init__(self, command: Command) -> None:
        """Starts it."""
        self.command = command
        self.started_at = time.monotonic()
        self._returncode: int | None = None
        command.log.parent.mkdir(parents=True, exist_ok=True)
        with command.log.open("ab") as log:
            self._process = subprocess.Popen(
                wrapped(
                    command.argv,
                    pid_file=command.pid_file,
                    death_signal=command.stop_signal,
                    run_as=command.run_as,
                ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(command.env),
                cwd=command.cwd,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> Path:
        return self.command.log

    def exit_code(self) -> int | None:
        """None while it runs; minus the signal's number when a signal ended it (as subprocess says it)."""
        if self._returncode is None:
            if sys.platform == "linux":
                if not _has_exited(self.pid):
                    return None
                # Not reaped yet, so the group id cannot belong to anybody else: end what is left in the group.
                _signal_group(self.pid, signal.SIGKILL)
            self._returncode = self._process.poll()
            if self._returncode is None:
                return None
            if self.command.pid_file is not None and _recorded(self.command.pid_file).get("pid") == self.pid:
                self.command.pid_file.unlink()
        return self._returncode

    async def exited(self) -> bool:
        return self.exit_code() is not None

    async def wait(self, patience_seconds: float | None = None) -> int | None:
        """Its exit code; None when it still runs after `patience_seconds`."""
        await until(self.exited, patience_seconds)
        return self.exit_code()

    async def stop(self, patience_seconds: float) -> None:
        """Ask, wait, then kill. A stopped (SIGSTOP) process is continued first so that it can hear the request."""
        if self.exit_code() is None:
            _signal(self.pid, self.command.stop_signal)
            _signal(self.pid, signal.SIGCONT)
            if await self.wait(patience_seconds) is None:
                self.kill()
                await self.wait()

    def kill(self) -> None:
        """SIGKILL to the process and its group."""
        if self.exit_code() is None:
            _signal_group(self.pid, signal.SIGKILL)
            _signal(self.pid, signal.SIGKILL)

    def end_now(self, grace_seconds: float = 0.0) -> int:
        """Its exit code; killed if it does not end by itself within `grace_seconds`. Blocks for as long."""
        deadline = time.monotonic() + grace_seconds
        while self.exit_code() is None and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS / 10)
        self.kill()
        while (code := self.exit_code()) is None:
            time.sleep(POLL_SECONDS / 10)
        return code

    def log_tail(self, lines: int = 15) -> str:
        return log_tail(self.command.log, lines)


async def run_to_end(command: Command, patience_seconds: float, grace_seconds: float = 0.0) -> int:
    """Its exit code, -9 when patience ran out. A cancelled caller blocks `grace_seconds` for it, and then kills it."""
    child = Child(command)
    try:
        await child.wait(patience_seconds)
    finally:
        code = child.end_now(grace_seconds)
    return code


async def until(
    check: Callable[[], Awaitable[bool]], patience_seconds: float | None, poll_seconds: float = POLL_SECONDS
) -> bool:
    """Waits for `check` to hold; False when patience (None: endless) ran out first.

    Polls: an answering server and the end of somebody else's process have no event to wait on.
    """
    deadline = None if patience_seconds is None else time.monotonic() + patience_seconds
    while not await check():
        if deadline is not None and time.monotonic() > deadline:
            return False
        await asyncio.sleep(poll_seconds)
    return True


def log_tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log file, for a message; empty when there is none."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 16_384))
        return "\n".join(file.read().decode("utf-8", errors="replace").splitlines()[-lines:])


def recorded_pid(pid_file: Path) -> int | None:
    """The pid of the process that wrote this file, if that very process still runs; else None."""
    record = _recorded(pid_file)
    pid, birth = record.get("pid"), record.get("birth")
    return pid if isinstance(pid, int) and birth is not None and birth_mark(pid) == birth else None


def _recorded(pid_file: Path) -> dict[str, object]:
    try:
        record = json.loads(pid_file.read_text("ascii"))
    except (FileNotFoundError, ValueError):  # absent, or not the child shim's: proves nothing about any process
        return {}
    return record if isinstance(record, dict) else {}


async def end_orphan(pid_file: Path, stop_signal: signal.Signals, patience_seconds: float) -> int | None:
    """End the process that an earlier, dead launcher left running; the pid it had, or None when there was none.

    Only for the owner of the home's lock: without it the process may be another launcher's child.
    """
    pid = recorded_pid(pid_file)

    async def gone() -> bool:
        return recorded_pid(pid_file) is None

    if pid is not None:
        for request, patience in ((stop_signal, patience_seconds), (signal.SIGKILL, 10.0)):
            if request is signal.SIGKILL:
                _signal_group(pid, request)  # it leads a group of its own, as every child of ours does
            _signal(pid, request)
            _signal(pid, signal.SIGCONT)
            if await until(gone, patience):
                break
    _forget(pid_file)
    return pid


def _forget(pid_file: Path) -> None:
    pid_file.unlink(missing_ok=True)


def _has_exited(pid: int) -> bool:
    """Whether our child is dead, leaving it unreaped so that its pid and group id stay reserved."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # reaped by somebody else in this process
        return True


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:  # it was faster
        return


def _signal_group(pgid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pgid, number)
    except (ProcessLookupError, PermissionError):  # empty group; macOS says EPERM for a zombie's
        return
