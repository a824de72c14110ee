"""One fault run, start to verdict: `python -m tests.faults --seed 1 [--kills 200] [--outages]`. Exit code 0 only when
every promise held.

The suite runs as `make run` runs it, with a second dispatcher, and a wire to Postgres that can be cut; everything is
done through HTTP and signals. Campaigns go out to people who are known before, one after the other, another to whoever
fills a cart meanwhile, through providers of seven kinds that misbehave as the seed has it. The verdict comes from
`tests.faults.checker`, a program that knows nothing of Postrider.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

from tests.faults.run import Plan, judged, play


def main() -> int:
    """The checker's exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--people", type=int, default=750)
    parser.add_argument("--outages", action="store_true", help="take Kafka and Postgres away too")
    given = parser.parse_args()
    base = Path(os.environ.get("POSTRIDER_HOME", ".local")).resolve()
    plan = Plan(given.seed, given.people, given.kills, outages=given.outages)
    return judged(asyncio.run(play(plan, base, base / "kafka" / "libs"))).returncode


if __name__ == "__main__":
    sys.exit(main())
