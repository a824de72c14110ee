"""What a segment builder may offer: names seen, types, example values. Counts what is written; pure, bounded.

A name costs memory until `take`; past `MAX_PENDING` names a batch can only raise the count of those left out, so that
nobody's generated names grow a process. Must not keep what tells a person: see `is_telling`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import attrgetter, itemgetter
from typing import Any, Final, NamedTuple

import msgspec

from postrider.phones import normalise
from segment_engine.domain.columns import EventRow, ProfileRow

EVENT, PROPERTY, ATTRIBUTE, LEFT_OUT = "event", "property", "attribute", "left_out"
MAX_EXAMPLES: Final = 5
MAX_EXAMPLE_CHARACTERS: Final = 100
MAX_PENDING: Final = 50_000
MAX_TAKEN: Final = 20_000
"""Rows written at once; those used least are counted as left out."""
_LOOKED_AT: Final = 4
"""Rows of an event in a batch whose values may become examples, for the first `_LOOK_CLOSELY` batches; then one."""
_LOOK_CLOSELY: Final = 100
_SAME_TIME: Final = 60 * 1_000_000
"""Microseconds. Within so little the last event of a batch stands for the last event with a property."""
_PERSONAL: Final = frozenset({"phone", "email", "e-mail", "first_name", "last_name", "name", "firstname", "lastname"})
_EMAIL: Final = re.compile(r"\S+@\S+\.\S+")
_encode = msgspec.json.Encoder().encode

Typed = EventRow | ProfileRow
Key = tuple[str, str, str, str]


class CatalogRow(NamedTuple):
    """What is new of one name. `event` "" for attributes, `name` "" for events. `examples` are JSON texts.

    kind `left_out`: `n` uses of names that are not kept; `name` says of which kind, `event` of which event.
    """

    kind: str
    event: str
    name: str
    type: str
    n: int
    last_at: int
    examples: list[str]


@dataclass(slots=True)
class _Pending:
    n: int = 0
    last_at: int = 0
    examples: list[str] = field(default_factory=list)


class Seen:
    """What was written since the last `take`. `has_news`: a name or type was seen that this process did not know."""

    def __init__(self) -> None:
        self.has_news = False
        self._pending: dict[Key, _Pending] = {}
        self._left_out: Counter[tuple[str, str]] = Counter()
        self._known: set[Key] = set()
        self._examples: dict[Key, set[str]] = {}
        self._looked: dict[str, int] = {}

    def events(self, rows: Sequence[EventRow]) -> None:
        by_event: dict[str, list[EventRow]] = {}
        for row in rows:
            by_event.setdefault(row.event, []).append(row)
        for event, found in by_event.items():
            times = list(map(_at, found))
            first_at, last_at = min(times), max(times)
            self._add((EVENT, event, "", ""), len(found), last_at)
            if last_at - first_at > _SAME_TIME:
                found.sort(key=_at, reverse=True)
                self._typed(PROPERTY, event, found, last_at, newest_first=True)
            else:
                self._typed(PROPERTY, event, found, last_at)

    def profiles(self, rows: Sequence[ProfileRow], at: int) -> None:
        self._typed(ATTRIBUTE, "", [row for row in rows if not row.deleted], at)

    def forget_examples(self) -> None:
        """Some may have been taken out of the store: all may come again."""
        self._examples.clear()
        self._looked.clear()

    def take(self) -> list[CatalogRow]:
        """The news, to be written; kept no longer."""
        pending, self._pending = self._pending, {}
        left_out, self._left_out = self._left_out, Counter()
        self.has_news = False
        ordered = sorted(pending.items(), key=lambda item: -item[1].n)
        for (kind, event, _, _), entry in ordered[MAX_TAKEN:]:
            left_out[kind, event if kind == PROPERTY else ""] += entry.n
        rows = [CatalogRow(*key, entry.n, entry.last_at, entry.examples) for key, entry in ordered[:MAX_TAKEN]]
        return rows + [CatalogRow(LEFT_OUT, event, kind, "", n, 0, []) for (kind, event), n in left_out.items()]

    def put_back(self, rows: Iterable[CatalogRow]) -> None:
        """Rows that could not be written."""
        for row in rows:
            if row.kind == LEFT_OUT:
                self._left_out[row.name, row.event] += row.n
            else:
                self._add((row.kind, row.event, row.name, row.type), row.n, row.last_at, row.examples)

    def _typed(self, kind: str, event: str, rows: Sequence[Typed], at: int, *, newest_first: bool = False) -> None:
        """`newest_first`: events of very different times, sorted; each name was last seen in the first that has it."""
        columns = _EVENT_COLUMNS if kind == PROPERTY else _PROFILE_COLUMNS
        dates = Counter(chain.from_iterable(map(columns["date"], rows)))
        for type, column in columns.items():
            counts = dates if type == "date" else Counter(chain.from_iterable(map(column, rows)))
            lasts = _first_times(rows, column, counts.keys()) if newest_first else {}
            for name, n in counts.items():
                # Text that is a date stands in both.
                others = n - dates[name] if type == "text" and dates else n
                if others:
                    self._add((kind, event, name, type), others, lasts.get(name, at))
        looked = self._looked.get(event, 0)
        self._looked[event] = looked + 1
        for row in rows[: _LOOKED_AT if looked < _LOOK_CLOSELY else 1]:
            dated = row.dates
            for name, value in _values(row):
                self._example((kind, event, name, "date" if name in dated else _TYPE_OF[value.__class__]), value)

    def _add(self, key: Key, n: int, at: int, examples: Sequence[str] = ()) -> None:
        entry = self._pending.get(key)
        if entry is None:
            if len(self._pending) >= MAX_PENDING:
                self._left_out[key[0], key[1] if key[0] == PROPERTY else ""] += n
                return
            entry = self._pending[key] = _Pending()
            if key not in self._known:
                if len(self._known) >= MAX_PENDING:
                    self._known.clear()
                self._known.add(key)
                self.has_news = True
        entry.n += n
        entry.last_at = max(entry.last_at, at)
        entry.examples += examples

    def _example(self, key: Key, value: object) -> None:
        known = self._examples.get(key)
        if known is not None and len(known) >= MAX_EXAMPLES:
            return
        entry = self._pending.get(key)
        if entry is None or is_telling(key[2], value):
            return
        shown = _encode(value).decode()
        if len(shown) > MAX_EXAMPLE_CHARACTERS:
            return
        if known is None:
            if len(self._examples) >= MAX_PENDING:
                self.forget_examples()
            known = self._examples[key] = set()
        if shown not in known:
            known.add(shown)
            entry.examples.append(shown)


def is_telling(name: str, value: object) -> bool:
    """Whether a value tells who somebody is: then it is nobody's example."""
    if name.lower() in _PERSONAL:
        return True
    texts = value if isinstance(value, list) else [value]
    return any(isinstance(text, str) and (_EMAIL.search(text) or _is_phone(text)) for text in texts)


