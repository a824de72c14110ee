"""User ids that surely have a profile row: a track of theirs needs no statement. A cache: forgetting is free."""

from __future__ import annotations

from collections.abc import Iterable

CAPACITY = 500_000
MAX_FORGOTTEN = 10_000


class KnownUsers:
    """Add only what is committed. The oldest tenth goes when it is full.

    Who was forgotten after a batch began is not added by it: it may have looked before the person was erased.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._known: dict[str, None] = {}
        self._forgotten: dict[str, int] = {}
        self.turn = 0
        """Grows with whoever is forgotten; a batch notes it when it begins."""

    def unknown(self, user_ids: set[str]) -> set[str]:
        return {user_id for user_id in user_ids if user_id not in self._known}

    def add(self, user_ids: Iterable[str], since: int | None = None) -> None:
        """`since`: `turn` as it was when the batch began."""
        begun = self.turn if since is None else since
        self._known.update({user_id: None for user_id in user_ids if self._forgotten.get(user_id, 0) <= begun})
        surplus = len(self._known) - self._capacity
        if surplus > 0:
            for user_id in list(self._known)[: surplus + self._capacity // 10]:
                del self._known[user_id]

    def forget(self, user_id: str) -> None:
        self._known.pop(user_id, None)
        self.turn += 1
        self._forgotten.pop(user_id, None)
        self._forgotten[user_id] = self.turn
        if len(self._forgotten) > MAX_FORGOTTEN:
            del self._forgotten[next(iter(self._forgotten))]
