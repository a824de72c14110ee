"""Local times to instants, by the IANA data of the `tzdata` package. Knows no campaigns and reads no clock.

The package's files are read directly, never the machine's: every service computes with the same, pinned rules, and
"new time-zone data" is a dependency update.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from importlib import resources
from typing import Final, Literal
from zoneinfo import ZoneInfo

Kind = Literal["normal", "gap", "fold", "skipped"]

_DAY: Final = timedelta(days=1)
_LAST_MOMENT: Final = time(23, 59, 59, 999999)
_FIRST_YEAR, _LAST_YEAR = 1900, 9000
_SAME_CLOCK_YEARS: Final = range(2026, 2037)
_ISLAND_OF_TOMORROW: Final = timedelta(hours=14)
_LAST_TO_SEE_A_DAY: Final = timedelta(hours=12)


@dataclass(frozen=True, slots=True)
class Instant:
    """When a local time happens. `gap`: the clocks jump over it, so it moved forward by the gap. `fold`: it happens
    twice, this is the first. `skipped`: its whole local day does not exist: nothing is sent, `at` only orders it."""

    at: datetime
    kind: Kind


def is_zone(name: object) -> bool:
    """Whether `name` is an IANA zone or link, spelt exactly."""
    return isinstance(name, str) and name in _zone_names()


def zone_names() -> frozenset[str]:
    """All zones and links of the data."""
    return _zone_names()


def load_zone(name: str) -> ZoneInfo:
    """The rules of a zone. Raises ValueError when there is no such zone."""
    if not is_zone(name):
        raise ValueError(f"unknown time zone {name[:64]!r}")
    return _load(name)


def zone_for_profile(time_zone: object, country: str | None, phone_country: str | None, account_zone: str) -> str:
    """The zone a person is texted in: their own when it is valid, else that of the phone's country when it has one
    zone, else the account's. `country`, the profile's own word, stands in only where the phone tells no country."""
    if isinstance(time_zone, str) and is_zone(time_zone):
        return time_zone
    return single_zone_of(phone_country or country) or account_zone


def single_zone_of(country: str | None) -> str | None:
    """The zone of a country whose whole area keeps one clock, else None.

    Source: zone.tab of the tz database. A country with several zones still counts as one when they agree from 2026
    on (Germany: Berlin and Büsingen); the name is then the first of zone.tab, the most populous.
    """
    return _single_zones().get(country.upper()) if country else None


def to_instant(local: datetime, zone: str) -> Instant:
    """The UTC instant of a naive local time. Raises ValueError for an unknown zone, an aware time, or a year outside
    1900–9000."""
    _check_local(local)
    rules = load_zone(zone)
    before, after = _offsets(local, rules)
    at = (local - before).replace(tzinfo=UTC)
    if before == after:
        return Instant(at, "normal")
    if before > after:
        return Instant(at, "fold")
    return Instant(at, "skipped" if _is_missing_day(local.date(), rules) else "gap")


def local_day_bounds(day: date, zone: str) -> tuple[datetime, datetime]:
    """[start, end) of a local day in UTC. Days follow each other without hole or overlap: a midnight that happens
    twice begins its day the first time; a day that does not exist is empty."""
    rules = load_zone(zone)
    return _first_moment(day, rules), _first_moment(day + _DAY, rules)


def earliest_instant(local: datetime) -> datetime:
    """When a local time first happens anywhere on Earth (UTC+14)."""
    _check_local(local)
    return (local - _ISLAND_OF_TOMORROW).replace(tzinfo=UTC)


def is_past_everywhere(local: datetime, now: datetime) -> bool:
    """Whether a local time is over even where it happens last (UTC−12). The boundary itself is not past."""
    _check_local(local)
    return (local + _LAST_TO_SEE_A_DAY).replace(tzinfo=UTC) < now


def _check_local(local: datetime) -> None:
    if local.tzinfo is not None:
        raise ValueError("a local time has no offset")
    if not _FIRST_YEAR <= local.year <= _LAST_YEAR:
        raise ValueError(f"the year must be between {_FIRST_YEAR} and {_LAST_YEAR}")


def _offsets(local: datetime, rules: ZoneInfo) -> tuple[timedelta, timedelta]:
    """The offsets by the clock before and after a change: the first is larger in a fold, smaller in a gap."""
    before = local.replace(tzinfo=rules, fold=0).utcoffset()
    after = local.replace(tzinfo=rules, fold=1).utcoffset()
    assert before is not None
    assert after is not None
    return before, after


def _is_missing_day(day: date, rules: ZoneInfo) -> bool:
    first = _offsets(datetime.combine(day, time.min), rules)
    last = _offsets(datetime.combine(day, _LAST_MOMENT), rules)
    return first == last and first[1] - first[0] >= _DAY


def _first_moment(day: date, rules: ZoneInfo) -> datetime:
    midnight = datetime.combine(day, time.min)
    _check_local(midnight)
    before, after = _offsets(midnight, rules)
    if before >= after:
        return (midnight - before).replace(tzinfo=UTC)
    # Midnight is inside a gap: the day begins when the clocks jump, which is after `low` and not after `high`.
    low, high = (midnight - after).replace(tzinfo=UTC), (midnight - before).replace(tzinfo=UTC)
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=(high - low) // timedelta(seconds=2))
        if middle.astimezone(rules).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high


@cache
def _zone_names() -> frozenset[str]:
    names = resources.files("tzdata").joinpath("zones").read_text(encoding="utf-8").split()
    return frozenset(names) - {"Factory"}


@cache
def _load(name: str) -> ZoneInfo:
    with resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


@cache
def _single_zones() -> dict[str, str]:
    zones_of: defaultdict[str, list[str]] = defaultdict(list)
    table = resources.files("tzdata").joinpath("zoneinfo", "zone.tab").read_text(encoding="utf-8")
    for line in table.splitlines():
        if line and not line.startswith("#"):
            country, _, zone, *_ = line.split("\t")
            zones_of[country].append(zone)
    return {country: zones[0] for country, zones in zones_of.items() if _agree(zones)}


def _agree(zones: list[str]) -> bool:
    return len(zones) == 1 or len({_clock_of(zone) for zone in zones}) == 1


def _clock_of(zone: str) -> tuple[object, ...]:
    """Equal for zones that agree: their rule for the far future and their offsets until then."""
    raw = resources.files("tzdata").joinpath("zoneinfo", *zone.split("/")).read_bytes()
    rules = _load(zone)
    moments = (datetime(year, month, 1, tzinfo=UTC) for year in _SAME_CLOCK_YEARS for month in range(1, 13, 3))
    return raw.rsplit(b"\n", 2)[-2], *(moment.astimezone(rules).utcoffset() for moment in moments)
