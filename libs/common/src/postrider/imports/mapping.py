"""What a row of a file says: columns become a message of the tracking spec, marked historic. Pure.

Text stays text: only columns named as numbers, booleans or JSON become those (a number sent as text is text, and no
rule on numbers finds it). An empty cell of a CSV file is a missing value.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Literal, TypeAlias

import msgspec

from postrider.contracts.codec import Unreadable
from postrider.contracts.user_events import Ignored, parse_bytes

Kind: TypeAlias = Literal["track", "identify"]
Row: TypeAlias = Mapping[str, Any]

TRUE = frozenset({"true", "yes", "1", "t", "y"})
FALSE = frozenset({"false", "no", "0", "f", "n"})
USER_COLUMNS = ("userId", "user_id")
EVENT_COLUMNS = ("event",)
TIME_COLUMNS = ("timestamp", "originalTimestamp")
ID_COLUMNS = ("messageId", "message_id")
_NO_TIME = "no time: an event of the past needs one (--time names the column)"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class RowRefused(Exception):
    """Why a row cannot be imported. The text names columns and never repeats a value."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column is what. `event_name`: the event of every row. `only`: columns that become properties; None: all
    that are left. `time_format`: iso, seconds, milliseconds or a pattern of strptime; `time_zone` is that of times
    without an offset. `source` names the file in the messageIds that are made."""

    source: str
    kind: Kind = "track"
    user: str | None = None
    event: str | None = None
    event_name: str | None = None
    time: str | None = None
    id: str | None = None
    numbers: frozenset[str] = frozenset()
    booleans: frozenset[str] = frozenset()
    json: frozenset[str] = frozenset()
    rename: Mapping[str, str] = field(default_factory=dict)
    only: frozenset[str] | None = None
    time_format: str = "iso"
    time_zone: tzinfo = UTC


@dataclass(frozen=True, slots=True)
class Message:
    """A record of user-events."""

    user_id: str
    value: bytes


def message_of(row: Row, line: int, raw: bytes, mapping: Columns, now: datetime) -> Message | Ignored:
    """`raw`: the row as it stands in the file. Raises `RowRefused`."""
    body = _tracked(row) if _is_tracked(row) else _mapped(row, mapping)
    if not body.get("messageId"):
        body["messageId"] = _name(mapping.source, line, raw)
    body["historic"] = True
    if body.get("type") == "track" and not body.get("timestamp") and not body.get("originalTimestamp"):
        raise RowRefused(_NO_TIME)
    try:
        value = msgspec.json.encode(body)
        event = parse_bytes(value, now)
    except Unreadable as error:
        raise RowRefused(error.reason) from error
    except UnicodeEncodeError as error:
        raise RowRefused("not UTF-8") from error
    if isinstance(event, Ignored):
        return event
    return Message(event.user_id, value)


def what_is_missing(header: Sequence[str], mapping: Columns) -> str | None:
    """Why a CSV file with these columns cannot be imported so: a name that was mistyped would refuse every row."""
    named = [mapping.user, mapping.event, mapping.time, mapping.id]
    chosen = (
        mapping.numbers | mapping.booleans | mapping.json | frozenset(mapping.rename) | (mapping.only or frozenset())
    )
    unknown = sorted({name for name in (*named, *chosen) if name is not None and name not in header})
    if unknown:
        return f"there is no column {', '.join(unknown)}: the file has {', '.join(header)}"
    needed: list[tuple[str | None, tuple[str, ...], str]] = [(mapping.user, USER_COLUMNS, "--user")]
    if mapping.kind == "track":
        needed.append((mapping.time, TIME_COLUMNS, "--time"))
        needed.append((mapping.event or mapping.event_name, EVENT_COLUMNS, "--event or --event-name"))
    for given, usual, option in needed:
        if given is None and _column(dict.fromkeys(header), None, usual) is None:
            return f"there is no column {' or '.join(usual)}: say {option}; the file has {', '.join(header)}"
    return None


def _is_tracked(row: Row) -> bool:
    """Whether the row is a message of the tracking spec already."""
    return "type" in row and (isinstance(row.get("properties"), dict) or isinstance(row.get("traits"), dict))


def _tracked(row: Row) -> dict[str, Any]:
    return dict(row)


def _mapped(row: Row, mapping: Columns) -> dict[str, Any]:
    user = _column(row, mapping.user, USER_COLUMNS)
    time = _column(row, mapping.time, TIME_COLUMNS)
    id = _column(row, mapping.id, ID_COLUMNS)
    event = None if mapping.event_name is not None else _column(row, mapping.event, EVENT_COLUMNS)
    used = {user, time, id, event if mapping.kind == "track" else None}
    values = {
        mapping.rename.get(name, name): _value(name, cell, mapping)
        for name, cell in row.items()
        if name not in used and (name in mapping.only if mapping.only is not None else True) and _is_given(cell)
    }
    body: dict[str, Any] = {"type": mapping.kind, "userId": None if user is None else row.get(user)}
    if id is not None and _is_given(row.get(id)):
        body["messageId"] = row[id]
    if time is not None and _is_given(row.get(time)):
        body["timestamp"] = _time(time, row[time], mapping)
    if mapping.kind == "track":
        body["event"] = mapping.event_name if event is None else row.get(event)
        body["properties"] = values
    else:
        body["traits"] = values
    return body


def _column(row: Row, named: str | None, usual: tuple[str, ...]) -> str | None:
    if named is not None:
        return named
    return next((name for name in usual if name in row), None)


def _is_given(cell: object) -> bool:
    return cell is not None and cell != ""


def _value(name: str, cell: Any, mapping: Columns) -> Any:
    if not isinstance(cell, str):
        return cell
    if name in mapping.numbers:
        return _number(name, cell)
    if name in mapping.booleans:
        return _boolean(name, cell)
    if name in mapping.json:
        try:
            return msgspec.json.decode(cell)
        except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
            raise RowRefused(f"column {name}: not JSON") from error
    return cell


def _number(name: str, cell: str) -> int | float:
    text = cell.strip()
    try:
        number = int(text) if text.lstrip("+-").isdecimal() and text.isascii() else float(text)
    except ValueError as error:
        raise RowRefused(f"column {name}: not a number") from error
    if isinstance(number, float) and (not math.isfinite(number) or "_" in text):
        raise RowRefused(f"column {name}: not a number")
    return number


def _boolean(name: str, cell: str) -> bool:
    word = cell.strip().lower()
    if word in TRUE or word in FALSE:
        return word in TRUE
    raise RowRefused(f"column {name}: neither true nor false")


def _time(name: str, cell: Any, mapping: Columns) -> Any:
    """As RFC 3339; what is no text is left to the checks of every message."""
    read: Callable[[], datetime]
    if mapping.time_format in ("seconds", "milliseconds"):
        unit = 1 if mapping.time_format == "seconds" else 1_000

        def read() -> datetime:
            return _EPOCH + timedelta(microseconds=round(float(cell) * 1_000_000 / unit))

    elif not isinstance(cell, str):
        return cell
    elif mapping.time_format == "iso":
        if mapping.time_zone is UTC:
            return cell

        def read() -> datetime:
            return datetime.fromisoformat(cell)

    else:

        def read() -> datetime:
            return datetime.strptime(cell, mapping.time_format)  # noqa: DTZ007  # the zone comes below

    try:
        at = read()
    except (ValueError, OverflowError, TypeError) as error:
        raise RowRefused(f"column {name}: not a time as --time-format says") from error
    return (at if at.tzinfo is not None else at.replace(tzinfo=mapping.time_zone)).isoformat()


def _name(source: str, line: int, raw: bytes) -> str:
    """The messageId of a row without one: the same row at the same place of the same file is the same event."""
    digest = hashlib.blake2b(raw, digest_size=16, key=hashlib.sha256(f"{source}\n{line}".encode()).digest())
    return f"import-{digest.hexdigest()}"
