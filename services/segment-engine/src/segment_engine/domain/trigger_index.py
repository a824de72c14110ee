"""Which triggers an event meets, at a cost that does not grow with those it has nothing to do with. Pure.

Triggers are found by the event's name; those of one name that ask for a text by a text; equal filters are one test.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

from postrider.rules import Matcher, compile_where
from postrider.rules.tree import Filter

T = TypeVar("T")


class _Test(Generic[T]):
    """Filters, and who has them."""

    __slots__ = ("items", "matches", "where")

    def __init__(self, where: Sequence[Filter], matches: Matcher) -> None:
        self.where = where
        self.matches = matches
        self.items: list[T] = []


class _Listeners(Generic[T]):
    """The triggers of one name. `by_text`: property → text → tests that can hold only if the property has the text."""

    def __init__(self) -> None:
        self._tests: dict[str, _Test[T]] = {}
        self._by_text: dict[str, dict[str, list[_Test[T]]]] = {}
        self._others: list[_Test[T]] = []
        self._filed = False

    def add(self, where: Sequence[Filter], account_zone: str, item: T) -> None:
        key = repr(where)
        test = self._tests.get(key)
        if test is None:
            test = self._tests[key] = _Test(where, compile_where(where, account_zone))
            self._filed = False
        test.items.append(item)

    def _file(self) -> None:
        """Each test under the filter whose texts are asked for by the fewest others."""
        asked: Counter[tuple[str, str]] = Counter()
        for test in self._tests.values():
            asked.update({(each.name, text) for each in test.where for text in _texts(each)})
        self._by_text, self._others, self._filed = {}, [], True
        for test in self._tests.values():
            filters = [each for each in test.where if _texts(each)]
            if not filters:
                self._others.append(test)
                continue
            rarest = min(filters, key=lambda each: max(asked[each.name, text] for text in _texts(each)))
            tests = self._by_text.setdefault(rarest.name, {})
            for text in _texts(rarest):
                tests.setdefault(text, []).append(test)

    def find(self, values: Mapping[str, Any]) -> list[T]:
        if not self._filed:
            self._file()
        found: list[T] = []
        for test in self._others:
            if test.matches(values):
                found += test.items
        for name, tests in self._by_text.items():
            stored = values.get(name)
            if type(stored) is str:
                for test in tests.get(stored, ()):
                    if test.matches(values):
                        found += test.items
            elif type(stored) is list:
                asked = {id(test): test for text in stored if type(text) is str for test in tests.get(text, ())}
                for test in asked.values():
                    if test.matches(values):
                        found += test.items
        return found


class TriggerIndex(Generic[T]):
    """Add them all, then ask. `account_zone` is what local times in filters mean."""

    def __init__(self, account_zone: str) -> None:
        self._zone = account_zone
        self._by_event: dict[str, _Listeners[T]] = {}

    def add(self, event: str, where: Sequence[Filter], item: T) -> None:
        listeners = self._by_event.get(event)
        if listeners is None:
            listeners = self._by_event[event] = _Listeners()
        listeners.add(where, self._zone, item)

    def find(self, event: str, values: Mapping[str, Any]) -> list[T]:
        """The items whose filters all hold, each as often as it was added, in no particular order."""
        listeners = self._by_event.get(event)
        return [] if listeners is None else listeners.find(values)


def _texts(test: Filter) -> frozenset[str]:
    """The texts of which the property must have one for the filter to hold; none: other values do as well."""
    if test.op not in ("eq", "in"):
        return frozenset()
    values = test.value if isinstance(test.value, tuple) else (test.value,)
    texts = frozenset(value for value in values if isinstance(value, str))
    return texts if len(texts) == len(frozenset(map(repr, values))) else frozenset()
