"""Our rules of days beside python-dateutil's and lib-recur's, where they mean the same.

Where RFC 5545 leaves it open, or one of them errs, is left to `time_oracle`, which goes day by day.
"""

from __future__ import annotations

import random
import shutil
import subprocess
from datetime import date, datetime, time
from itertools import islice
from pathlib import Path

from dateutil.rrule import rrulestr

from postrider.contracts.definitions import Recurrence
from postrider.scheduling.recurrences import read_recurrence
from tests.support import time_oracle as oracle

MOST, YEARS = 100, 5
"""Occurrences of a rule that are compared, and how far from its beginning."""
SOURCE = Path(__file__).parents[1] / "libraries"
JARS = Path(__file__).parents[2] / ".local" / "libraries"


def compare_with_dateutil(draw: random.Random, rules: int) -> tuple[int, str]:
    """Occurrences compared, and the first disagreement."""
    answers = 0
    for _ in range(rules):
        spec, anchor, _ = _random_rule(draw)
        ours = _ours(spec, anchor, "skip")
        if not ours:  # dateutil would look for what never comes until the year 9999
            continue
        text = oracle.rule_text(spec)
        theirs = rrulestr(f"{text};UNTIL={anchor.year + YEARS}0101", dtstart=datetime.combine(anchor, time.min))
        if ours != [slot.date() for slot in islice(theirs, MOST)]:
            return answers, f"dateutil disagrees: {text} from {anchor}: {ours[:9]}"
        answers += len(ours)
    return answers, ""


def compare_with_lib_recur(draw: random.Random, rules: int) -> tuple[int, str]:
    """The same; `short_month` too, which is SKIP in RFC 7529 and in lib-recur."""
    asked = [_random_rule(draw) for _ in range(rules)]
    lines = []
    for spec, anchor, short_month in asked:
        skip = ";RSCALE=GREGORIAN;SKIP=BACKWARD" if short_month == "last_day" else ""
        lines.append(f"{oracle.rule_text(spec)}{skip};UNTIL={anchor.year + YEARS}0101 {anchor:%Y%m%d} {MOST}")
    command = [_tool("java"), "-cp", f"{JARS}/*", str(SOURCE / "LibRecur.java")]
    answered = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=True)
    answers = 0
    for (spec, anchor, short_month), line in zip(asked, answered.stdout.splitlines(), strict=True):
        if line.endswith("?") or not _lib_recur_means_the_same(spec, short_month):
            continue
        ours = _ours(spec, anchor, short_month)
        if [f"{day:%Y%m%d}" for day in ours] != line.split():
            return answers, f"lib-recur disagrees: {oracle.rule_text(spec)} {short_month} from {anchor}: {ours[:9]}"
        answers += len(ours)
    return answers, ""


def fetch_lib_recur() -> None:
    """Its jar and those it needs, by Maven, unless they are there."""
    if not JARS.is_dir():
        partial = JARS.with_suffix(".partial")
        goal = ["dependency:copy-dependencies", f"-DoutputDirectory={partial}"]
        subprocess.run([_tool("mvn"), "-q", "-B", "-f", str(SOURCE / "pom.xml"), *goal], check=True)
        partial.rename(JARS)


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} is not on the PATH: Java and Maven are what README.md asks for")
    return found


def _random_rule(draw: random.Random) -> tuple[dict[str, object], date, str]:
    """It begins with a period where the libraries count the positions of the first one from its beginning on."""
    spec = oracle.random_spec(draw, plain=True)
    anchor = date(draw.randint(1990, 2036), draw.randint(1, 12), draw.randint(1, 28))
    if "BYSETPOS" in spec:
        anchor = {
            "DAILY": anchor,
            "WEEKLY": oracle.week_start(spec, anchor),
            "MONTHLY": anchor.replace(day=1),
            "YEARLY": anchor.replace(month=1, day=1),
        }[spec["FREQ"]]
    return spec, anchor, draw.choice(["skip", "last_day"])


def _ours(spec: oracle.Spec, anchor: date, short_month: str) -> list[date]:
    end = f"{anchor.year + YEARS}-01-01"
    pattern = read_recurrence(Recurrence(oracle.rule_text(spec), ["00:00"], end=end, short_month=short_month))
    return [slot.date() for slot in islice(pattern.slots(anchor), MOST)]


def _lib_recur_means_the_same(spec: oracle.Spec, short_month: str) -> bool:
    """lib-recur takes BYMONTHDAY of a year for days of DTSTART's month, and puts days of the first week that are in the
    old year into the new one. With SKIP it moves no day of a daily rule, forgets WKST, and moves -366 as well."""
    if spec["FREQ"] == "YEARLY" and "BYMONTHDAY" in spec and "BYMONTH" not in spec:
        return False
    if 1 in spec.get("BYWEEKNO", ()):
        return False
    return short_month == "skip" or not (spec["FREQ"] == "DAILY" or "WKST" in spec or -366 in spec.get("BYYEARDAY", ()))
