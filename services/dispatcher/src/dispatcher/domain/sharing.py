"""Which of the texts that wait for one provider share a call, where it takes several. Pure: keys are the adapter's."""

from __future__ import annotations

from collections.abc import Hashable, Iterable


class Sharing:
    """Texts drawn for the next calls, in at most `calls` of at most `size` texts; of these calls, at most
    `calls_for_bulk` of bulk lanes. Live and bulk texts do not share one: they have connections of their own."""

    def __init__(self, size: int, calls: int, calls_for_bulk: int) -> None:
        self._size = size
        self._left = {False: calls, True: min(calls, calls_for_bulk)}
        self._taken: dict[Hashable, int] = {}
        self._keys: dict[str, Hashable] = {}

    def takes(self, message_id: str, key: Hashable, *, is_bulk: bool) -> bool:
        """Whether there is a call for this text; then it has its place in it."""
        whole = (is_bulk, key)
        taken = self._taken.get(whole, self._size)
        if taken == self._size:
            if not self._left[is_bulk]:
                return False
            self._left[False] -= 1
            self._left[True] = min(self._left[True] - is_bulk, self._left[False])
            taken = 0
        self._taken[whole] = taken + 1
        self._keys[message_id] = whole
        return True

    def calls(self, message_ids: Iterable[str]) -> list[list[str]]:
        """Those of the texts that may go after all, by the calls they share: no more than were counted."""
        by_key: dict[Hashable, list[str]] = {}
        for message_id in message_ids:
            by_key.setdefault(self._keys[message_id], []).append(message_id)
        size = self._size
        return [ids[start : start + size] for ids in by_key.values() for start in range(0, len(ids), size)]
