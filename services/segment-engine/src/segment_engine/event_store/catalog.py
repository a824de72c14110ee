"""The catalogue's table: news added up, the least used left out, pages for a builder.

Every write of events and profiles passes `Catalog`, which writes what is new of names at once and counts every few
seconds; a process that is killed in between leaves so many uses uncounted. Rows merge, so any number of processes may
add. Must not read events to answer.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from postrider.clock import Clock, SystemClock
from segment_engine.domain.catalog import (
    ATTRIBUTE,
    EVENT,
    LEFT_OUT,
    MAX_EXAMPLES,
    PROPERTY,
    CatalogRow,
    Seen,
    example_of,
)
from segment_engine.domain.columns import EventRow, ProfileRow, from_microseconds, microseconds
from segment_engine.domain.compile_params import render
from segment_engine.event_store.port import CatalogEntry, CatalogPage, StoreFailed
from segment_engine.event_store.statements import insert_rows

MAX_EVENTS: Final = 1_000
MAX_PROPERTIES: Final = 200
"""Of one event."""
MAX_ATTRIBUTES: Final = 1_000
FLUSH_SECONDS: Final = 2.0
_NEWS_SECONDS: Final = 1.0
"""Names that are new are written at once, but not more often: a stream of generated names costs a write a second."""

_COLUMNS = CatalogRow._fields
_decode = msgspec.json.Decoder().decode

# Names are taken out by a key that was read before: a replicated table deletes nothing by a subquery.
_KEY = "hex(sipHash128(kind, event, name))"
_TOO_MANY = f"""SELECT kind, event, {_KEY}, uses FROM (
  SELECT kind, event, name, sum(n) AS uses,
    row_number() OVER (PARTITION BY kind, if(kind = '{PROPERTY}', event, '') ORDER BY sum(n) DESC, event, name) AS rank
  FROM catalog WHERE kind IN ('{EVENT}', '{PROPERTY}', '{ATTRIBUTE}') GROUP BY kind, event, name
) WHERE rank > multiIf(kind = '{EVENT}', {MAX_EVENTS}, kind = '{PROPERTY}', {MAX_PROPERTIES}, {MAX_ATTRIBUTES})"""
_OF_NO_EVENT = f"""SELECT DISTINCT {_KEY} FROM catalog
WHERE (kind = '{PROPERTY}' OR kind = '{LEFT_OUT}' AND event != '')
AND event NOT IN (SELECT event FROM catalog WHERE kind = '{EVENT}')"""
_TAKE_OUT = f"DELETE FROM catalog WHERE {_KEY} IN {{keys:Array(String)}}"
_KEYS_AT_ONCE: Final = 20_000

_CLEAR_EVENTS = (
    f"DELETE FROM catalog WHERE kind IN ('{EVENT}', '{PROPERTY}') OR kind = '{LEFT_OUT}' AND name != '{ATTRIBUTE}'"
)

_TOTALS = f"sum(n), max(last_at), groupUniqArrayArray({MAX_EXAMPLES})(examples)"
_HAS_EXAMPLE = "SELECT 1 FROM catalog WHERE hasAny(examples, {values:Array(String)}) LIMIT 1"
_DROP_EXAMPLES = """ALTER TABLE catalog UPDATE examples = arrayFilter(x -> NOT has({values:Array(String)}, x), examples)
WHERE hasAny(examples, {values:Array(String)})"""


class Runner(Protocol):
    async def execute(self, sql: str, params: Mapping[str, str] | None = None) -> None: ...

    async def insert(self, sql: str, lines: bytes) -> None: ...

    async def rows(self, sql: str, params: Mapping[str, str] | None = None) -> list[list[Any]]: ...


class Catalog:
    def __init__(self, runner: Runner, clock: Clock | None = None) -> None:
        self._runner = runner
        self._clock = clock or SystemClock()
        self._seen = Seen()
        self._writing = asyncio.Lock()
        self._news_at = float("-inf")
        self._grown = True

    async def saw_events(self, rows: Sequence[EventRow]) -> None:
        self._seen.events(rows)
        await self._write_news()

    async def saw_profiles(self, rows: Sequence[ProfileRow]) -> None:
        self._seen.profiles(rows, microseconds(self._clock.now()))
        await self._write_news()

    async def flush(self) -> None:
        """Writes what was counted."""
        async with self._writing:
            rows = self._seen.take()
            if not rows:
                return
            self._grown = True
            try:
                await self._insert(rows)
            except StoreFailed:
                self._seen.put_back(rows)
                raise

    async def prune(self) -> None:
        """Leaves out the names used least, where there are too many."""
        if not self._grown:
            return
        self._grown = False
        async with self._writing:
            found = await self._runner.rows(_TOO_MANY)
            if not found:
                return
            left_out: Counter[tuple[str, str]] = Counter()
            for kind, event, _, uses in found:
                left_out[kind, event if kind == PROPERTY else ""] += uses
            await self._insert(
                [CatalogRow(LEFT_OUT, event, kind, "", n, 0, []) for (kind, event), n in left_out.items()]
            )
            await self._take_out([key for _, _, key, _ in found])
            await self._take_out([key for (key,) in await self._runner.rows(_OF_NO_EVENT)])

    async def forget_examples(self, texts: Sequence[str]) -> None:
        """Takes texts out of the examples, whoever else may have them."""
        await self.flush()
        params = {"values": render([example_of(text) for text in texts])}
        if texts and await self._runner.rows(_HAS_EXAMPLE, params):
            await self._runner.execute(_DROP_EXAMPLES, params)
            self._seen.forget_examples()

    async def clear_events(self) -> None:
        """The history is written anew: so are the counts of its names."""
        await self.flush()
        await self._runner.execute(_CLEAR_EVENTS)
        self._seen.forget_examples()

    async def events(self, prefix: str, after: str, limit: int) -> CatalogPage:
        """Events by name, with their properties, those used most first."""
        found, left_out = await self._page(EVENT, "event", prefix, after, limit)
        names = [name for name, *_ in found]
        properties: dict[str, list[CatalogEntry]] = {name: [] for name in names}
        missing: dict[str, int] = {}
        if names:
            params = {"events": render(names)}
            sql = (
                f"SELECT event, name, groupArray((type, uses)), sum(uses), max(at), {_flat('shown')} FROM ("
                f"SELECT event, name, type, sum(n) AS uses, max(last_at) AS at, "
                f"groupUniqArrayArray({MAX_EXAMPLES})(examples) AS shown FROM catalog "
                f"WHERE kind = '{PROPERTY}' AND event IN {{events:Array(String)}} GROUP BY event, name, type"
                ") GROUP BY event, name ORDER BY event, sum(uses) DESC, name "
                f"LIMIT {MAX_PROPERTIES} BY event"
            )
            for event, name, types, n, at, examples in await self._runner.rows(sql, params):
                properties[event].append(_entry(name, types, n, at, examples))
            sql = (
                f"SELECT event, sum(n) FROM catalog WHERE kind = '{LEFT_OUT}' AND event IN {{events:Array(String)}} "
                "GROUP BY event"
            )
            missing = dict(await self._runner.rows(sql, params))
        items = [
            CatalogEntry(name, (), n, from_microseconds(at), (), tuple(properties[name]), missing.get(name, 0))
            for name, n, at, _ in found[:limit]
        ]
        return CatalogPage(items, len(found) > limit, left_out)

    async def attributes(self, prefix: str, after: str, limit: int) -> CatalogPage:
        """Traits by name."""
        found, left_out = await self._page(ATTRIBUTE, "name", prefix, after, limit)
        types: dict[str, list[list[Any]]] = {name: [] for name, *_ in found}
        if found:
            sql = (
                f"SELECT name, type, sum(n) FROM catalog WHERE kind = '{ATTRIBUTE}' AND event = '' "
                "AND name IN {names:Array(String)} GROUP BY name, type"
            )
            for name, type, n in await self._runner.rows(sql, {"names": render(list(types))}):
                types[name].append([type, n])
        items = [_entry(name, types[name], n, at, examples) for name, n, at, examples in found[:limit]]
        return CatalogPage(items, len(found) > limit, left_out)

    async def _page(self, kind: str, column: str, prefix: str, after: str, limit: int) -> tuple[list[Any], int]:
        await self.flush()
        params = {"prefix": render(prefix), "after": render(after), "limit": render(limit + 1)}
        sql = (
            f"SELECT {column}, {_TOTALS} FROM catalog WHERE kind = '{kind}' AND {column} > {{after:String}} "
            f"AND startsWith(lowerUTF8({column}), lowerUTF8({{prefix:String}})) "
            f"GROUP BY {column} ORDER BY {column} LIMIT {{limit:UInt64}}"
        )
        found = await self._runner.rows(sql, params)
        sql = f"SELECT sum(n) FROM catalog WHERE kind = '{LEFT_OUT}' AND event = '' AND name = '{kind}'"
        return found, int((await self._runner.rows(sql))[0][0])

    async def _insert(self, rows: Sequence[CatalogRow]) -> None:
        await self._runner.insert(insert_rows("catalog", _COLUMNS), b"\n".join(map(msgspec.json.encode, rows)))

    async def _take_out(self, keys: Sequence[str]) -> None:
        for start in range(0, len(keys), _KEYS_AT_ONCE):
            await self._runner.execute(_TAKE_OUT, {"keys": render(keys[start : start + _KEYS_AT_ONCE])})

    async def _write_news(self) -> None:
        if self._seen.has_news and time.monotonic() - self._news_at >= _NEWS_SECONDS:
            self._news_at = time.monotonic()
            await self.flush()


def _flat(column: str) -> str:
    return f"groupUniqArrayArray({MAX_EXAMPLES})({column})"


def _entry(name: str, types: Sequence[Sequence[Any]], n: int, at: int, examples: Sequence[str]) -> CatalogEntry:
    """The types seen most first."""
    ordered = tuple(type for type, _ in sorted(types, key=lambda item: (-item[1], item[0])))
    return CatalogEntry(name, ordered, n, from_microseconds(at), tuple(map(_decode, sorted(examples))))
