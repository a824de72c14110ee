"""The catalogue in the event store: what was written is offered, repeats and floods stay bounded, erased values go."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from segment_engine.domain.columns import (
    EventRow,
    MessageRow,
    OutcomeRow,
    microseconds,
    profile_row,
    split,
)
from segment_engine.event_store.catalog import MAX_PROPERTIES
from segment_engine.event_store.chdb_store import ChdbStore
from segment_engine.event_store.port import CatalogPage, MessageFilter
from segment_engine.event_store.sql_store import SqlEventStore
from tests.support.event_stores import FAR_APART, opened

NOW = datetime(2026, 3, 5, 12, tzinfo=UTC)


@pytest_asyncio.fixture(params=FAR_APART)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqlEventStore]:
    async with opened(request.param, tmp_path) as store:
        yield store


def did(name: str, id: str, at: datetime = NOW, user_id: str = "u", **properties: Any) -> EventRow:
    return EventRow(user_id, name, microseconds(at), microseconds(at), id, *split(properties))


def shown(page: CatalogPage) -> dict[str, Any]:
    return {
        item.name: (item.n, {prop.name: (prop.types, prop.n, prop.examples) for prop in item.properties})
        for item in page.items
    }


async def test_events_come_with_properties_types_and_examples(store: SqlEventStore) -> None:
    rows = [
        did("Bought", "1", amount=59.9, color="red", when="2026-03-01", gift=True),
        did("Bought", "2", amount="59.9", color="blue", address={"city": "Pune"}, tags=["a", 1]),
        did("Bought", "3", color="red", nothing=None),
        did("Left", "4", NOW + timedelta(hours=1)),
    ]
    await store.insert_events(rows, "t")
    page = await store.catalog_events("", "", 10)
    assert shown(page) == {
        "Bought": (
            3,
            {
                "color": (("text",), 3, ("blue", "red")),
                "amount": (("number", "text"), 2, ("59.9", 59.9)),
                "address": (("object",), 1, ()),
                "gift": (("bool",), 1, (True,)),
                "tags": (("list",), 1, (["a", 1.0],)),
                "when": (("date",), 1, ("2026-03-01",)),
            },
        ),
        "Left": (1, {}),
    }
    assert [item.last_at for item in page.items] == [NOW, NOW + timedelta(hours=1)]
    assert not page.more
    assert page.left_out == 0


async def test_counts_add_up_over_batches_restarts_and_times(tmp_path: Path) -> None:
    for turn in range(3):
        store = ChdbStore(tmp_path)
        await store.open()
        late, early = NOW + timedelta(days=turn), NOW - timedelta(days=400)
        await store.insert_events(
            [did("Bought", f"{turn}", late, n=turn), did("Bought", f"{turn}-", early, old=True)], f"{turn}"
        )
        await store.close()
    store = ChdbStore(tmp_path)
    await store.open()
    (item,) = (await store.catalog_events("", "", 10)).items
    assert item.n == 6
    assert {prop.name: (prop.n, prop.last_at, prop.examples) for prop in item.properties} == {
        "n": (3, NOW + timedelta(days=2), (0.0, 1.0, 2.0)),
        "old": (3, NOW - timedelta(days=400), (True,)),
    }
    await store.close()


async def test_pages_follow_names_and_a_prefix_in_any_case(store: SqlEventStore) -> None:
    names = ["App Opened", "application", "Àpropos", "Bought", "b", "'; DROP", "%"]
    await store.insert_events([did(name, name) for name in names], "t")
    seen: list[str] = []
    after, more = "", True
    while more:
        page = await store.catalog_events("", after, 3)
        seen += [item.name for item in page.items]
        after, more = seen[-1], page.more
    assert seen == sorted(names)
    assert [item.name for item in (await store.catalog_events("aPP", "", 9)).items] == ["App Opened", "application"]
    assert [item.name for item in (await store.catalog_events("àP", "", 9)).items] == ["Àpropos"]
    assert [item.name for item in (await store.catalog_events("%", "", 9)).items] == ["%"]


async def test_attributes_are_those_of_profiles_and_phones_are_nobodys_example(store: SqlEventStore) -> None:
    traits = {"city": "Pune", "phone": "+12025550142", "contact": "ada@example.com", "mobile": "202-555-0143"}
    await store.upsert_profiles([profile_row("a", 1, traits), profile_row("b", 1, {"city": "Delhi", "age": 7})])
    await store.upsert_profiles([profile_row("c", 2, {}, deleted=True)])
    page = await store.catalog_attributes("", "", 10)
    assert [(item.name, item.types, item.n, item.examples) for item in page.items] == [
        ("age", ("number",), 1, (7.0,)),
        ("city", ("text",), 2, ("Delhi", "Pune")),
        ("contact", ("text",), 1, ()),
        ("mobile", ("text",), 1, ()),
        ("phone", ("text",), 1, ()),
    ]
    assert [item.name for item in (await store.catalog_attributes("c", "city", 10)).items] == ["contact"]


async def test_a_flood_of_names_leaves_out_those_used_least_and_counts_them(store: SqlEventStore) -> None:
    await store.insert_events([did("Bought", f"real-{n}", amount=n, color="red") for n in range(50)], "real")
    flood = 100_000
    for start in range(0, flood, 10_000):
        rows = [
            did("Bought", f"{start}-{row}", NOW, "u", **{f"x{start + row * 250 + n}": n for n in range(250)})
            for row in range(40)
        ]
        await store.insert_events(rows, f"flood-{start}")
        await store.flush_catalog()
    (item,) = (await store.catalog_events("", "", 10)).items
    assert len(item.properties) == MAX_PROPERTIES
    assert [(prop.name, prop.n) for prop in item.properties[:2]] == [("amount", 50), ("color", 50)]
    assert item.left_out + sum(prop.n for prop in item.properties) == flood + 100
    await store.insert_events([did("Bought", f"later-{n}", useful=n) for n in range(9)], "later")
    await store.flush_catalog()
    (item,) = (await store.catalog_events("", "", 10)).items
    assert [prop.name for prop in item.properties[:3]] == ["amount", "color", "useful"]
    kept = await store._runner.rows("SELECT uniqExact(kind, event, name) FROM catalog")
    assert kept[0][0] <= MAX_PROPERTIES + 2


async def test_a_flood_of_events_leaves_out_their_properties_too(store: SqlEventStore) -> None:
    await store.insert_events([did("Bought", f"{n}", amount=n) for n in range(5)], "real")
    await store.insert_events([did(f"e{n}", f"e{n}", p=1) for n in range(3_000)], "flood")
    await store.flush_catalog()
    page = await store.catalog_events("", "", 1_000)
    assert len(page.items) == 1_000
    assert page.items[0].name == "Bought"
    assert page.left_out == 2_001
    rows = await store._runner.rows("SELECT uniqExact(event) FROM catalog WHERE kind = 'property'")
    assert rows[0][0] == 1_000


async def test_a_history_that_is_written_anew_is_counted_anew(store: SqlEventStore) -> None:
    await store.upsert_profiles([profile_row("a", 1, {"city": "Pune"})])
    await store.insert_events([did("Bought", "1", color="red"), did("Left", "2")], "t")
    await store.clear_events()
    assert (await store.catalog_events("", "", 10)).items == []
    await store.insert_events([did("Bought", "1", color="red")], "t")
    assert shown(await store.catalog_events("", "", 10)) == {"Bought": (1, {"color": (("text",), 1, ("red",))})}
    assert [item.name for item in (await store.catalog_attributes("", "", 10)).items] == ["city"]


async def test_an_erased_person_leaves_events_phone_text_and_examples(store: SqlEventStore) -> None:
    before, after = NOW - timedelta(minutes=1), NOW + timedelta(minutes=1)
    await store.upsert_profiles([profile_row("a", 1, {"nick": "Ada L"}), profile_row("b", 1, {"nick": "Bob"})])
    await store.insert_events(
        [did("Said", "1", before, "a", words="my secret"), did("Said", "2", before, "b", words="hello")], "t"
    )
    await store.insert_events([did("Said", "3", after, "a", words="new life")], "u")
    rows = [
        MessageRow("c", id, "", "m", user, "+1", "sent", "", "Dear", 1, "p", "[]", "", 1, microseconds(at), 1)
        for id, user, at in (("1", "a", before), ("2", "b", before), ("3", "a", after))
    ]
    await store.insert_messages(rows)
    await store.insert_outcomes([OutcomeRow("c", "accepted", "a", "1", microseconds(before))])
    for _ in range(2):
        await store.erase("a", 2, until=NOW, texts=["Ada L"])
    assert await store.count_events("a") == 1
    assert await store.count_events("b") == 1
    log = (await store.messages(MessageFilter(), None, 10)).items
    assert [(row.phone, row.body, row.status) for row in log] == [
        ("", "", "sent"),
        ("+1", "Dear", "sent"),
        ("+1", "Dear", "sent"),
    ]
    assert (await store._runner.rows("SELECT count() FROM outcomes"))[0][0] == 0
    (said,) = (await store.catalog_events("", "", 10)).items
    assert (said.n, said.properties[0].examples) == (3, ("hello",))
    (nick,) = (await store.catalog_attributes("nick", "", 10)).items
    assert nick.examples == ("Bob",)
