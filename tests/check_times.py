"""A long run of random occurrences against the slow oracle: `python -m tests.check_times --cases 1000000 --seed 1`.

Every IANA zone, 1990 to 2040, most of the cases around changes of the clocks. Exit code 1 at the first disagreement.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time

from tests.support.time_cases import disagreement, random_case
from tests.support.time_oracle import all_zones


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    os.nice(19)
    draw, zones = random.Random(options.seed), all_zones()
    begun = time.monotonic()
    for number in range(1, options.cases + 1):
        wrong = disagreement(random_case(draw, zones))
        if wrong:
            print(f"case {number} of seed {options.seed}: {wrong}")
            return 1
        if number % 50_000 == 0 or number == options.cases:
            print(f"{number} cases agree, {len(zones)} zones, {time.monotonic() - begun:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
