"""The values a template may name, what counts as missing, and how each prints. Knows nothing of Liquid's syntax.

Numbers are what rules.md T7 says: 10 and 10.0 are one number and print `10`. Dates are JSON text and print as they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from liquid.undefined import UNDEFINED, Undefined

MAX_VALUE: Final = 32_768
"""Characters of one value, given or computed: a whole record is no longer."""

_MAX_BITS: Final = 1_023
_EXACT_INTEGERS: Final = 2.0**53


@dataclass(frozen=True, slots=True)
class Values:
    """What `Profile.*`, `Event.*` and `Campaign.*` stand for: JSON values by name, only those that are referred to."""

    profile: Mapping[str, object] = field(default_factory=dict)
    event: Mapping[str, object] = field(default_factory=dict)
    campaign: Mapping[str, object] = field(default_factory=dict)


class LimitReached(Exception):
    """A value or the work for it grew past what a text message can need. The text names the limit, never the value."""


class MissingValue(Undefined):
    """A value that is absent or null, carried along until something is printed from it or a default replaces it."""

    __slots__ = ("names",)

    def __init__(self, name: str, *, token: object = None, obj: object = UNDEFINED, hint: str | None = None) -> None:
        super().__init__(name, token=None, obj=obj, hint=hint)
        self.names: tuple[str, ...] = (name,)

    @classmethod
    def joining(cls, parts: Sequence[MissingValue]) -> MissingValue:
        joined = cls(parts[0].name)
        joined.names = tuple(dict.fromkeys(name for part in parts for name in part.names))
        return joined


def simplest(value: object) -> object:
    """`value` as templates see it, None when it counts as missing: null, NaN, infinity, integers beyond an IEEE
    double, anything that JSON cannot say."""
    if isinstance(value, str):
        if len(value) > MAX_VALUE:
            raise LimitReached("value_too_long")
        return value
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if value.bit_length() <= _MAX_BITS else None
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return int(value) if value.is_integer() and abs(value) < _EXACT_INTEGERS else value
    if isinstance(value, (list, tuple, Mapping, range)):
        return value
    return None


def text_of(value: object) -> str | None:
    """How a value prints; None for what has no printed form (objects, null). The elements of a list are separated by
    a comma and a space; elements that are null, lists or objects are left out."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return _number(value)
    if isinstance(value, (list, tuple)):
        return _listing(value, ", ")
    if isinstance(value, range):
        return f"{value.start}..{value.stop - 1}"
    return None


def joined(values: Sequence[object], separator: str) -> str:
    """The printed elements of a list."""
    return _listing(values, separator)


def _listing(values: Sequence[object], separator: str) -> str:
    texts: list[str] = []
    length = 0
    for value in values:
        if isinstance(value, (str, int, float)):
            text = text_of(simplest(value))
            if text is not None:
                texts.append(text)
                length += len(text) + len(separator)
                if length > MAX_VALUE + len(separator):
                    raise LimitReached("value_too_long")
    return separator.join(texts)


def _number(value: int | float) -> str:
    if isinstance(value, int):
        return str(value)
    if value.is_integer():
        return str(int(value)) if abs(value) < _EXACT_INTEGERS else format(Decimal(repr(value)), "f")
    return format(Decimal(repr(value)), "f")
