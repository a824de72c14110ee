"""`make run`: the suite in the foreground until SIGINT or SIGTERM. `--parts-only` runs Kafka and Postgres alone.

Reads the environment and talks to the terminal; what is started, and how, is `suite`'s.
"""

import argparse
import asyncio
import os
import signal
import sys

from postrider.local.errors import LocalError, StartFailed
from postrider.local.home import home_from
from postrider.local.parent import follow_parent
from postrider.local.parts import print_line
from postrider.local.services import SERVICES
from postrider.local.suite import Suite

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE_SECONDS = 20.0


async def run(*, parts_only: bool, with_parent: bool) -> int:
    """The exit code: 0 after a stop that was asked for."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        # Asking again changes nothing: the stop is bounded, and make passes on the signal that the terminal sent too.
        loop.add_signal_handler(number, stop.set)
    suite = Suite(home_from(os.environ), os.environ, fixed_ports=True, services=() if parts_only else SERVICES)
    life = asyncio.create_task(live(suite))
    stopping = asyncio.create_task(stop.wait())
    following = [asyncio.create_task(follow_parent(stop.set))] if with_parent else []
    try:
        await asyncio.wait({life, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if life.done():
            life.result()
        print_line("stopping")
    except (LocalError, OSError) as error:
        print_line(f"error: {error}")
        return 1
    finally:
        for task in (life, stopping, *following):
            task.cancel()
        await asyncio.gather(life, stopping, *following, return_exceptions=True)
        await suite.stop()
    print_line("stopped")
    return 0


async def live(suite: Suite) -> None:
    """Start, say what is missing for as long as something is, then run; never returns by itself."""
    await suite.start()
    while True:
        try:
            await suite.until_ready(PATIENCE_SECONDS)
            break
        except StartFailed as late:
            print_line(str(late))
    print_line("ready")
    await suite.supervised()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m postrider.local.run", description=__doc__)
    parser.add_argument("--parts-only", action="store_true", help="Kafka and Postgres, without the services")
    parser.add_argument(
        "--stop-with-parent", action="store_true", help="stop when make, which starts it, is stopped (Linux)"
    )
    arguments = parser.parse_args()
    sys.exit(asyncio.run(run(parts_only=arguments.parts_only, with_parent=arguments.stop_with_parent)))


if __name__ == "__main__":
    main()
