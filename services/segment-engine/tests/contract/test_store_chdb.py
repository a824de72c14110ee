"""The promises of the event store's port, kept by chDB in the process and by a server that is asked over HTTP."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from postrider.contracts.ids import message_id
from postrider.rules import parse_rule
from postrider.rules.parse import MAX_CONDITIONS
from segment_engine.domain.columns import (
    EventRow,
    MessageRow,
    ProfileRow,
    SuppressionRow,
    microseconds,
    profile_row,
    split,
)
from segment_engine.event_store.chdb_store import ChdbStore
from segment_engine.event_store.port import (
    AudienceMember,
    Estimate,
    EvaluationContext,
    MessageFilter,
    Snapshot,
    StoreFailed,
    StoreInUse,
    UnexpandedOutcome,
)
from segment_engine.event_store.sql_store import SqlEventStore
from tests.support.event_stores import WAYS, opened

NOW = datetime(2026, 3, 5, 12, tzinfo=UTC)
EVERYBODY = parse_rule({"all": []})
BUYERS = parse_rule({"did": {"event": "Bought"}})
CONTEXT = EvaluationContext(NOW, "Europe/Paris", country_zones={"IN": "Asia/Kolkata"})
ZONE_RULE = parse_rule({"attribute": {"name": "group", "op": "eq", "value": "z"}})


@pytest_asyncio.fixture
async def embedded(tmp_path: Path) -> AsyncIterator[ChdbStore]:
    store = ChdbStore(tmp_path)
    await store.open()
    yield store
    await store.close()


@pytest_asyncio.fixture(params=WAYS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqlEventStore]:
    async with opened(request.param, tmp_path) as store:
        yield store


def bought(user_id: str, message_id: str = "m", at: datetime = NOW, **properties: Any) -> EventRow:
    return EventRow(user_id, "Bought", microseconds(at), microseconds(NOW), message_id, *split(properties))


def person(user_id: str, phone: str = "", **known: Any) -> ProfileRow:
    traits = known.pop("traits", {})
    version = known.pop("version", 1)
    return profile_row(user_id, version, traits, phone=phone, phone_hash=f"h{phone}" if phone else "", **known)


async def test_a_token_used_before_drops_the_rows_whatever_they_are(store: SqlEventStore) -> None:
    await store.insert_events([bought("a", "1"), bought("b", "2")], "events-0-0-2")
    await store.insert_events([bought("a", "1"), bought("b", "2")], "events-0-0-2")
    await store.insert_events([bought("c", "3")], "events-0-0-2")
    await store.insert_events([bought("a", "1")], "events-0-2-3")
    assert await store.count_events() == 3
    assert await store.count_events(user_id="c") == 0


async def test_a_token_holds_for_a_process_that_starts_later(tmp_path: Path) -> None:
    for _ in range(2):
        store = ChdbStore(tmp_path)
        await store.open()
        await store.insert_events([bought("a")], "events-0-0-1")
        assert await store.count_events() == 1
        await store.close()


async def test_same_rows_under_another_token_are_other_events(store: SqlEventStore) -> None:
    await store.insert_events([bought("a")], "t1")
    await store.insert_events([bought("a")], "t2")
    assert await store.count_events(user_id="a", event="Bought") == 2


async def test_a_second_process_is_told_who_owns_the_store(embedded: ChdbStore, tmp_path: Path) -> None:
    program = """
import asyncio, sys
from pathlib import Path
from segment_engine.event_store.chdb_store import ChdbStore
from segment_engine.event_store.port import StoreInUse
try:
    asyncio.run(ChdbStore(Path(sys.argv[1])).open())
except StoreInUse as error:
    print(error)
