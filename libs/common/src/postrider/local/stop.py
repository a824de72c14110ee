"""`make stop`: ends the launcher that owns POSTRIDER_HOME and waits for it, then whatever a dead one left behind."""

import asyncio
import os
import signal
import sys

from postrider.local.home import Home, HomeLock, home_from, lock_owner
from postrider.local.parts import print_line
from postrider.local.process import end_orphan, until

PATIENCE_SECONDS = 60.0


async def stop() -> int:
    """The exit code: 0 when nothing of this home runs any more."""
    home = Home(home_from(os.environ))
    owner = lock_owner(home)
    if owner is not None:
        print_line(f"stopping the launcher, pid {owner}")
        os.kill(owner, signal.SIGTERM)

        async def gone() -> bool:
            return lock_owner(home) is None

        if not await until(gone, PATIENCE_SECONDS):
            print_line(f"pid {owner} still runs after {PATIENCE_SECONDS:.0f} s")
            return 1
    home.create()
    with HomeLock(home):
        for pid_file in sorted(home.pids.glob("*.json")):
            request = signal.SIGINT if pid_file.stem == "postgres" else signal.SIGTERM
            pid = await end_orphan(pid_file, request, 20.0)
            if pid is not None:
                print_line(f"{pid_file.stem}: ended pid {pid}, left behind by a launcher that died")
    print_line("nothing runs")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(stop()))
