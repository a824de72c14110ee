"""A year of many campaigns on a Postgres of its own: `make simulate SEED=7`."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time

import structlog

from postrider.postgres.database import open_database
from postrider.postgres.migrate import migrate
from tests.simulation.check import simulate
from tests.support.parts import create_database, session_parts


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--campaigns", type=int, default=1_000)
    parser.add_argument("--people", type=int, default=30)
    parser.add_argument("--days", type=int, default=365)
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    async with session_parts() as parts:
        url = await create_database(await parts.start_postgres())
        await migrate(url, "scheduler", "scheduler")
        database = open_database(url, "scheduler")
        began = time.monotonic()
        try:
            told = await simulate(database, given.seed, given.campaigns, given.people, given.days)
        finally:
            await database.close()
    took = time.monotonic() - began
    print(f"seed {given.seed}: {given.campaigns} campaigns, {given.people} people, {given.days} days in {took:.0f} s:")
    print(f"{told.runs} runs, {told.texts} texts")
    for problem in told.problems:
        print(problem)
    print("verdict: " + ("NOT everybody once, at their minute" if told.problems else "everybody once, at their minute"))
    return 1 if told.problems else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
