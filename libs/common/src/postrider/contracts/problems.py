"""One thing wrong in what somebody sent, and a small reader of nested JSON that collects such things.

Pure. Messages never repeat a value: it may be a secret in the wrong field.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Problem:
    """`pointer` is a JSON pointer into what was sent."""

    pointer: str
    message: str


def escape(name: str) -> str:
    """A name as a step of a JSON pointer."""
    return name.replace("~", "~0").replace("/", "~1")


class Reader:
    """One JSON object: each field is asked for once, and `done` complains of the others. A null counts as absent."""

    def __init__(self, pointer: str, value: Mapping[str, Any], problems: list[Problem]) -> None:
        self._pointer = pointer
        self._value = value
        self._problems = problems
        self._known: set[str] = set()

    def at(self, name: str) -> str:
        return f"{self._pointer}/{escape(name)}"

    def wrong(self, name: str, message: str) -> None:
        self._problems.append(Problem(self.at(name), message))

    def wrong_in(self, name: str, key: str, message: str) -> None:
        self._problems.append(Problem(f"{self.at(name)}/{escape(key)}", message))

    def get(self, name: str, *, required: bool = False) -> Any:
        self._known.add(name)
        value = self._value.get(name)
        if value is None and required:
            self.wrong(name, "is required")
        return value

    def text(self, name: str, *, pattern: str, hint: str, required: bool = False, default: str = "") -> str:
        value = self.get(name, required=required)
        if value is None:
            return default
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            self.wrong(name, f"must be {hint}")
            return default
        return value

    def choice(self, name: str, choices: Mapping[str, str], default: str) -> str:
        """`choices`: every spelling with the one that is kept."""
        value = self.get(name)
        if value is None:
            return default
        kept = choices.get(value) if isinstance(value, str) else None
        if kept is None:
            self.wrong(name, f"must be one of: {', '.join(dict.fromkeys(choices.values()))}")
            return default
        return kept

    def integer(self, name: str, low: int, high: int, *, required: bool = False) -> int:
        value = self.get(name, required=required)
        if value is None:
            return low
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            self.wrong(name, f"must be a whole number from {low} to {high}")
            return low
        return value

    def flag(self, name: str) -> bool:
        value = self.get(name)
        if value is not None and not isinstance(value, bool):
            self.wrong(name, "must be true or false")
        return value is True

    def object(self, name: str, *, required: bool = False) -> Reader | None:
        value = self.get(name, required=required)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            self.wrong(name, "must be an object")
            return None
        return Reader(self.at(name), value, self._problems)

    def texts(self, name: str, *, most: int, longest: int) -> dict[str, str]:
        """An object of texts, in its order."""
        value = self.get(name)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self.wrong(name, "must be an object of texts")
            return {}
        if len(value) > most:
            self.wrong(name, f"has more than {most} entries")
            return {}
        found: dict[str, str] = {}
        for key, each in value.items():
            if not isinstance(each, str) or len(each) > longest:
                self.wrong_in(name, key, f"must be text of up to {longest} characters")
            else:
                found[key] = each
        return found

    def done(self, why: str) -> None:
        """`why`: what the fields are fields of, for the message."""
        for name, value in self._value.items():
            if name not in self._known and value is not None:
                self.wrong(name, f"unknown field of {why}")
