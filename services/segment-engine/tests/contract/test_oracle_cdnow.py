"""The CDNOW purchases: for each of a list of rules the event store selects whom the plain-Python oracle selects."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from demo.people import identify, purchases, user_id
from postrider.contracts.delivery_events import MessageChanged
from postrider.rules import parse_rule, resolve
from segment_engine.domain.columns import EventRow, OutcomeRow, microseconds, outcome_rows, profile_row, split
from segment_engine.event_store.chdb_store import ChdbStore
from segment_engine.event_store.port import EvaluationContext
from tests.support.rule_oracle import Happened, Person, Told, qualifies

NOW = datetime(1998, 7, 1, tzinfo=UTC)
ZONE = "America/Los_Angeles"
LIST = "lst_big_spenders"


def bought(**parts: Any) -> dict[str, Any]:
    return {"did": {"event": "Purchased", **parts}}


def spent(fn: str, op: str, value: Any, **parts: Any) -> dict[str, Any]:
    return bought(aggregate={"property": "price", "fn": fn, "op": op, "value": value}, **parts)


def messaged(status: str, **window: Any) -> dict[str, Any]:
    return {"messaged": {"campaign_id": "cmp_1", "status": status, **({"window": window} if window else {})}}


SEGMENTS = {
    "seg_regular": bought(count={"op": "gte", "value": 4}),
    "seg_lapsed": {"all": [{"in_segment": "seg_regular"}, {"not": bought(window={"last": "P180D"})}]},
}
RULES: list[dict[str, Any]] = [
    bought(count={"op": "between", "value": [2, 3]}, window={"between": ["1997-04-01", "1997-06-30"]}),
    bought(count={"op": "lt", "value": 2}, window={"after": "1997-03-31"}),
    {"all": [spent("sum", "gt", 100), {"not": bought(window={"last": "P365D"})}]},
    spent("avg", "lte", 14.37, count={"op": "gte", "value": 3}),
    spent("max", "gte", 200, where=[{"property": "quantity", "op": "gte", "value": 5}]),
    spent("min", "eq", 0),
    bought(first_time=True, window={"before": "1997-01-15"}),
    bought(last_time=True, window={"between": ["1998-06-01", "1998-06-30"]}),
    bought(days_of_week=["sat", "sun"], time_of_day=["03:00", "05:00"], count={"op": "gte", "value": 3}),
    {"any": [{"in_segment": "seg_lapsed"}, {"attribute": {"name": "first_name", "op": "in", "value": ["Béla", "b"]}}]},
    {"all": [{"not": {"in_segment": "seg_lapsed"}}, {"user_list": LIST}, {"not": messaged("accepted")}]},
    {"all": [{"user_list": LIST}, bought(first_time=True)]},
    {"any": [messaged("delivered"), messaged("accepted", last="P30D"), {"not": {"any": [{"user_list": LIST}]}}]},
]


@cache
def persons() -> dict[str, Person]:
    """Every seventh customer: texts and the list by rules of the number, as the rest of the demonstration's people."""
    history: dict[int, list[Happened]] = {}
    for row in purchases():
        if row.customer % 7 == 0:
            at = datetime.fromisoformat(row.day).replace(hour=12, tzinfo=UTC)
            values = {"price": row.price, "quantity": row.quantity}
            history.setdefault(row.customer, []).append(Happened("Purchased", at, str(row.row), values))
    found = {}
    for customer, events in history.items():
        told = [
            Told("cmp_1", "m", status, NOW - timedelta(days=customer % 60 + i))
            for i, status in enumerate(("delivered", "sent", "awaiting_receipt")[customer % 4 :])
        ]
        spender = sum(event.properties["price"] for event in events) > 150
        lists = frozenset({LIST} if spender else ())
        found[user_id(customer)] = Person(identify(customer)["traits"], events, told, lists)
    return found


@pytest_asyncio.fixture(scope="module")
async def store(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ChdbStore]:
    store = ChdbStore(Path(tmp_path_factory.mktemp("cdnow")))
    await store.open()
    await store.upsert_profiles([profile_row(id, 1, person.traits) for id, person in persons().items()])
    await store.insert_events(
        [
            EventRow(id, e.event, microseconds(e.at), microseconds(e.at), e.message_id, *split(e.properties))
            for id, person in persons().items()
            for e in person.history
        ],
        "cdnow",
    )
    outcomes: list[OutcomeRow] = []
    for id, person in persons().items():
        for t in person.texts:
            change = MessageChanged(f"{id}-m", t.campaign_id, "r", "once", id, t.status, 1, t.at, t.at)
            outcomes += outcome_rows(change)
    await store.insert_outcomes(outcomes)
    await store.add_to_list(LIST, [id for id, person in persons().items() if LIST in person.lists])
    await store.complete_list(LIST)
    yield store
    await store.close()


@pytest.mark.parametrize("body", RULES, ids=range(len(RULES)))
async def test_oracle_and_store_agree_on_real_purchases(store: ChdbStore, body: dict[str, Any]) -> None:
    rule = resolve(parse_rule(body), lambda id: parse_rule(SEGMENTS[id]))
    context = EvaluationContext(NOW, ZONE)
    expected = {id for id, person in persons().items() if qualifies(body, person, NOW, ZONE, SEGMENTS)}
    assert 0 < len(expected) < len(persons())
    assert await store.matching(rule, context, list(persons())) == expected
    assert (await store.estimate(rule, context)).qualified == len(expected)
