"""The `date` filter: JSON dates (rules.md T20) and Unix seconds, laid out by a small set of strftime directives.

Names of days and months are English. A time prints in its own offset, Unix seconds in UTC; nothing here knows a
recipient's zone or reads a clock.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

_JSON_DATE: Final = re.compile(
    r"(\d{4}-\d{2}-\d{2})(?:T(\d{2}:\d{2})(?::(\d{2})(?:\.\d{1,9})?)?(Z|[+-]\d{2}:\d{2})?)?", re.ASCII
)
_DIRECTIVE: Final = re.compile(r"%(-?)(.)", re.DOTALL)
_MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_DAYS: Final = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
_MAX_LAYOUT: Final = 200


def format_date(value: object, layout: str) -> str:
    """Raises ValueError, without the value in it, for what is no date and for unknown directives."""
    moment = _moment(value)
    if len(layout) > _MAX_LAYOUT:
        raise ValueError("the date layout is too long")
    return _DIRECTIVE.sub(lambda match: _directive(moment, match[2], padded=not match[1]), layout)


def _moment(value: object) -> datetime:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return datetime.fromtimestamp(value, UTC)
        except (ValueError, OverflowError, OSError) as error:
            raise ValueError("not a date") from error
    match = _JSON_DATE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("not a date")
    day, minute, second, offset = match.groups()
    try:
        return datetime.fromisoformat(f"{day}T{minute or '00:00'}:{second or '00'}{offset or ''}")
    except ValueError as error:
        raise ValueError("not a date") from error


def _directive(moment: datetime, letter: str, *, padded: bool) -> str:
    def number(value: int, width: int = 2, fill: str = "0") -> str:
        return str(value).rjust(width, fill) if padded else str(value)

    hour12 = moment.hour % 12 or 12
    match letter:
        case "Y":
            return number(moment.year, 4)
        case "y":
            return number(moment.year % 100)
        case "m":
            return number(moment.month)
        case "d":
            return number(moment.day)
        case "e":
            return number(moment.day, 2, " ")
        case "H":
            return number(moment.hour)
        case "I":
            return number(hour12)
        case "l":
            return number(hour12, 2, " ")
        case "M":
            return number(moment.minute)
        case "S":
            return number(moment.second)
        case "j":
            return number(moment.timetuple().tm_yday, 3)
        case "p":
            return "AM" if moment.hour < 12 else "PM"
        case "P":
            return "am" if moment.hour < 12 else "pm"
        case "B":
            return _MONTHS[moment.month - 1]
        case "b":
            return _MONTHS[moment.month - 1][:3]
        case "A":
            return _DAYS[moment.weekday()]
        case "a":
            return _DAYS[moment.weekday()][:3]
        case "F":
            return moment.date().isoformat()
        case "R":
            return f"{moment.hour:02}:{moment.minute:02}"
        case "%":
            return "%"
    raise ValueError("unknown directive in the date layout")
