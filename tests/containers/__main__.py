"""`make compose-smoke`: deploy/compose.yaml up, campaigns through its published ports, everything down again.

Exit code 0 only when every text arrived once, the funnels add up and the engine has nothing left of it.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time

from postrider.local.client import ApiClient, ApiProblem
from postrider.local.errors import LocalError
from postrider.local.parts import print_line
from tests.containers.campaign import play
from tests.containers.engine import CommandFailed
from tests.containers.suite import PROJECT, ComposeSuite, LeftBehind, NotUp, compose_suite


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.containers", description=__doc__)
    parser.add_argument("--project", default=PROJECT, help="the name of the compose project")
    project: str = parser.parse_args().project
    began = time.monotonic()
    print_line("compose-smoke: starting the containers")
    try:
        with compose_suite(lambda line: print_line(f"compose-smoke: {line}"), project) as suite:
            print_line(f"compose-smoke: healthy after {time.monotonic() - began:.0f} s at {suite.url()}")
            for kind, funnel in asyncio.run(_campaigns(suite)).items():
                told = ", ".join(f"{n} {name}" for name, n in funnel.items() if n)
                print_line(f"compose-smoke: {kind} campaign: {told}; every text once")
    except KeyboardInterrupt:
        print_line("compose-smoke: interrupted; nothing is left")
        return 130
    except (LocalError, CommandFailed, NotUp, LeftBehind, ApiProblem, TimeoutError, AssertionError) as error:
        print_line(f"compose-smoke: failed: {error}")
        return 1
    print_line(f"compose-smoke: passed in {time.monotonic() - began:.0f} s; nothing is left")
    return 0


async def _campaigns(suite: ComposeSuite) -> dict[str, dict[str, int]]:
    async with ApiClient(suite.url(), suite.key) as api:
        return await play(api)


if __name__ == "__main__":
    sys.exit(main())
