"""A year of thousands of campaigns of every kind: `make simulate SEED=7 CAMPAIGNS=2000`.

Several worlds, each an account of its own on a database of its own, two at a time.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime
from itertools import islice

import structlog

from postrider.postgres.database import open_database
from postrider.postgres.migrate import migrate
from tests.simulation.play import STARTS, Played, play
from tests.simulation.story import Story
from tests.support.parts import create_database, session_parts

PROGRESS_SECONDS = 15.0
SHOWN = 30


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--campaigns", type=int, default=2_000)
    parser.add_argument("--people", type=int, default=700, help="of each world: enough for every time zone there is")
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--worlds", type=int, default=4)
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--step", type=int, default=120, help="the longest time between two looks, in minutes")
    given = parser.parse_args()
    began = time.monotonic()
    seeds = [given.seed * 1_000 + number for number in range(given.worlds)]
    played = asyncio.run(_play_all(given, seeds))
    statuses: Counter[str] = Counter()
    for world in played:
        statuses.update(world.statuses)
    took = time.monotonic() - began
    print(
        f"seed {given.seed}: {sum(world.campaigns for world in played)} campaigns of {given.worlds} accounts, "
        f"{given.days} days in {took:.0f} s; {sum(world.ticks for world in played)} looks, "
        f"{sum(world.runs for world in played)} runs, {sum(world.texts for world in played)} texts"
    )
    print(", ".join(f"{status} {n}" for status, n in statuses.most_common()))
    problems = [
        f"world {seed}: {problem}" for seed, world in zip(seeds, played, strict=True) for problem in world.problems
    ]
    for problem in islice(problems, SHOWN):
        print(problem)
    print(
        f"verdict: {len(problems)} PROBLEMS"
        if problems
        else "verdict: everybody once, at their minute, or told why not"
    )
    return 1 if problems else 0


async def _play_all(given: argparse.Namespace, seeds: list[int]) -> list[Played]:
    async with session_parts() as parts:
        owner = await parts.start_postgres()
        loop = asyncio.get_running_loop()
        urls = [await create_database(owner) for _ in seeds]
        more = given.campaigns % len(seeds)
        shares = [given.campaigns // len(seeds) + (number < more) for number in range(len(seeds))]
        with ProcessPoolExecutor(given.at_once) as pool:
            playing = [
                loop.run_in_executor(pool, _play_one, urls[number], seed, number, shares[number], given)
                for number, seed in enumerate(seeds)
            ]
            return await asyncio.gather(*playing)


def _play_one(url: str, seed: int, number: int, campaigns: int, given: argparse.Namespace) -> Played:
    """In a process of its own."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    start = STARTS[number % len(STARTS)]
    began = told_at = time.monotonic()

    def progress(at: datetime, story: Story) -> None:
        nonlocal told_at
        if time.monotonic() - told_at > PROGRESS_SECONDS:
            told_at = time.monotonic()
            day = (at - start).days
            print(f"world {seed}: day {day}, {len(story.jobs)} texts, {told_at - began:.0f} s", flush=True)

    async def run() -> Played:
        await migrate(url, "scheduler", "scheduler")
        database = open_database(url, "scheduler", pool_size=1)
        try:
            played = await play(
                database, seed, campaigns, given.people, given.days, step=given.step, start=start, progress=progress
            )
            print(
                f"world {seed}: over after {time.monotonic() - began:.0f} s, {len(played.problems)} problems",
                flush=True,
            )
            return played
        finally:
            await database.close()

    return asyncio.run(run())


if __name__ == "__main__":
    sys.exit(main())
