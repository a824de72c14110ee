"""User ids that surely have a profile row: a track of theirs needs no statement. A cache: forgetting is free."""

from __future__ import annotations

from collections.abc import Iterable

CAPACITY = 500_000


class KnownUsers:
    """Add only what is committed. The oldest tenth goes when it is full."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._known: dict[str, None] = {}

    def unknown(self, user_ids: set[str]) -> set[str]:
        return {user_id for user_id in user_ids if user_id not in self._known}

    def add(self, user_ids: Iterable[str]) -> None:
        self._known.update(dict.fromkeys(user_ids))
        surplus = len(self._known) - self._capacity
        if surplus > 0:
            for user_id in list(self._known)[: surplus + self._capacity // 10]:
                del self._known[user_id]

    def forget(self, user_id: str) -> None:
        self._known.pop(user_id, None)
