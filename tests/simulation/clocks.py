"""Local times, quiet hours and the law by the slow way: what the clock on the wall shows, stretch by stretch.

Of the oracle: plain Python with the zones' rules, nothing of `postrider.scheduling`. The law is written down again, for
the phones that `world` has.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import cache, lru_cache
from zoneinfo import ZoneInfo

from postrider.contracts.definitions import QuietHours
from postrider.zones import load_zone
from tests.simulation.world import DAY, DAYS, HOUR, MINUTE
from tests.support import time_oracle

Stretch = tuple[datetime, datetime]
Windows = tuple[tuple[tuple[str, ...], str, str], ...]
LONGEST_DELAY = 15 * DAY
Hours = tuple[tuple[int, int] | None, ...]
Law = tuple[tuple[Hours, str, bool], ...]
"""Hours in which a text may leave, on whose clock, and whether French holidays are closed."""
STATE_HOURS: dict[str, Hours] = {
    "305": ((8, 20),) * 7,
    "850": ((8, 20),) * 7,
    "512": (*((9, 21),) * 6, (12, 21)),
    "605": (*((9, 21),) * 6, None),
}
"""By area code, from Monday; None: not at all. Florida, Texas, South Dakota."""
AREA_ZONES = {
    "212": ["America/New_York"],
    "305": ["America/New_York"],
    "850": ["America/Chicago", "America/New_York"],
    "512": ["America/Chicago"],
    "213": ["America/Los_Angeles"],
    "605": ["America/Chicago", "America/Denver"],
    "800": ["America/Los_Angeles", "America/New_York"],
}


@cache
def happens(local: datetime, zone: str) -> time_oracle.Happening:
    return time_oracle.happens(local, zone)


@cache
def readings(local: datetime, zone: str) -> Stretch:
    """When a clock shows a time first and last; where it jumps over it, the minute of the jump, twice."""
    rules = load_zone(zone)
    moments = sorted({(local - _offset(local, rules, fold)).replace(tzinfo=UTC) for fold in (0, 1)})
    shown = [at for at in moments if time_oracle.wall(at, rules) == local]
    if shown:
        return shown[0], shown[-1]
    at = moments[0]
    while time_oracle.wall(at, rules) < local:
        at += MINUTE
    return at, at


def law_of(phone: str, country: str | None, own_zone: str | None) -> Law:
    """`own_zone` None: by the number alone."""
    if country == "IN":
        return ((((10, 21),) * 7, "Asia/Kolkata", False),)
    if country == "FR":
        return (((*((8, 20),) * 6, None), "Europe/Paris", True),)
    if country != "US":
        return ()
    area = phone[2:5]
    zones = sorted({*AREA_ZONES[area], *([own_zone] if own_zone else [])})
    hours: list[Hours] = [((8, 21),) * 7]
    if area in STATE_HOURS:
        hours.append(STATE_HOURS[area])
    return tuple((each, zone, False) for each in hours for zone in zones)


def windows_of(quiet: QuietHours) -> Windows:
    return tuple((tuple(window.days), window.start, window.end) for window in quiet.windows)


@lru_cache(maxsize=200_000)
def quiet_day(windows: Windows, law: Law, zone: str, day: date) -> tuple[Stretch, ...]:
    """What is quiet of the stretches that begin on a local day, in UTC."""
    return tuple(_quiet_day(windows, law, zone, day))


def _quiet_day(windows: Windows, law: Law, zone: str, day: date) -> Iterator[Stretch]:
    for days, start, end in windows:
        if DAYS[day.weekday()] in days:
            begin, stop = _on(day, start), _on(day, end)
            yield readings(begin, zone)[0], readings(stop if stop > begin else stop + DAY, zone)[1]
    midnight = datetime.combine(day, time.min)
    for hours, clock, keeps_holidays in law:
        open_hours = hours[day.weekday()]
        if open_hours is None or (keeps_holidays and _is_french_holiday(day)):
            yield readings(midnight, clock)[0], readings(midnight + DAY, clock)[1]
        else:
            yield readings(midnight, clock)[0], readings(midnight + open_hours[0] * HOUR, clock)[1]
            yield readings(midnight + open_hours[1] * HOUR, clock)[0], readings(midnight + DAY, clock)[1]


def covering(at: datetime, windows: Windows, law: Law, zone: str) -> datetime | None:
    """The end of what is quiet at that moment; None: it is not."""
    around = at.date()
    ends = [
        end
        for number in range(-2, 3)
        for begin, end in quiet_day(windows, law, zone, around + number * DAY)
        if begin <= at < end
    ]
    return max(ends, default=None)


def first_allowed(at: datetime, windows: Windows, law: Law, zone: str) -> datetime | None:
    latest = at + LONGEST_DELAY
    while (end := covering(at, windows, law, zone)) is not None:
        at = end
        if at > latest:
            return None
    return at


def first_bucket(at: datetime, windows: Windows, law: Law, zone: str) -> datetime | None:
    """The first even hour on that clock at which a text may leave."""
    day = at.astimezone(load_zone(zone)).date()
    for number in range(-1, 15):
        for hour in range(0, 24, 2):
            begin = readings(datetime.combine(day + number * DAY, time(hour)), zone)[0]
            if begin >= at and covering(begin, windows, law, zone) is None:
                return begin
    return None


def open_stretches(at: datetime, until: datetime, windows: Windows, law: Law, zone: str) -> list[Stretch]:
    """In which a text may leave between the two."""
    found: list[Stretch] = []
    while at < until:
        opens = first_allowed(at, windows, law, zone)
        if opens is None or opens >= until:
            break
        day = opens.date()
        begins = [
            begin
            for number in range(-2, (until.date() - day).days + 3)
            for begin, end in quiet_day(windows, law, zone, day + number * DAY)
            if begin > opens and end > begin
        ]
        closes = min([*begins, until])
        found.append((opens, closes))
        at = closes
    return found


def local_day(at: datetime, zone: str) -> date:
    return at.astimezone(load_zone(zone)).date()


def _on(day: date, clock: str) -> datetime:
    return datetime.combine(day, time.fromisoformat(clock))


def _offset(local: datetime, rules: ZoneInfo, fold: int) -> timedelta:
    return local.replace(tzinfo=rules, fold=fold).utcoffset() or timedelta(0)


@cache
def _is_french_holiday(day: date) -> bool:
    fixed = {(1, 1), (5, 1), (5, 8), (7, 14), (8, 15), (11, 1), (11, 11), (12, 25)}
    return (day.month, day.day) in fixed or day - _easter(day.year) in (DAY, 39 * DAY, 50 * DAY)


def _easter(year: int) -> date:
    """The algorithm of the Gregorian calendar (Meeus, Jones, Butcher)."""
    a, b, c = year % 19, year // 100, year % 100
    d, e, f = b // 4, b % 4, (b + 8) // 25
    g = (b - f + 1) // 3
    h = (19 * a + b - d - g + 15) % 30
    i, k = c // 4, c % 4
    j = (32 + 2 * e + 2 * i - h - k) % 7
    m = (a + 11 * h + 22 * j) // 451
    month, rest = divmod(h + j - 7 * m + 114, 31)
    return date(year, month, rest + 1)
