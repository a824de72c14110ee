"""`make bench-memory`: resident memory of each service while 200,000 texts go out; it must be flat.

The first tenth is warm-up (caches, pools, the event store's first merges); growth is told from there to the end.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from itertools import islice
from pathlib import Path

from benchmarks.processes import usage_of
from benchmarks.stage import Bench, prepare, send_jobs, stage
from postrider.local.parts import print_line as say
from postrider.local.services import SERVICES

TEXTS = int(os.environ.get("BENCH_MEMORY_TEXTS", "200000"))
LOOKS = 10


def _megabytes(bench: Bench) -> dict[str, float]:
    pids = {name: pid for name, pid in bench.suite.pids().items() if name in {service.name for service in SERVICES}}
    return {name: usage.memory_bytes / 1e6 for name, usage in usage_of(pids).items()}


async def measure(bench: Bench) -> None:
    campaign = await prepare(bench)
    jobs = send_jobs(campaign, TEXTS)
    began = time.monotonic()
    looks: list[dict[str, float]] = []
    for look in range(LOOKS):
        for _ in range(TEXTS // LOOKS // 5_000):
            await bench.publisher.publish(list(islice(jobs, 5_000)))
        wanted = TEXTS // LOOKS * (look + 1)

        async def accepted(wanted: int = wanted) -> bool:
            return await bench.stand_in("accepted") >= wanted

        await bench.until(accepted, 0.5)
        looks.append(_megabytes(bench))
        told = ", ".join(f"{name} {size:.0f}" for name, size in looks[-1].items())
        say(f"{wanted:>9,} texts after {time.monotonic() - began:4.0f} s; MB: {told}")
    growth = {name: looks[-1][name] - looks[0][name] for name in looks[0]}
    say("growth since the first tenth, MB: " + ", ".join(f"{name} {size:+.0f}" for name, size in growth.items()))


async def main(base: Path) -> int:
    async with stage(base) as bench:
        await measure(bench)
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(Path(os.environ.get("POSTRIDER_HOME", ".local")).resolve())))
