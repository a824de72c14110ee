"""JSON in and out of the msgspec structs of this package; the one place that turns bytes into contracts.

Must not know any topic. A value that cannot be read raises `Unreadable` with a reason fit for a dead-letter header:
it names the field and never repeats the value.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_encoder = msgspec.json.Encoder()


class Unreadable(Exception):
    """A record that can never be read. `reason` is safe for headers and logs: no personal data."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    if kind not in _decoders:
        _decoders[kind] = msgspec.json.Decoder(kind)
    return _decoders[kind]


def encode(value: object) -> bytes:
    """Struct → JSON bytes."""
    return _encoder.encode(value)


def decode(data: bytes | None, kind: type[T]) -> T:
    """JSON bytes → `kind`. Raises `Unreadable`."""
    if data is None:
        raise Unreadable("value is null")
    try:
        decoded: T = _decoder(kind).decode(data)
    except msgspec.ValidationError as error:
        raise Unreadable(f"wrong shape: {_without_value(str(error))}") from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Unreadable("not JSON: " + type(error).__name__) from error
    return decoded


def _without_value(text: str) -> str:
    """msgspec quotes an invalid enum or tag value; everything quoted but the path goes."""
    head, sep, path = text.partition(" - at ")
    cut = head.split("'", 1)[0].split('"', 1)[0].rstrip()
    return cut + sep + path
