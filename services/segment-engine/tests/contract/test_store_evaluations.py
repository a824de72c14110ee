"""What one evaluation may take, and that it reads no lists where there are none: without missing any."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from postrider.rules import Rule, parse_rule
from segment_engine.domain.columns import EventRow, microseconds, profile_row, split
from segment_engine.event_store.chdb_store import ChdbRunner, ChdbStore
from segment_engine.event_store.listed_names import MAX_NAMES, ListedNames
from segment_engine.event_store.port import EvaluationContext, EvaluationTooLarge, StoreFailed
from segment_engine.event_store.sql_store import SqlEventStore
from segment_engine.event_store.statements import bounded
from tests.support.event_stores import WAYS, opened

NOW = datetime(2026, 3, 5, 12, tzinfo=UTC)
CONTEXT = EvaluationContext(NOW, "UTC")
FROM_PARIS = parse_rule({"attribute": {"name": "city", "op": "eq", "value": "Paris"}})
NOT_FROM_PARIS = parse_rule({"attribute": {"name": "city", "op": "not_in", "value": ["Paris", "Rome"]}})
BOUGHT_RED = parse_rule(
    {"did": {"event": "Bought", "where": [{"property": "colours", "op": "starts_with", "value": "re"}]}}
)


def bought(user_id: str, message_id: str, **properties: Any) -> EventRow:
    return EventRow(user_id, "Bought", microseconds(NOW), microseconds(NOW), message_id, *split(properties))


async def who(store: SqlEventStore, rule: Rule) -> set[str]:
    found = await store.matching(rule, CONTEXT, ["a", "b", "c"])
    assert (await store.estimate(rule, CONTEXT)).qualified == len(found)
    return found


@pytest.mark.parametrize("way", WAYS)
async def test_a_list_counts_from_its_first_row_on(way: str, tmp_path: Path) -> None:
    async with opened(way, tmp_path) as store:
        await store.upsert_profiles([profile_row("a", 1, {"city": "Paris"}), profile_row("b", 1, {"city": "Oslo"})])
        await store.insert_events([bought("a", "1", colours="red"), bought("b", "2", colours="blue")], "first")
        assert await who(store, FROM_PARIS) == {"a"}
        assert await who(store, BOUGHT_RED) == {"a"}
        await store.upsert_profiles([profile_row("b", 2, {"city": ["Oslo", "Paris"]})])
        await store.insert_events([bought("b", "3", colours=["green", "red"])], "second")
        assert await who(store, FROM_PARIS) == {"a", "b"}
        assert await who(store, NOT_FROM_PARIS) == set()
        assert await who(store, BOUGHT_RED) == {"a", "b"}


async def test_lists_are_known_again_after_a_restart(tmp_path: Path) -> None:
    async with opened("embedded", tmp_path) as store:
        await store.upsert_profiles([profile_row("a", 1, {"city": ["Paris"]})])
        await store.insert_events([bought("a", "1", colours=["red"])], "first")
    async with opened("embedded", tmp_path) as store:
        assert await who(store, FROM_PARIS) == {"a"}
        assert await who(store, BOUGHT_RED) == {"a"}


class Interrupted(ChdbRunner):
    """`meanwhile` happens when an evaluation is on its way and nothing is read yet."""

    meanwhile: Callable[[], Awaitable[None]] | None = None

    async def rows(self, sql: str, params: Mapping[str, str] | None = None) -> list[list[Any]]:
        if "FROM profiles FINAL" in sql and self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()
        return await super().rows(sql, params)


async def test_the_first_list_that_comes_during_an_evaluation_is_not_taken_for_nothing(tmp_path: Path) -> None:
    runner = Interrupted(tmp_path)
    store = SqlEventStore(runner, sole=True)
    await store.open()
    try:
        await store.upsert_profiles([profile_row("a", 1, {"city": "Paris"})])

        async def moved() -> None:
            await store.upsert_profiles([profile_row("a", 2, {"city": ["Paris"]})])

        runner.meanwhile = moved
        assert await store.matching(NOT_FROM_PARIS, CONTEXT, ["a"]) == set()
        assert runner.meanwhile is None
    finally:
        await store.close()


class Nothing:
    async def rows(self, sql: str, params: Mapping[str, str] | None = None) -> list[list[Any]]:
        return []


async def test_more_names_than_can_be_kept_may_all_be_lists() -> None:
    names = ListedNames()
    await names.load(Nothing())
    names.will_insert_events([bought("a", "1", **{f"n{i}": [] for i in range(MAX_NAMES)})])
    assert len(names.known().properties or ()) == MAX_NAMES
    names.will_insert_events([bought("a", "1", more=[1])])
    assert names.known().properties is None
    assert names.known().traits == set()


async def test_an_evaluation_that_needs_too_much_says_so(tmp_path: Path) -> None:
    runner = ChdbRunner(tmp_path)
    await runner.open()
    try:
        large = "SELECT count() FROM (SELECT number FROM numbers(100000000) GROUP BY number)"
        with pytest.raises(EvaluationTooLarge, match="MEMORY_LIMIT_EXCEEDED"):
            await runner.rows(f"{large} SETTINGS max_memory_usage = 50000000")
        long = "SELECT sum(sleepEachRow(0.1)) FROM numbers(200)"
        with pytest.raises(EvaluationTooLarge, match="TIMEOUT_EXCEEDED"):
            await runner.rows(
                f"{long} SETTINGS max_execution_time = 1, max_block_size = 1, max_memory_usage = 50000000"
            )
        with pytest.raises(StoreFailed) as failed:
            await runner.rows(f"{long} SETTINGS max_execution_time = 1, max_block_size = 1")
        assert not isinstance(failed.value, EvaluationTooLarge)
        assert await runner.rows(bounded("SELECT 1")) == [[1]]
    finally:
        await runner.close()


async def test_a_hundred_values_are_contained_one_by_one(tmp_path: Path) -> None:
    store = ChdbStore(tmp_path)
    await store.open()
    try:
        texts = [f"<{i}>" for i in range(100)]
        whole = "".join(texts)
        traits: dict[str, dict[str, Any]] = {
            "a": {"t": whole}, "b": {"t": whole.replace("<99>", "")}, "c": {"t": texts[::-1]},
        }  # fmt: skip
        await store.upsert_profiles([profile_row(user_id, 1, kept) for user_id, kept in traits.items()])
        test = {"name": "t", "op": "contains", "value": texts}
        assert await who(store, parse_rule({"attribute": test})) == {"a", "c"}
        assert await who(store, parse_rule({"attribute": {**test, "op": "not_contains"}})) == {"b"}
    finally:
        await store.close()
