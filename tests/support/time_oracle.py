"""When a recurrence happens where, worked out the slow way: day by day, and from UTC to the clock on the wall only.

Shares with the code under test the rules of the zones and nothing else: not the parser of rules (a rule is a dictionary
here and its text is made of it), not the periods, not the arithmetic from local times to instants.
"""

from __future__ import annotations

import calendar
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from importlib import resources
from typing import Any
from zoneinfo import ZoneInfo

from postrider.zones import Kind, load_zone

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
WEEKDAYS = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"]
Spec = Mapping[str, Any]


@dataclass(frozen=True)
class Happening:
    at: datetime
    kind: Kind


def all_zones() -> list[str]:
    names = resources.files("tzdata").joinpath("zones").read_text(encoding="utf-8").split()
    return sorted(set(names) - {"Factory"})


def wall(at: datetime, rules: ZoneInfo) -> datetime:
    return at.astimezone(rules).replace(tzinfo=None)


@lru_cache(maxsize=256)
def happens(local: datetime, zone: str) -> Happening:
    """Walks along UTC, hour by hour and where the clocks jump minute by minute, and looks at the clock."""
    rules = load_zone(zone)
    middle = local.replace(tzinfo=UTC)
    hours = [middle + number * HOUR for number in range(-27, 28)]
    offsets = {hour.astimezone(rules).utcoffset() or timedelta(0) for hour in hours}
    moments = sorted((local - offset).replace(tzinfo=UTC) for offset in offsets)
    shows_it = [at for at in moments if wall(at, rules) == local]
    if shows_it:
        return Happening(shows_it[0], "fold" if len(shows_it) > 1 else "normal")
    jump = next(at for at, hour in enumerate(hours) if wall(hour, rules) > local)
    minutes = [hours[jump - 1] + number * MINUTE for number in range(61)]
    after = next(at for at, minute in enumerate(minutes) if wall(minute, rules) > local)
    before, behind = wall(minutes[after - 1], rules), wall(minutes[after], rules)
    offset = before - minutes[after - 1].replace(tzinfo=None)
    is_missing = before.date() < local.date() < behind.date()
    return Happening((local - offset).replace(tzinfo=UTC), "skipped" if is_missing else "gap")


def rule_text(spec: Spec) -> str:
    parts = []
    for name, value in spec.items():
        shown = ",".join(str(item) for item in value) if isinstance(value, list) else str(value)
        parts.append(f"{name}={shown}")
    return ";".join(parts)


def slots(spec: Spec, times: list[time], anchor: date, last_day: bool) -> Iterator[datetime]:
    """Every nominal local time from the anchor on, without end and without COUNT."""
    day = anchor
    while True:
        if is_rule_day(spec, anchor, day, last_day):
            yield from (datetime.combine(day, moment) for moment in times)
        day += DAY


def is_rule_day(spec: Spec, anchor: date, day: date, last_day: bool) -> bool:
    if day < anchor or not _matches(spec, anchor, day, last_day):
        return False
    positions = spec.get("BYSETPOS")
    if positions is None:
        return True
    period = [other for other in _period(spec, anchor, day) if _matches(spec, anchor, other, last_day)]
    at = period.index(day)
    return at + 1 in positions or at - len(period) in positions


def _matches(spec: Spec, anchor: date, day: date, last_day: bool) -> bool:
    freq, interval = spec["FREQ"], spec.get("INTERVAL", 1)
    steps = {
        "DAILY": (day - anchor).days,
        "WEEKLY": (week_start(spec, day) - week_start(spec, anchor)).days // 7,
        "MONTHLY": (day.year - anchor.year) * 12 + day.month - anchor.month,
        "YEARLY": day.year - anchor.year,
    }[freq]
    if steps % interval:
        return False
    if "BYMONTH" in spec and day.month not in spec["BYMONTH"]:
        return False
    month = _span(day.replace(day=1), calendar.monthrange(day.year, day.month)[1])
    year = _span(day.replace(month=1, day=1), 366 if calendar.isleap(day.year) else 365)
    if "BYMONTHDAY" in spec and day not in _numbered(month, spec["BYMONTHDAY"], last_day):
        return False
    if "BYYEARDAY" in spec and day not in _numbered(year, spec["BYYEARDAY"], last_day):
        return False
    if "BYWEEKNO" in spec and not _is_week(spec, day):
        return False
    if "BYDAY" in spec:
        in_month = freq == "MONTHLY" or "BYMONTH" in spec
        if not any(_is_weekday(text, day, month if in_month else year) for text in spec["BYDAY"]):
            return False
    if any(name in spec for name in ("BYMONTHDAY", "BYYEARDAY", "BYWEEKNO", "BYDAY")) or freq == "DAILY":
        return True
    if freq == "WEEKLY":
        return day.weekday() == anchor.weekday()
    right_month = freq == "MONTHLY" or "BYMONTH" in spec or day.month == anchor.month
    return right_month and day in _numbered(month, [anchor.day], last_day)


def _numbered(days: list[date], numbers: list[int], last_day: bool) -> set[date]:
    found = set()
    for number in numbers:
        if abs(number) <= len(days):
            found.add(days[number - 1] if number > 0 else days[number])
        elif number > 0 and last_day:
            found.add(days[-1])
    return found


