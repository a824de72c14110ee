"""Random rules over random histories: the event store selects whom the plain-Python oracle selects."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postrider.contracts.delivery_events import MessageChanged
from postrider.rules import compile_where, parse_rule, parse_where, resolve, to_json
from postrider.rules.tree import AllOf, UserList
from segment_engine.domain.columns import EventRow, microseconds, outcome_rows, profile_row, split
from segment_engine.event_store.chdb_store import ChdbStore
from segment_engine.event_store.port import EvaluationContext
from tests.support.rule_cases import (
    LISTS,
    ZONES,
    every_filter,
    every_stored_value,
    filters,
    moments,
    people,
    rules,
    saved_segments,
    values,
)
from tests.support.rule_oracle import Person, qualifies, where_holds

_examples = count()


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture(scope="module")
def store(loop: asyncio.AbstractEventLoop) -> Iterator[ChdbStore]:
    with tempfile.TemporaryDirectory() as folder:
        store = ChdbStore(Path(folder))
        loop.run_until_complete(store.open())
        for list_id in LISTS:
            loop.run_until_complete(store.complete_list(list_id))
        yield store
        loop.run_until_complete(store.close())


async def _insert(store: ChdbStore, persons: dict[str, Person]) -> None:
    await store.upsert_profiles([profile_row(user_id, 1, person.traits) for user_id, person in persons.items()])
    rows = [
        EventRow(user_id, e.event, microseconds(e.at), microseconds(e.at), e.message_id, *split(e.properties))
        for user_id, person in persons.items()
        for e in person.history
    ]
    await store.insert_events(rows, f"example-{next(_examples)}")
    for user_id, person in persons.items():
        # One insert each: what is told of one text need not have been merged when a rule asks.
        for told in person.texts:
            change = MessageChanged(
                f"{user_id}-{told.message_id}",
                told.campaign_id,
                "run",
                "once",
                user_id,
                told.status,
                1,
                told.at,
                told.at,
            )
            await store.insert_outcomes(outcome_rows(change))
    for list_id in LISTS:
        members = [user_id for user_id, person in persons.items() if list_id in person.lists]
        await store.add_to_list(list_id, members * 2)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    tried=st.lists(rules, min_size=3, max_size=5),
    segments=saved_segments,
    group=st.lists(people(), min_size=3, max_size=6),
    now=moments,
    zone=st.sampled_from(ZONES),
)
def test_oracle_selects_the_same_people(
    store: ChdbStore,
    loop: asyncio.AbstractEventLoop,
    tried: list[dict[str, Any]],
    segments: dict[str, dict[str, Any]],
    group: list[Person],
    now: datetime,
    zone: str,
) -> None:
    prefix = f"{next(_examples)}-"
    persons = {f"{prefix}{i}": person for i, person in enumerate(group)}
    loop.run_until_complete(_insert(store, persons))
    loop.run_until_complete(store.add_to_list(prefix, list(persons)))
    assert loop.run_until_complete(store.complete_list(prefix)) == len(persons)
    for body in tried:
        rule = parse_rule(body)
        assert parse_rule(to_json(rule)) == rule
        whole = resolve(rule, lambda id: parse_rule(segments[id]))
        selected = loop.run_until_complete(store.matching(whole, EvaluationContext(now, zone), list(persons)))
        expected = {user_id for user_id, person in persons.items() if qualifies(body, person, now, zone, segments)}
        assert selected == expected, (body, segments)
        among = AllOf((UserList(prefix), whole))
        estimate = loop.run_until_complete(store.estimate(among, EvaluationContext(now, zone)))
        assert estimate.qualified == len(expected), (body, segments)
    # An audience is compiled another way: as if under any name there might be a list.
    context = EvaluationContext(now, zone)
    snapshot = loop.run_until_complete(store.snapshot(f"{prefix}run", "cmp", "once", 1, among, context))
    assert snapshot.total == len(expected), (body, segments)


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(where=st.lists(filters(), max_size=3), properties=values, now=moments, zone=st.sampled_from(ZONES))
def test_oracle_agrees_with_live_matching(
    where: list[dict[str, Any]], properties: dict[str, Any], now: datetime, zone: str
) -> None:
    matches = compile_where(parse_where(where), zone, lambda: now)
    assert matches(properties) == where_holds(where, properties, now, zone)


@pytest.mark.parametrize(("name", "lists"), [("p", True), ("never a list", False)])
def test_oracle_agrees_on_every_operator_and_kind_of_value(
    store: ChdbStore, loop: asyncio.AbstractEventLoop, name: str, lists: bool
) -> None:
    now, zone = datetime(2026, 3, 29, 0, 45, tzinfo=UTC), "Europe/Paris"
    prefix = f"{next(_examples)}-"
    stored = [value for value in every_stored_value() if lists or not isinstance(value, list)]
    persons = {f"{prefix}{i}": Person({name: value}) for i, value in enumerate(stored)}
    persons[f"{prefix}without"] = Person({})
    loop.run_until_complete(_insert(store, persons))
    for test in every_filter("name", name):
        matches = compile_where(parse_where([{"property": name, **_without_name(test)}]), zone, lambda: now)
        selected = loop.run_until_complete(
            store.matching(parse_rule({"attribute": test}), EvaluationContext(now, zone), list(persons))
        )
        for user_id, person in persons.items():
            expected = qualifies({"attribute": test}, person, now, zone)
            assert (user_id in selected) == expected, (test, person.traits)
            assert matches(person.traits) == expected, (test, person.traits)


def _without_name(test: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in test.items() if key != "name"}
