"""What waits in line by owner: drawn from each owner in turn, of each in the order it came. Pure.

So whoever has a thousand in line delays nobody who has one.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from enum import Enum, auto
from typing import Generic, TypeVar

T = TypeVar("T")


class Verdict(Enum):
    TAKE = auto()
    PASS = auto()
    """Nothing more of this owner now; it keeps its turn."""
    STOP = auto()


class FairBuffer(Generic[T]):
    def __init__(self, owner_of: Callable[[T], str]) -> None:
        self._owner_of = owner_of
        self._by_owner: OrderedDict[str, deque[T]] = OrderedDict()
        self._n = 0

    def __len__(self) -> int:
        return self._n

    def __iter__(self) -> Iterator[T]:
        """Owner by owner."""
        return (item for items in self._by_owner.values() for item in items)

    @property
    def head(self) -> T:
        """Whose turn it is. Raises StopIteration when nothing waits."""
        return next(iter(self._by_owner.values()))[0]

    def counts(self) -> Mapping[str, int]:
        return {owner: len(items) for owner, items in self._by_owner.items()}

    def put(self, item: T) -> None:
        owner = self._owner_of(item)
        items = self._by_owner.get(owner)
        if items is None:
            items = self._by_owner[owner] = deque()
        items.append(item)
        self._n += 1

    def draw(self, judge: Callable[[T], Verdict]) -> list[T]:
        """Asks `judge` about the first of each owner in turn, until it says STOP or nobody is left to ask."""
        taken: list[T] = []
        passed: list[tuple[str, deque[T]]] = []
        by_owner = self._by_owner
        while by_owner:
            owner, items = next(iter(by_owner.items()))
            verdict = judge(items[0])
            if verdict is Verdict.STOP:
                break
            if verdict is Verdict.PASS:
                passed.append((owner, by_owner.pop(owner)))
                continue
            taken.append(items.popleft())
            if items:
                by_owner.move_to_end(owner)
            else:
                del by_owner[owner]
        for owner, items in reversed(passed):
            by_owner[owner] = items
            by_owner.move_to_end(owner, last=False)
        self._n -= len(taken)
        return taken

    def take_heads(self, is_wanted: Callable[[T], bool]) -> list[T]:
        """Of each owner what is wanted of the front of its line."""
        taken: list[T] = []
        for owner, items in list(self._by_owner.items()):
            while items and is_wanted(items[0]):
                taken.append(items.popleft())
            if not items:
                del self._by_owner[owner]
        self._n -= len(taken)
        return taken

    def take_owner(self, owner: str) -> list[T]:
        items = self._by_owner.pop(owner, deque())
        self._n -= len(items)
        return list(items)

    def drain(self) -> list[T]:
        taken = list(self)
        self._by_owner.clear()
        self._n = 0
        return taken
