"""Under which names events and profiles hold lists: a rule that asks for other names reads no lists.

True only where one process writes: it notes a name before the row can be seen, so that it never knows too little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from segment_engine.domain.columns import EventRow, ProfileRow
from segment_engine.domain.compile_rule import Listed
from segment_engine.event_store.statements import listed_names

MAX_NAMES: Final = 10_000
"""More than these are too many to keep: then any name may have one."""


class Reader(Protocol):
    async def rows(self, sql: str, params: Mapping[str, str] | None = None) -> list[list[Any]]: ...


class ListedNames:
    """`grown` changes whenever a name is new: what was compiled before may read too little of what came since."""

    def __init__(self) -> None:
        self._properties: set[str] | None = None
        self._traits: set[str] | None = None
        self.grown = 0

    async def load(self, reader: Reader) -> None:
        self._properties = _bounded({name for (name,) in await reader.rows(listed_names("events", MAX_NAMES + 1))})
        self._traits = _bounded({name for (name,) in await reader.rows(listed_names("profiles", MAX_NAMES + 1))})

    def known(self) -> Listed:
        return Listed(self._properties, self._traits)

    def will_insert_events(self, rows: Sequence[EventRow]) -> None:
        self._properties = self._with(self._properties, rows)

    def will_insert_profiles(self, rows: Sequence[ProfileRow]) -> None:
        self._traits = self._with(self._traits, rows)

    def _with(self, known: set[str] | None, rows: Sequence[EventRow] | Sequence[ProfileRow]) -> set[str] | None:
        if known is None:
            return None
        size = len(known)
        for row in rows:
            if row.lists:
                known.update(row.lists)
        self.grown += len(known) - size
        return _bounded(known)


def _bounded(names: set[str]) -> set[str] | None:
    return names if len(names) <= MAX_NAMES else None
