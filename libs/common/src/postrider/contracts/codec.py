"""JSON in and out of the msgspec structs of this package; the one place that turns bytes into contracts.

Must not know any topic. A value that cannot be read raises `Unreadable` with a reason fit for a dead-letter header:
it names the field and never repeats the value.
"""

from __future__ import annotations

from typing import Any, TypeVar, get_type_hints

import msgspec

from postrider.contracts.envelope import MAX_RECORD_BYTES
from postrider.contracts.fields import FIRST_YEAR, LAST_YEAR, Moment

T = TypeVar("T")

_NUL = b"\\u0000"
"""The only spelling of U+0000 that JSON has."""

_encoder = msgspec.json.Encoder()


class Unreadable(Exception):
    """A record that can never be read. `reason` is safe for headers and logs: no personal data."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}
_moments: dict[Any, tuple[str, ...]] = {}


def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    if kind not in _decoders:
        _decoders[kind] = msgspec.json.Decoder(kind)
        hints = get_type_hints(kind, include_extras=True) if isinstance(kind, type) else {}
        _moments[kind] = tuple(name for name, hint in hints.items() if hint in (Moment, Moment | None))
    return _decoders[kind]


def encode(value: object) -> bytes:
    """Struct → JSON bytes."""
    return _encoder.encode(value)


def decode(data: bytes | None, kind: type[T]) -> T:
    """JSON bytes → `kind`. Raises `Unreadable`, also for what no table keeps: U+0000 in any text, moments at the ends
    of the calendar, a value over the limit of every topic (a batch that travels compressed may hold one)."""
    if data is None:
        raise Unreadable("value is null")
    if len(data) > MAX_RECORD_BYTES:
        raise Unreadable(f"larger than {MAX_RECORD_BYTES} bytes")
    try:
        decoded: T = _decoder(kind).decode(data)
    except msgspec.ValidationError as error:
        raise Unreadable(f"wrong shape: {_without_value(str(error))}") from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Unreadable("not JSON: " + type(error).__name__) from error
    for name in _moments[kind]:
        moment = getattr(decoded, name)
        if moment is not None and not FIRST_YEAR <= moment.year <= LAST_YEAR:
            raise Unreadable(f"{name}: must be between the years {FIRST_YEAR} and {LAST_YEAR}")
    if _NUL in data and _has_nul(msgspec.json.decode(data)):
        raise Unreadable("a text contains U+0000")
    return decoded


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, dict):
        return any("\x00" in name or _has_nul(item) for name, item in value.items())
    return isinstance(value, list) and any(map(_has_nul, value))


def _without_value(text: str) -> str:
    """msgspec quotes an invalid enum or tag value; everything quoted but the path goes."""
    head, sep, path = text.partition(" - at ")
    cut = head.split("'", 1)[0].split('"', 1)[0].rstrip()
    return cut + sep + path
