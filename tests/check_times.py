"""Occurrences against slow oracles and other libraries: `python -m tests.check_times --seed 1`.

1. Around every change of the clocks of every IANA zone, 1990 to 2040: the next occurrences of a daily campaign at times
   in and beside the jump. 2. Campaigns at random, dates and rules, asked for their next occurrence. 3. All that comes
   to a person of a campaign, with what had passed, ended or was missed. 4. Rules at random, against python-dateutil
   and lib-recur where they mean the same: `tests.support.other_calendars` says where not.
Exit code 1 at a disagreement. Prints how many answers were compared.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice

from tests.support import other_calendars
from tests.support.time_cases import around_changes, disagreement, random_case
from tests.support.time_oracle import all_zones, changes
from tests.support.timeline_oracle import random_timeline, right, said

PART = 12
"""Zones, or thousands of cases, that one task of a process takes."""


def sweep(seed: int, zones: list[str]) -> tuple[int, str]:
    """Answers compared, and the first disagreement."""
    draw, answers = random.Random(f"{seed} {zones[0]}"), 0
    for zone in zones:
        n, wrong = around_changes(draw, zone)
        answers += n
        if wrong:
            return answers, wrong
    return answers, ""


def at_random(seed: int, cases: int) -> tuple[int, str]:
    draw, zones = random.Random(seed), all_zones()
    for number in range(cases):
        wrong = disagreement(random_case(draw, zones))
        if wrong:
            return number, f"case {number} of seed {seed}: {wrong}"
    return cases, ""


def timelines(seed: int, cases: int) -> tuple[int, str]:
    draw, answers = random.Random(seed), 0
    zones = [zone for zone in all_zones() if changes(zone)]
    for _ in range(cases):
        timeline = random_timeline(draw, zones)
        expected, found = right(timeline), said(timeline)
        if found != expected:
            return answers, f"{timeline}: said {found}, right is {expected}"
        answers += len(expected)
    return answers, ""


def dateutil_rules(seed: int, rules: int) -> tuple[int, str]:
    return other_calendars.compare_with_dateutil(random.Random(seed), rules)


def lib_recur_rules(seed: int, rules: int) -> tuple[int, str]:
    return other_calendars.compare_with_lib_recur(random.Random(seed), rules)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=40_000, help="of 2., and half of it of 3.")
    parser.add_argument("--rules", type=int, default=20_000, help="of 4.")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    os.nice(10)
    zones, begun = all_zones(), time.monotonic()
    other_calendars.fetch_lib_recur()
    with ProcessPoolExecutor(os.cpu_count()) as processes:
        seeds = range(options.seed * 1000, options.seed * 1000 + 20)
        started = [
            (
                f"around every change of {len(zones)} zones",
                [processes.submit(sweep, options.seed, part) for part in parts(zones)],
            ),
            ("campaigns at random", [processes.submit(at_random, seed, options.cases // 20) for seed in seeds]),
            (
                "timelines of a person",
                [processes.submit(timelines, seed, options.cases // 40) for seed in seeds],
            ),
            ("rules, python-dateutil", [processes.submit(dateutil_rules, seed, options.rules // 20) for seed in seeds]),
            ("rules, lib-recur", [processes.submit(lib_recur_rules, seed, options.rules // 20) for seed in seeds]),
        ]
        total, problems = 0, []
        for name, tasks in started:
            answers = 0
            for task in tasks:
                n, wrong = task.result()
                answers += n
                problems += [wrong] if wrong else []
            total += answers
            print(f"{name}: {answers:,} answers, {time.monotonic() - begun:.0f} s", flush=True)
    print(f"{total:,} answers compared, {len(problems)} disagreements")
    print("\n".join(problems[:10]))
    return 1 if problems else 0


def parts(zones: list[str]) -> Iterator[list[str]]:
    found = iter(zones)
    while part := list(islice(found, PART)):
        yield part


if __name__ == "__main__":
    sys.exit(main())
