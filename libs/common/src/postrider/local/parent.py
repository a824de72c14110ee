"""Stops with the process that started the launcher: `make` dies, or is interrupted, without a word to its children.

Linux only; elsewhere the launcher hears what the terminal sends to the whole process group, and no more.
"""

import os
import signal
from collections.abc import Callable

from postrider.local.child import die_with
from postrider.local.process import until

LOOK_SECONDS = 0.5


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether the process has a handler for this signal; False where that cannot be seen."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as status:
            caught = next(line for line in status if line.startswith("SigCgt:"))
    except (OSError, StopIteration):
        return False
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


async def follow_parent(stop: Callable[[], None]) -> None:
    """Calls `stop` when make has been interrupted alone; its death arrives as SIGTERM.

    GNU make takes SIGINT for its own, expects that the terminal sent it to its children too, drops its handler and
    waits for them: the dropped handler is all there is to see.
    """
    parent = os.getppid()
    die_with(parent, signal.SIGTERM)
    if not catches(parent, signal.SIGINT):
        return

    async def interrupted() -> bool:
        return not catches(parent, signal.SIGINT)

    await until(interrupted, None, LOOK_SECONDS)
    stop()
