"""A month on real Kafka and Postgres with schedulers that are killed: `make simulate-month SEED=7`."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from datetime import datetime

from tests.simulation.play import play_for_real
from tests.support.parts import create_database, session_parts, topic_prefix

PROGRESS_SECONDS = 15.0
SHOWN = 30


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--campaigns", type=int, default=24)
    parser.add_argument("--people", type=int, default=60)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--step", type=int, default=360, help="the longest time between two looks, in minutes")
    parser.add_argument("--kills", type=float, default=0.05, help="of one scheduler, by look")
    given = parser.parse_args()
    began = told_at = time.monotonic()
    start: datetime | None = None

    def progress(at: datetime, killed: int) -> None:
        nonlocal start, told_at
        start = start or at
        if time.monotonic() - told_at > PROGRESS_SECONDS:
            told_at = time.monotonic()
            print(f"day {(at - start).days}, {killed} killed, {told_at - began:.0f} s", flush=True)

    async with session_parts() as parts:
        owner = await parts.start_postgres()
        kafka = await parts.start_kafka()
        played = await play_for_real(
            kafka, lambda: create_database(owner), topic_prefix(), seed=given.seed, campaigns=given.campaigns,
            people=given.people, days=given.days, step=given.step, kills=given.kills, progress=progress,
        )  # fmt: skip
    print(
        f"seed {given.seed}: {played.campaigns} campaigns, {given.days} days in {time.monotonic() - began:.0f} s; "
        f"{played.ticks} looks, {played.killed} schedulers killed, {played.runs} runs, {played.texts} texts"
    )
    print(", ".join(f"{status} {n}" for status, n in sorted(played.statuses.items())))
    for problem in played.problems[:SHOWN]:
        print(problem)
    is_right = not played.problems
    print("verdict: " + ("everybody once, at their minute, or told why not" if is_right else "PROBLEMS"))
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
