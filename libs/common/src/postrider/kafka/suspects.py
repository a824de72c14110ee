"""Finds the record a handler fails on: a batch that failed is tried again in halves until one record stands alone, and
that one is given up after a few tries. Pure: knows how many records from each partition's head come next, no records.
"""

from __future__ import annotations

from typing import Generic, TypeVar

P = TypeVar("P")

ATTEMPTS = 3
GIVEN_UP_IN_A_ROW = 20
"""So many records in a row on which the handler fails are the handler's fault."""


class Suspects(Generic[P]):
    """`P` names a partition. Parts are tried in the order of their records, so what comes first stays first."""

    def __init__(self) -> None:
        self._parts: list[dict[P, int]] = []
        self._failures = 0
        self._given_up = 0

    def next(self) -> dict[P, int] | None:
        """What to try next, as counts from the heads; None: anything."""
        return self._parts[0] if self._parts else None

    @property
    def gives_up(self) -> bool:
        """The record that stands alone now has failed often enough."""
        return self._failures >= ATTEMPTS

    @property
    def blames_the_handler(self) -> bool:
        """Giving up one more would be wrong: everything fails."""
        return self._given_up >= GIVEN_UP_IN_A_ROW

    def failed(self, counts: dict[P, int]) -> None:
        """The handler failed on these records: what `next` said, or a fresh batch."""
        if self._parts:
            self._parts.pop(0)
        if sum(counts.values()) == 1:
            self._failures += 1
            self._parts.insert(0, counts)
        else:
            self._failures = 0
            self._parts[:0] = _halves(counts)

    def passed(self, *, handled: bool) -> None:
        """These records are done; `handled` when the handler has seen any of them."""
        if self.gives_up:
            self._given_up += 1
        elif handled:
            self._given_up = 0
        if self._parts:
            self._parts.pop(0)
        self._failures = 0

    def forget(self) -> None:
        """The heads have moved: nothing known of them holds."""
        self._parts.clear()
        self._failures = 0


def _halves(counts: dict[P, int]) -> list[dict[P, int]]:
    if len(counts) > 1:
        items = list(counts.items())
        middle = len(items) // 2
        return [dict(items[:middle]), dict(items[middle:])]
    ((partition, count),) = counts.items()
    return [{partition: count // 2}, {partition: count - count // 2}]