def _is_weekday(text: str, day: date, days: list[date]) -> bool:
    if WEEKDAYS[day.weekday()] != text[-2:]:
        return False
    if len(text) == 2:
        return True
    same = [other for other in days if other.weekday() == day.weekday()]
    number = int(text[:-2])
    at = same.index(day)
    return number in (at + 1, at - len(same))


def _is_week(spec: Spec, day: date) -> bool:
    start = week_start(spec, day)
    week = _span(start, 7)
    years = [other.year for other in week]
    year = max(set(years), key=years.count)
    first = next(other for other in _span(date(year - 1, 12, 25), 20) if _is_first_week(spec, other, year))
    following = next(other for other in _span(date(year, 12, 25), 20) if _is_first_week(spec, other, year + 1))
    number, weeks = (start - first).days // 7 + 1, (following - first).days // 7
    return number in spec["BYWEEKNO"] or number - weeks - 1 in spec["BYWEEKNO"]


def _is_first_week(spec: Spec, start: date, year: int) -> bool:
    return start == week_start(spec, start) and sum(day.year == year for day in _span(start, 7)) >= 4


def _period(spec: Spec, anchor: date, day: date) -> list[date]:
    freq = spec["FREQ"]
    if freq == "DAILY":
        return [day]
    if freq == "WEEKLY":
        return _span(week_start(spec, day), 7)
    if freq == "MONTHLY":
        return _span(day.replace(day=1), calendar.monthrange(day.year, day.month)[1])
    return _span(day.replace(month=1, day=1), 366 if calendar.isleap(day.year) else 365)


def week_start(spec: Spec, day: date) -> date:
    """The beginning of its week, on whatever weekday weeks begin."""
    while WEEKDAYS[day.weekday()] != spec.get("WKST", "MO"):
        day -= DAY
    return day


@lru_cache(maxsize=512)
def _span(first: date, days: int) -> list[date]:
    return [first + number * DAY for number in range(days)]


@lru_cache(maxsize=1024)
def changes(zone: str) -> list[datetime]:
    """The hours of 1990–2040 in which the clocks of a zone change."""
    rules = load_zone(zone)
    found = []
    at, end = datetime(1990, 1, 1, tzinfo=UTC), datetime(2041, 1, 1, tzinfo=UTC)
    while at < end:
        step = at + 7 * DAY
        if at.astimezone(rules).utcoffset() != step.astimezone(rules).utcoffset():
            low, high = at, step
            while high - low > HOUR:
                half = low + timedelta(hours=(high - low) // HOUR // 2 or 1)
                if half.astimezone(rules).utcoffset() == at.astimezone(rules).utcoffset():
                    low = half
                else:
                    high = half
            found.append(high.replace(minute=0))
        at = step
    return found


def random_spec(draw: random.Random, *, plain: bool = False) -> dict[str, Any]:
    """`plain`: what python-dateutil reads as we do."""
    freq = draw.choice(["DAILY", "WEEKLY", "MONTHLY", "YEARLY"])
    spec: dict[str, Any] = {"FREQ": freq}
    if draw.random() < 0.5:
        spec["INTERVAL"] = draw.choice([1, 2, 3, 4, 7, 13])
    if draw.random() < 0.3:
        spec["WKST"] = draw.choice(WEEKDAYS)
    if draw.random() < 0.35:
        spec["BYMONTH"] = _some(draw, range(1, 13), 4)
    if freq in ("DAILY", "MONTHLY", "YEARLY") and draw.random() < 0.4:
        spec["BYMONTHDAY"] = _some(draw, [*range(1, 32), 31, 30, 29, -1, -2, -31], 4)
    if freq == "YEARLY" and draw.random() < 0.25 and "BYMONTH" not in spec:
        spec["BYYEARDAY"] = _some(draw, [1, 32, 59, 60, 61, 100, 200, 365, 366, -1, -366, -100], 4)
    ordinals = freq in ("MONTHLY", "YEARLY") and draw.random() < 0.5
    if freq == "YEARLY" and draw.random() < 0.25 and len(spec) < 4:
        # dateutil 4.0 leaves 1 January out of the last week of the year before.
        spec["BYWEEKNO"] = _some(draw, [1, 2, 20, 30, *([] if plain else [52, 53, -1, -52, -53])], 4)
        spec["BYDAY"] = _some(draw, WEEKDAYS, 3)
    elif draw.random() < 0.5:
        most = 5 if freq == "MONTHLY" or "BYMONTH" in spec else 53
        numbers = [n for n in range(-most, most + 1) if n] if ordinals else []
        spec["BYDAY"] = sorted(
            {(str(draw.choice(numbers)) if ordinals else "") + draw.choice(WEEKDAYS) for _ in range(draw.randint(1, 4))}
        )
    if any(name.startswith("BY") for name in spec) and draw.random() < 0.3:
        spec["BYSETPOS"] = _some(draw, [1, 2, 3, 5, -1, -2], 2)
    return spec


def _some(draw: random.Random, values: Any, most: int) -> list[Any]:
    return sorted(set(draw.sample(list(values), draw.randint(1, most))))
