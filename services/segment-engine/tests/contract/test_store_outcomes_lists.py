"""Outcomes of messages and user lists in the event store, the rules that ask them, and rules of hostile sizes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from postrider.contracts.definitions import AccountSettings, SegmentDefinition
from postrider.rules import RuleErrors, parse_rule
from postrider.rules.parse import MAX_CONDITIONS
from segment_engine.domain.columns import MessageRow, OutcomeRow, microseconds, profile_row
from segment_engine.domain.compile_rule import compile_rule
from segment_engine.event_store.chdb_store import ChdbRunner, ChdbStore
from segment_engine.event_store.port import EvaluationContext, MessageFilter
from segment_engine.event_store.schema import MIGRATIONS
from segment_engine.event_store.sql_store import SqlEventStore
from segment_engine.loops.evaluation import SegmentUnknown, rule_of
from tests.support.event_stores import FAR_APART, opened

NOW = datetime(2026, 3, 5, 12, tzinfo=UTC)
DAY = timedelta(days=1)
CONTEXT = EvaluationContext(NOW, "Europe/Paris")
PEOPLE = ["a", "b", "c"]


@pytest_asyncio.fixture(params=FAR_APART)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqlEventStore]:
    async with opened(request.param, tmp_path) as store:
        await store.upsert_profiles([profile_row(user_id, 1, {}) for user_id in PEOPLE])
        yield store


def came(user_id: str, at: datetime, what: str = "accepted", message_id: str = "m") -> OutcomeRow:
    return OutcomeRow("cmp_1", what, user_id, message_id, microseconds(at))


async def who(store: SqlEventStore, body: dict[str, Any]) -> set[str]:
    rule = parse_rule(body)
    selected = await store.matching(rule, CONTEXT, PEOPLE)
    assert (await store.estimate(rule, CONTEXT)).qualified == len(selected)
    return selected


def messaged(status: str = "accepted", **window: Any) -> dict[str, Any]:
    return {"messaged": {"campaign_id": "cmp_1", "status": status, **({"window": window} if window else {})}}


async def test_messaged_asks_what_the_text_reached_and_when_it_first_did(store: SqlEventStore) -> None:
    await store.insert_outcomes([came("a", NOW - 3 * DAY), came("b", NOW), came("b", NOW, "delivered")])
    assert await who(store, messaged()) == {"a", "b"}
    assert await who(store, messaged("delivered")) == {"b"}
    assert await who(store, {"not": messaged("delivered")}) == {"a", "c"}
    assert await who(store, messaged(last="P2D")) == {"b"}
    assert await who(store, messaged(before="2026-03-05")) == {"a"}
    assert await who(store, {"messaged": {"campaign_id": "cmp_2", "status": "accepted"}}) == set()
    for status in ("clicked", "converted"):
        assert await who(store, messaged(status)) == set()


async def test_later_news_of_the_same_text_does_not_move_the_moment(store: SqlEventStore) -> None:
    for at in (NOW, NOW - 3 * DAY, NOW - DAY):
        await store.insert_outcomes([came("a", at)])
    assert await who(store, messaged(last="P2D")) == set()
    assert await who(store, messaged(before="2026-03-03")) == {"a"}
    await store.insert_outcomes([came("a", NOW, message_id="another text")])
    assert await who(store, messaged(last="P2D")) == {"a"}


async def test_what_came_to_an_erased_person_is_forgotten(store: SqlEventStore) -> None:
    await store.insert_outcomes([came("a", NOW), came("b", NOW)])
    await store.erase("a", 2)
    await store.upsert_profiles([profile_row("a", 3, {})])
    assert await who(store, messaged()) == {"b"}


async def test_a_message_log_from_before_there_were_outcomes_fills_them(tmp_path: Path) -> None:
    runner = ChdbRunner(tmp_path)
    await runner.open()
    before = SqlEventStore(runner)
    await runner.execute("CREATE TABLE schema_versions (version UInt32) ENGINE = MergeTree ORDER BY version")
    for version, statement in MIGRATIONS:
        if version < 8:
            await runner.execute(statement)
            await runner.execute(f"INSERT INTO schema_versions VALUES ({version})")
    row = MessageRow("cmp_1", "m", "", "once", "a", "+1", "sent", "", "Hi", 1, "prv", "[]", "", 5, microseconds(NOW), 1)
    rows = [row, row._replace(message_id="n", user_id="b", status="delivered"),
            row._replace(message_id="o", user_id="c", status="rejected")]  # fmt: skip
    await before.insert_messages(rows)
    await before.upsert_profiles([profile_row(user_id, 1, {}) for user_id in PEOPLE])
    await runner.close()
    for _ in range(2):
        store = ChdbStore(tmp_path)
        await store.open()
        assert await who(store, messaged()) == {"a", "b"}
        assert await who(store, messaged("delivered", last="P1D")) == {"b"}
        assert len((await store.messages(MessageFilter(campaign_id="cmp_1"), None, 10)).items) == 3
        await store.close()


async def test_a_list_is_asked_only_when_it_is_complete(store: SqlEventStore) -> None:
    await store.add_to_list("lst_1", ["a", "b"])
    on, off = {"user_list": "lst_1"}, {"all": [{"not": {"user_list": "lst_1"}}]}
    for body, pointer in ((on, "/user_list"), (off, "/all/0/not/user_list")):
        rule = parse_rule(body)
        for ask in (
            store.matching(rule, CONTEXT, PEOPLE),
            store.estimate(rule, CONTEXT),
            store.snapshot("run", "cmp", "once", 1, rule, CONTEXT),
        ):
            with pytest.raises(RuleErrors) as errors:
                await ask
            assert [where for where, _ in errors.value.problems] == [pointer]
    await store.add_to_list("lst_1", ["b", "stranger"])
    assert await store.complete_list("lst_1") == 3
    assert await who(store, on) == {"a", "b"}
    assert await who(store, off) == {"c"}
    await store.drop_list("lst_1")
    with pytest.raises(RuleErrors):
        await who(store, off)
    await store.add_to_list("lst_1", ["c"])
    assert await store.complete_list("lst_1") == 1


async def test_a_snapshot_that_was_taken_is_answered_although_its_list_is_gone(store: SqlEventStore) -> None:
    await store.add_to_list("lst_1", ["a"])
    await store.complete_list("lst_1")
    rule = parse_rule({"user_list": "lst_1"})
    taken = await store.snapshot("run", "cmp", "once", 1, rule, CONTEXT)
    await store.drop_list("lst_1")
    assert await store.snapshot("run", "cmp", "once", 1, rule, CONTEXT) == taken


async def test_a_million_ids_are_a_list_like_any_other(store: SqlEventStore) -> None:
    for start in range(0, 1_000_000, 50_000):
        await store.add_to_list("lst_1", [f"u-{i}" for i in range(start, start + 50_000)])
    await store.add_to_list("lst_1", ["b"])
    assert await store.complete_list("lst_1") == 1_000_001
    assert await who(store, {"user_list": "lst_1"}) == {"b"}
    await store.drop_list("lst_1")


@pytest.mark.parametrize("id", ["'); DROP TABLE outcomes --", "{p0:String}", "\\", "é\n\t", "%"])
async def test_ids_are_only_ever_values(store: SqlEventStore, id: str) -> None:
    await store.insert_outcomes([OutcomeRow(id, "accepted", "a", id, microseconds(NOW))])
    await store.add_to_list(id, ["b", id])
    await store.complete_list(id)
    assert await who(store, {"messaged": {"campaign_id": id, "status": "accepted"}}) == {"a"}
    assert await who(store, {"user_list": id}) == {"b"}


class Definitions:
    settings = AccountSettings()

    def __init__(self, **rules: dict[str, Any]) -> None:
        self.segments = {id: SegmentDefinition(id, 1, id, rule) for id, rule in rules.items()}


def test_a_rule_is_evaluated_with_its_segments_as_they_are_now() -> None:
    definitions = Definitions(seg_1={"any": [{"in_segment": "seg_2"}]}, seg_2={"user_list": "lst_1"})
    body = {"not": {"in_segment": "seg_1"}}
    assert rule_of(definitions, body, None) == parse_rule({"not": {"any": [{"user_list": "lst_1"}]}})
    definitions.segments["seg_2"] = SegmentDefinition("seg_2", 2, "two", {"all": []})
    assert rule_of(definitions, None, "seg_1") == parse_rule({"any": [{"all": []}]})
    del definitions.segments["seg_2"]
    with pytest.raises(RuleErrors, match="no such segment"):
        rule_of(definitions, body, None)
    with pytest.raises(SegmentUnknown):
        rule_of(definitions, None, "seg_2")
    definitions.segments["seg_2"] = SegmentDefinition("seg_2", 3, "two", {"in_segment": "seg_1"})
    with pytest.raises(RuleErrors, match="leads back to itself"):
        rule_of(definitions, None, "seg_1")


def test_a_segment_that_was_not_put_in_is_a_defect_and_never_a_condition() -> None:
    with pytest.raises(ValueError, match="not resolved"):
        compile_rule(parse_rule({"in_segment": "seg_1"}), now=NOW, account_zone="UTC")


def _hostile() -> list[tuple[str, dict[str, Any]]]:
    segments, most = 20, range(MAX_CONDITIONS)
    text = "(a+)+$'\\%_*" * 40
    values = [f"{text}{i}"[-500:] for i in range(3_900)]
    deep: dict[str, Any] = {"did": {"event": "E", "count": {"op": "lt", "value": 3}}}
    for _ in range(48):
        deep = {"not": deep}
    return [
        ("values", {"any": [{"attribute": {"name": "n", "op": "in", "value": values}}]}),
        ("contains", {"not": {"any": [{"attribute": {"name": "n", "op": "contains", "value": text[:400]}}] * 299}}),
        ("all of a hundred", {"any": [{"attribute": {"name": "n", "op": "contains", "value": values[:100]}}] * 30}),
        ("dids", {"any": [{"did": {"event": f"E{i}", "count": {"op": "gte", "value": 2}}} for i in most]}),
        ("clocks", {"any": [{"did": {"event": f"E{i}", "time_of_day": ["09:00", "12:00"]}} for i in most[:100]]}),
        ("dates", {"any": [{"attribute": {"name": "d", "op": "before", "value": f"{1950 + i}-03-26"}} for i in most]}),
        ("messaged", {"any": [messaged("accepted", last=f"PT{i + 1}S") for i in most]}),
        ("lists", {"any": [{"user_list": f"lst_{i % segments}"} for i in most]}),
        ("deep", deep),
    ]


@pytest.mark.parametrize(("name", "body"), _hostile(), ids=[name for name, _ in _hostile()])
async def test_a_hostile_rule_within_the_limits_is_answered(
    store: SqlEventStore, name: str, body: dict[str, Any]
) -> None:
    for i in range(20):
        await store.complete_list(f"lst_{i}")
    await store.insert_outcomes([came("a", NOW)])
    estimate = await store.estimate(parse_rule(body), CONTEXT)
    assert estimate.qualified == {"contains": 3, "deep": 3, "messaged": 1}.get(name, 0)