def _is_phone(text: str) -> bool:
    return sum(map(str.isdigit, text)) >= 7 and normalise(text, "US").valid


def _first_times(
    rows: Sequence[Any], names_of: Callable[[Any], Iterable[str]], names: Collection[str]
) -> dict[str, int]:
    """Name → time of the first row that has it. Ends early: nearly all names are in the first few rows."""
    times: dict[str, int] = {}
    for row in rows:
        if len(times) == len(names):
            break
        for name in names_of(row):
            times.setdefault(name, row.at)
    return times


def example_of(value: object) -> str:
    """A value as the catalogue keeps it."""
    return _encode(value).decode()


def _values(row: Typed) -> Iterable[tuple[str, Any]]:
    listed = ((name, [*texts, *numbers, *flags]) for name, (texts, numbers, flags, _) in row.lists.items())
    return chain(row.strs.items(), row.nums.items(), row.bools.items(), listed)


def _getters(row: type[Typed]) -> Mapping[str, Callable[[Typed], Iterable[str]]]:
    """By position, which is several times faster than by name."""
    return {type: itemgetter(row._fields.index(column)) for type, column in _COLUMN_OF.items()}


_COLUMN_OF: Final = {
    "text": "strs",
    "number": "nums",
    "bool": "bools",
    "date": "dates",
    "list": "lists",
    "object": "others",
}
_EVENT_COLUMNS: Final = _getters(EventRow)
_PROFILE_COLUMNS: Final = _getters(ProfileRow)
_at: Final = attrgetter("at")
_TYPE_OF: Final = {str: "text", float: "number", bool: "bool", list: "list"}
TYPES: Final = tuple(_COLUMN_OF)
