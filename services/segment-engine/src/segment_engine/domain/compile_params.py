"""Bound parameters of a statement: nothing that a user wrote ever becomes SQL text.

A parameter's text is what ClickHouse reads for `{name:Type}`, over HTTP and in chDB: text is TSV-escaped, the elements
of an array are quoted instead (an array is not unescaped as a whole). Must not know rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

ParameterValue: TypeAlias = str | int | float | bool | Sequence[str] | Sequence[int] | Sequence[float] | Sequence[bool]

_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\b": "\\b", "\f": "\\f", "\0": "\\0"}
_TSV = str.maketrans(_ESCAPES)
_QUOTED = str.maketrans({**_ESCAPES, "'": "\\'"})


class Parameters:
    """Collects values and hands out placeholders; equal values of one type share a placeholder."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, str], str] = {}

    def bind(self, kind: str, value: ParameterValue) -> str:
        """`kind` is a ClickHouse type: String, Int64, UInt64, Float64, Bool or Array of one of these."""
        return self.bind_text(kind, render(value))

    def bind_text(self, kind: str, text: str) -> str:
        """A value that is rendered already."""
        name = self._names.setdefault((kind, text), f"p{len(self._names)}")
        return f"{{{name}:{kind}}}"

    def texts(self) -> dict[str, str]:
        """Name → text, to be sent with the statement."""
        return {name: text for (_, text), name in self._names.items()}


def render(value: ParameterValue) -> str:
    """A value as parameter text. Raises `ValueError` for text that is not valid Unicode."""
    if isinstance(value, str):
        value.encode("utf-8")
        return value.translate(_TSV)
    if isinstance(value, int | float):
        return _literal(value)
    return f"[{','.join(map(_literal, value))}]"


def _literal(value: str | int | float | bool) -> str:
    if isinstance(value, str):
        value.encode("utf-8")
        return f"'{value.translate(_QUOTED)}'"
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value)
