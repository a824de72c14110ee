"""ISO 8601 durations of an exact length: a day is 24 h, a week 168 h (rules.md T18). No calendar arithmetic.

Months, years, fractions and mixtures with weeks have no exact or no single reading and are refused.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

_EXACT: Final = re.compile(
    r"P(?:(?P<weeks>[0-9]+)W|(?:(?P<days>[0-9]+)D)?"
    r"(?P<time>T(?:(?P<hours>[0-9]+)H)?(?:(?P<minutes>[0-9]+)M)?(?:(?P<seconds>[0-9]+)S)?)?)"
)
_MAX_LENGTH: Final = 40


def parse_duration(text: str) -> timedelta:
    """`P3D`, `PT5M`, `P1W`, `P1DT12H` as a positive timedelta. Raises ValueError that says what is wrong."""
    length = parse_offset(text)
    if text.startswith(("-", "+")):
        raise ValueError("a duration has no sign")
    if not length:
        raise ValueError("a duration must be longer than zero")
    return length


def parse_offset(text: str) -> timedelta:
    """Like parse_duration, but a sign and zero are allowed: `-P1D`, `PT0S`."""
    if len(text) > _MAX_LENGTH:
        raise ValueError(f"a duration has at most {_MAX_LENGTH} characters")
    unsigned = text[1:] if text.startswith(("-", "+")) else text
    match = _EXACT.fullmatch(unsigned)
    if match is None or match["time"] == "T" or unsigned == "P":
        raise ValueError(_what_is_wrong(unsigned))
    units = {unit: int(match[unit] or 0) for unit in ("weeks", "days", "hours", "minutes", "seconds")}
    try:
        length = timedelta(**units)
    except OverflowError as error:
        raise ValueError("the duration is too long") from error
    return -length if text.startswith("-") else length


def format_duration(length: timedelta) -> str:
    """The one spelling this project writes: days, hours, minutes, seconds, no weeks; `PT0S` for nothing, a leading
    minus for negative ones. Raises ValueError below a second's precision."""
    if length.microseconds:
        raise ValueError("a duration is written in whole seconds")
    if length < timedelta(0):
        return "-" + format_duration(-length)
    hours, rest = divmod(length.seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    time = "".join(f"{n}{unit}" for n, unit in ((hours, "H"), (minutes, "M"), (seconds, "S")) if n)
    if not length:
        return "PT0S"
    return "P" + (f"{length.days}D" if length.days else "") + (f"T{time}" if time else "")


def _what_is_wrong(unsigned: str) -> str:
    date, _, time = unsigned.partition("T")
    if re.search(r"[0-9][.,][0-9]", unsigned):
        return "fractions are not allowed in a duration: use a smaller unit, such as PT90S"
    if unsigned.startswith("P") and "Y" in date:
        return "years have no exact length: use days, such as P365D"
    if unsigned.startswith("P") and "M" in date:
        return "months have no exact length: use days, such as P30D (minutes are written PT5M)"
    if unsigned.startswith("P") and "W" in date and (time or re.search("W.", date)):
        return "weeks cannot be mixed with other units: use days, such as P10D"
    return "not an ISO 8601 duration such as PT5M, P3D or P1W"