"""
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert f"belongs to process {os.getpid()}" in done.stdout
    assert "POSTRIDER_CLICKHOUSE_URL" in done.stdout


async def test_the_same_process_cannot_open_it_twice_but_can_after_closing(embedded: ChdbStore, tmp_path: Path) -> None:
    with pytest.raises(StoreInUse):
        await ChdbStore(tmp_path).open()
    await embedded.close()
    await embedded.close()
    again = ChdbStore(tmp_path)
    await again.open()
    assert await again.count_events() == 0
    await again.close()


async def test_a_closed_store_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreFailed, match="not open"):
        await ChdbStore(tmp_path).count_events()


async def test_a_failure_does_not_repeat_what_was_stored(store: SqlEventStore) -> None:
    broken = bought("a")._replace(at="secret")  # type: ignore[arg-type]
    with pytest.raises(StoreFailed) as failure:
        await store.insert_events([broken], "t")
    assert "secret" not in str(failure.value)
    assert "(27)" in str(failure.value)


@pytest.mark.parametrize(
    "text", ["; DROP TABLE events", "{p0:String}", "\\N", "a\tb\nc\rd\\", "'", '"]\n["', "é🙂\u2028"]
)
async def test_any_text_is_kept_and_found_as_it_is(store: SqlEventStore, text: str) -> None:
    row = EventRow(text, text, microseconds(NOW), microseconds(NOW), text, *split({text: text, "l": [text]}))
    await store.insert_events([row], text)
    await store.upsert_profiles([profile_row(text, 1, {text: text})])
    where = [{"property": text, "op": "eq", "value": text}, {"property": "l", "op": "in", "value": [text, "x"]}]
    rule = parse_rule(
        {"all": [{"did": {"event": text, "where": where}}, {"attribute": {"name": text, "op": "eq", "value": text}}]}
    )
    assert await store.matching(rule, CONTEXT, [text, "other"]) == {text}
    assert await store.count_events(text, text) == 1


async def test_the_newest_version_of_a_profile_wins_in_any_order(store: SqlEventStore) -> None:
    rule = parse_rule({"attribute": {"name": "city", "op": "eq", "value": "Pune"}})
    await store.upsert_profiles([person("a", version=2, traits={"city": "Pune"})])
    await store.upsert_profiles([person("a", version=1, traits={"city": "Paris"})])
    assert await store.matching(rule, CONTEXT, ["a"]) == {"a"}
    await store.upsert_profiles([person("a", version=3, traits={"city": "Paris"})])
    assert await store.matching(rule, CONTEXT, ["a"]) == set()


async def test_erased_people_qualify_for_nothing(store: SqlEventStore) -> None:
    await store.upsert_profiles([person("a"), person("b")])
    await store.insert_events([bought("a"), bought("b")], "t")
    await store.erase("a", 2)
    assert await store.count_events("a") == 0
    assert (await store.estimate(EVERYBODY, CONTEXT)).qualified == 1
    await store.upsert_profiles([person("a", version=3)])
    assert await store.matching(BUYERS, CONTEXT, ["a", "b"]) == {"b"}


async def test_verdicts_apply_in_order_and_add_up(store: SqlEventStore) -> None:
    await store.upsert_profiles(
        [
            person("no-phone"),
            person("refused", "+1", consent=False),
            person("fine", "+1"),
            person("same-phone", "+1"),
            person("zz-same-phone", "+1"),
            person("suppressed", "+2"),
            person("suppressed-and-refused", "+2", consent=False),
            person("back-again", "+3", consent=True),
        ]
    )
    await store.upsert_suppressions([SuppressionRow("h+2", True, 1), SuppressionRow("h+3", True, 1)])
    await store.upsert_suppressions([SuppressionRow("h+3", False, 2)])
    estimate = await store.estimate(EVERYBODY, CONTEXT)
    assert estimate == Estimate(
        qualified=8, reachable=2, unreachable=3, suppressed=1, duplicate_phone=2, zones={"Europe/Paris": 8}
    )
    strict = EvaluationContext(NOW, "Europe/Paris", require_consent=True)
    assert (await store.estimate(EVERYBODY, strict)).reachable == 1


async def test_the_first_by_user_id_among_those_who_qualify_gets_the_phone(store: SqlEventStore) -> None:
    await store.upsert_profiles([person("a", "+1"), person("b", "+1"), person("c", "+1", consent=False)])
    await store.insert_events([bought("b"), bought("c")], "t")
    await store.snapshot("run", "cmp", "once", 1, BUYERS, CONTEXT)
    page = await store.page("run", "Europe/Paris", -1, 10)
    assert [(member.user_id, member.verdict) for member in page] == [("b", ""), ("c", "unreachable")]


async def test_the_zone_is_the_profiles_then_the_phone_countrys_then_the_accounts(store: SqlEventStore) -> None:
    await store.upsert_profiles(
        [
            person("own", "+1", time_zone="Asia/Tokyo", phone_country="IN"),
            person("country", "+2", phone_country="IN"),
            person("account", "+3", phone_country="US"),
            person("nothing"),
        ]
    )
    snapshot = await store.snapshot("run", "cmp", "once", 1, EVERYBODY, CONTEXT)
    assert snapshot == Snapshot(4, 3, {"Asia/Tokyo": 1, "Asia/Kolkata": 1, "Europe/Paris": 2})


async def test_a_snapshot_is_taken_once_even_if_the_answer_was_lost(store: SqlEventStore) -> None:
    await store.upsert_profiles([person("a", "+1"), person("b", "+2")])
    first = await store.snapshot("run", "cmp", "once", 1, EVERYBODY, CONTEXT)
    before = await store.page("run", "Europe/Paris", -1, 10)
    await store.upsert_profiles([person("c", "+3")])
    # As after a crash between storing the audience and remembering its counts.
    await store._runner.execute("TRUNCATE TABLE snapshots")
    assert await store.stored_snapshot("run") is None
    assert (
        await store.snapshot("run", "cmp", "once", 2, EVERYBODY, CONTEXT)
        == first
        == Snapshot(2, 2, {"Europe/Paris": 2})
    )
    assert await store.stored_snapshot("run") == first
    assert await store.page("run", "Europe/Paris", -1, 10) == before


async def test_an_audience_written_twice_at_once_is_stored_once(store: SqlEventStore) -> None:
    await store.upsert_profiles([person(f"u{i}", f"+{i}") for i in range(50)])
    taken = await asyncio.gather(*(store.snapshot("run", "cmp", "once", seed, EVERYBODY, CONTEXT) for seed in range(5)))
    assert {snapshot.total for snapshot in taken} == {50}
    assert len(await store.page("run", "Europe/Paris", -1, 1000)) == 50


async def test_an_empty_audience_stays_empty(store: SqlEventStore) -> None:
    assert await store.snapshot("run", "cmp", "once", 1, EVERYBODY, CONTEXT) == Snapshot(0, 0, {})
    await store.upsert_profiles([person("a", "+1")])
    assert await store.snapshot("run", "cmp", "once", 1, EVERYBODY, CONTEXT) == Snapshot(0, 0, {})


async def test_ranks_are_those_of_the_seed_the_reachable_first_and_pages_follow_them(store: SqlEventStore) -> None:
    await store.upsert_profiles([person(f"u{i}", f"+{i}" if i % 3 else "") for i in range(30)])
    await store.snapshot("run", "cmp", "once", 42, EVERYBODY, CONTEXT)
    order = sorted(range(30), key=lambda i: (i % 3 == 0, hashlib.sha256(f"42\nu{i}".encode()).digest()))
    members: list[AudienceMember] = []
    while page := await store.page("run", "Europe/Paris", members[-1].rank if members else -1, 7):
        members += page
    assert [member.user_id for member in members] == [f"u{i}" for i in order]
    assert [member.rank for member in members] == list(range(30))


async def test_unexpanded_people_enter_the_log_under_their_send_key(store: SqlEventStore) -> None:
    await store.upsert_profiles(
        [person(f"u{i}", f"+{i}", time_zone="Asia/Tokyo" if i % 2 else "Asia/Seoul") for i in range(10)]
    )
    await store.snapshot("run", "cmp", "once", 1, EVERYBODY, CONTEXT)
    tokyo = await store.page("run", "Asia/Tokyo", -1, 10)
    late = NOW + timedelta(hours=1)
    sent = message("cmp", message_id("cmp", "once", tokyo[-1].user_id), status="delivered", seq=3)
    await store.insert_messages([sent])
    for _ in range(2):
        await store.unexpanded_to_messages(UnexpandedOutcome("run", {"Asia/Tokyo": 2}, "cancelled", "stopped", late))
    log = (await store.messages(MessageFilter(run_id="run", status="cancelled"), None, 100)).items
    expected = {m.user_id: message_id("cmp", "once", m.user_id) for m in tokyo[2:-1]}
    assert {row.user_id: row.message_id for row in log} == expected
    assert {(row.phone, row.reason, row.updated_at) for row in log} == {
        (f"+{user_id[1:]}", "stopped", microseconds(late)) for user_id in expected
    }
    assert (await store.messages(MessageFilter(status="delivered"), None, 100)).items == [sent]


def message(campaign_id: str, name: str, **changed: Any) -> MessageRow:
    row = MessageRow(
        campaign_id, name, "run", "once", "u", "+1", "pending", "", "Hi 🙂\n'", 1, "prv", '[{"attempt":1}]', "", 5, 6, 1
    )
    return row._replace(**changed)


async def test_the_log_keeps_the_last_state_of_a_message_whatever_the_order(store: SqlEventStore) -> None:
    await store.insert_messages([message("c", "m", status="delivered", seq=3)])
    await store.insert_messages([message("c", "m", status="sent", seq=2), message("c", "n")])
    log = await store.messages(MessageFilter(campaign_id="c"), None, 10)
    assert [(row.message_id, row.status) for row in log.items] == [("m", "delivered"), ("n", "pending")]
    assert (await store.messages(MessageFilter(status="sent"), None, 10)).items == []
    assert log.items[0].body == "Hi 🙂\n'"


async def test_the_log_has_test_sends_alone_or_leaves_them_out(store: SqlEventStore) -> None:
    await store.insert_messages([message("c", "m"), message("c", "t", run_id="test"), message("", "p", run_id="test")])
    for test, ids in ((True, ["p", "t"]), (False, ["m"]), (None, ["p", "m", "t"])):
        log = await store.messages(MessageFilter(test=test), None, 10)
        assert [row.message_id for row in log.items] == ids


async def test_the_log_is_paged_without_gaps_or_repeats(store: SqlEventStore) -> None:
    rows = [message(f"c{i % 2}", f"m{i:02}", user_id=f"u{i % 3}") for i in range(20)]
    await store.insert_messages(rows)
    seen: list[MessageRow] = []
    cursor = None
    while True:
        page = await store.messages(MessageFilter(user_id="u1"), cursor, 3)
        seen += page.items
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == sorted(row for row in rows if row.user_id == "u1")
    with pytest.raises(ValueError, match="cursor"):
        await store.messages(MessageFilter(), "bm90IG9uZQ==", 3)


async def test_numbers_come_back_as_the_doubles_they_are(store: SqlEventStore) -> None:
    numbers = [0.1 + 0.2, 1e22, 5e-324, 1.7976931348623157e308, 123456789.123456789, 2**53 + 1, -0.0]
    await store.upsert_profiles([person(f"u{i}", traits={"n": n}) for i, n in enumerate(numbers)])
    for i, n in enumerate(numbers):
        for op, value in (("eq", n), ("in", [n, 7.5])):
            rule = parse_rule({"attribute": {"name": "n", "op": op, "value": value}})
            assert await store.matching(rule, CONTEXT, [f"u{j}" for j in range(len(numbers))]) == {f"u{i}"}


async def test_a_rule_of_every_allowed_size_is_answered(store: SqlEventStore) -> None:
    await store.upsert_profiles([person("a", traits={"n": 9_999})])
    wide = {"any": [{"attribute": {"name": f"n{i}", "op": "eq", "value": i}} for i in range(MAX_CONDITIONS - 1)]}
    wide["any"].append({"attribute": {"name": "n", "op": "in", "value": list(range(10_000))}})
    deep: dict[str, Any] = {"all": []}
    for _ in range(48):
        deep = {"not": deep}
    for body in (wide, {"all": [deep]}):
        assert (await store.estimate(parse_rule(body), CONTEXT)).qualified == 1


async def test_what_was_inserted_survives_the_sudden_death_of_its_process(tmp_path: Path) -> None:
    program = """
import asyncio, os, signal, sys
from pathlib import Path
from segment_engine.domain.columns import EventRow, split
from segment_engine.event_store.chdb_store import ChdbStore
async def main():
    store = ChdbStore(Path(sys.argv[1]))
    await store.open()
    for i in range(5):
        rows = [EventRow(f"u{n}", "Bought", n, n, f"m{i}-{n}", *split({"p": n})) for n in range(100)]
        await store.insert_events(rows, f"t{i}")
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    done = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", program, str(tmp_path)], check=False)
    assert done.returncode == -9
    store = ChdbStore(tmp_path)
    await store.open()
    assert await store.count_events() == 500
    await store.insert_events([bought("again")], "t4")
    assert await store.count_events() == 500
    await store.close()


async def test_statements_side_by_side_keep_their_own_parameters(store: SqlEventStore) -> None:
    await store.insert_events([bought(f"u{n}", str(n)) for n in range(50)], "t")

    async def count(n: int) -> int:
        return await store.count_events(user_id=f"u{n}")

    counts = await asyncio.gather(*(count(n) for n in range(100) for _ in range(5)))
    assert counts == [1] * 250 + [0] * 250
