"""`make demo`: starts the whole suite in a home of its own, plays the story, stops everything. Exit code 0 or 1."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from pathlib import Path

from demo.story import Stage, StoryFailed, play
from postrider.local.client import ApiClient
from postrider.local.errors import LocalError
from postrider.local.home import load_secrets
from postrider.local.parts import print_line
from postrider.local.services import CAMPAIGN_API, DEVELOPMENT_KEY, DISPATCHER
from postrider.local.suite import Suite


async def main(base: Path) -> int:
    home = base / "demo"
    shutil.rmtree(home, ignore_errors=True)
    began = time.monotonic()
    env = {name: value for name, value in os.environ.items() if not name.startswith("POSTRIDER_")}
    env |= {"POSTRIDER_ALLOWED_PRIVATE_HOSTS": "127.0.0.0/8"}
    print_line("starting Kafka, Postgres and the four services")
    try:
        async with Suite(home, env, jars=base / "kafka" / "libs") as suite:
            print_line(f"ready after {time.monotonic() - began:.0f} s")
            assert suite.addresses is not None
            token = load_secrets(suite.home)["POSTRIDER_SERVICE_TOKEN"]
            async with ApiClient(suite.url(CAMPAIGN_API), DEVELOPMENT_KEY) as api:
                await play(Stage(api, suite.addresses.bootstrap_servers, suite.url(DISPATCHER), token, print_line))
            print_line("\nstopping")
    except (LocalError, StoryFailed) as error:
        print_line(f"\nfailed: {error}")
        return 1
    print_line(f"done in {time.monotonic() - began:.0f} s; nothing is left running; data and logs: {home}")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(Path(os.environ.get("POSTRIDER_HOME", ".local")).resolve())))
