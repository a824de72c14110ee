"""What the HTTP adapter does when the server is away, busy or answers an error."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio
import trustme

from postrider.clock import SystemClock
from postrider.health import Check
from segment_engine.domain.columns import EventRow, profile_row, split
from segment_engine.event_store.clickhouse_http import ClickHouseStore, HttpRunner, Server, error_of
from segment_engine.event_store.port import StoreFailed, StoreUnavailable
from segment_engine.event_store.sql_store import SqlEventStore
from tests.standins.clickhouse import PASSWORD, USER, ClickHouse

NOW = datetime(2026, 3, 5, 12, tzinfo=UTC)
QUICK = (0.001, 0.001, 0.001)


def bought(user_id: str, message_id: str = "m") -> EventRow:
    return EventRow(user_id, "Bought", 1, 2, message_id, *split({"p": 1, "at": "2026-03-05", "l": ["x", 1, True]}))


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[ClickHouse]:
    async with ClickHouse(tmp_path).serving() as server:
        yield server


@pytest_asyncio.fixture
async def check() -> Check:
    return Check("event_store", SystemClock())


@pytest_asyncio.fixture
async def store(server: ClickHouse, check: Check) -> AsyncIterator[SqlEventStore]:
    runner = HttpRunner(Server(server.url, USER, PASSWORD), check, retry_seconds=QUICK)
    store = SqlEventStore(runner)
    await store.open()
    yield store
    await store.close()


async def test_an_insert_whose_answer_is_lost_is_sent_again_and_stored_once(
    store: SqlEventStore, server: ClickHouse, check: Check
) -> None:
    server.faults += [("INSERT INTO events", "cut after"), ("INSERT INTO events", "busy")]
    await store.insert_events([bought("a"), bought("b")], "t1")
    assert await store.count_events() == 2
    assert check.status == "up"
    assert server.faults == []


async def test_what_has_no_token_is_not_sent_again_here(store: SqlEventStore, server: ClickHouse, check: Check) -> None:
    server.faults.append(("INSERT INTO profiles", "cut before"))
    with pytest.raises(StoreUnavailable):
        await store.upsert_profiles([profile_row("a", 1, {})])
    assert check.status == "down"
    server.faults.append(("DELETE FROM events", "busy"))
    with pytest.raises(StoreUnavailable, match="503"):
        await store.erase("a", 2)
    await store.upsert_profiles([profile_row("a", 1, {})])  # whoever called repeats it
    assert check.status == "up"


async def test_a_server_that_stays_away_is_an_outage(store: SqlEventStore, server: ClickHouse, check: Check) -> None:
    server.faults += [("SELECT count()", "cut before")] * 10
    with pytest.raises(StoreUnavailable) as failed:
        await store.count_events()
    assert isinstance(failed.value, OSError)  # what every loop waits for
    assert len(server.faults) == 10 - 1 - len(QUICK)
    assert check.status == "down"


async def test_an_error_of_the_statement_is_none_and_quotes_nothing(store: SqlEventStore, check: Check) -> None:
    with pytest.raises(StoreFailed, match=r"CANNOT_PARSE_\w+ \(27\)") as failed:
        await store.insert_events([bought("a")._replace(at="secret")], "t")  # type: ignore[arg-type]
    assert not isinstance(failed.value, StoreUnavailable)
    assert "secret" not in str(failed.value)
    assert check.status != "down"


async def test_an_insert_that_meets_another_waits_a_moment_and_is_no_outage(
    store: SqlEventStore, server: ClickHouse, check: Check
) -> None:
    check.up()
    server.faults += [("INSERT INTO profiles", "collision")] * 20
    await store.upsert_profiles([profile_row("a", 1, {})])  # has no token, and was not begun
    assert server.faults == []
    assert check.status == "up"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Code: 27. DB::Exception: Not '(SECRET)' at (1). (CANNOT_PARSE_TEXT) (version 25.3.1.1 (official build))",
         "CANNOT_PARSE_TEXT (27)"),
        ("Code: 279. DB::NetException: All tries failed. Log: \n\nCode: 210. DB: refused. (NETWORK_ERROR)\n. "
         "(ALL_CONNECTION_TRIES_FAILED) (version 26.9.1.1)\n", "ALL_CONNECTION_TRIES_FAILED (279)"),
        ("Code: 60. DB::Exception: Table x does not exist. (UNKNOWN_TABLE)", "UNKNOWN_TABLE (60)"),
        ("<html>(NOT_CLICKHOUSE)</html>", None),
    ],
)  # fmt: skip
def test_an_error_is_told_by_its_name_which_comes_last(text: str, wanted: str | None) -> None:
    found = error_of(text)
    assert (None if found is None else f"{found[0]} ({found[1]})") == wanted


async def test_a_server_over_tls_is_trusted_by_its_authority_alone(tmp_path: Path) -> None:
    authority, server_side = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server_side)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    async with ClickHouse(tmp_path / "server", tls=server_side).serving() as server:
        with pytest.raises(StoreFailed, match="certificate is not trusted") as failed:
            await ClickHouseStore(Server(server.url, USER, PASSWORD)).open()
        assert not isinstance(failed.value, StoreUnavailable)
        store = ClickHouseStore(Server(server.url, USER, PASSWORD, ca_file=str(tmp_path / "ca.pem")))
        await store.open()
        assert await store.count_events() == 0
        await store.close()
    with pytest.raises(StoreFailed, match=r"missing\.pem: No such file"):
        await ClickHouseStore(Server(server.url, ca_file=str(tmp_path / "missing.pem"))).open()


async def test_a_password_may_have_any_letters(server: ClickHouse) -> None:
    with pytest.raises(StoreFailed, match="AUTHENTICATION_FAILED"):
        await ClickHouseStore(Server(server.url, USER, "grün–✓")).open()


async def test_a_wrong_password_is_told_and_never_shown(server: ClickHouse) -> None:
    wrong = Server(server.url, USER, "a-wrong-password")
    assert "a-wrong-password" not in repr(wrong)
    with pytest.raises(StoreFailed, match="AUTHENTICATION_FAILED") as failed:
        await ClickHouseStore(wrong).open()
    assert not isinstance(failed.value, StoreUnavailable)


async def test_a_second_engine_shares_the_store(store: SqlEventStore, server: ClickHouse) -> None:
    other = ClickHouseStore(Server(server.url, USER, PASSWORD))
    await other.open()
    await store.insert_events([bought("a")], "t")
    await other.insert_events([bought("a")], "t")  # a takeover replays the range
    assert await other.count_events() == await store.count_events() == 1
    await other.close()


async def test_the_settings_of_the_embedded_store_come_with_every_statement(
    store: SqlEventStore, server: ClickHouse
) -> None:
    await store.count_events()
    assert server.settings["insert_deduplicate"] == "1"
    assert server.settings["optimize_move_to_prewhere_if_final"] == "0"
    assert server.settings["max_execution_time"] == "100"


async def test_the_settings_of_a_cluster_exist_and_ask_for_sequential_consistency(server: ClickHouse) -> None:
    runner = HttpRunner(Server(server.url, USER, PASSWORD, cluster="main"))
    await runner.open()
    assert await runner.rows("SELECT 1") == [[1]]
    assert {name: server.settings[name] for name in ("insert_quorum", "select_sequential_consistency")} == {
        "insert_quorum": "auto", "select_sequential_consistency": "1"
    }  # fmt: skip
    await runner.close()


async def test_rows_are_read_as_they_were_inserted(store: SqlEventStore) -> None:
    rows = [bought(f"u{n:02}", f"m{n}") for n in range(25)]
    await store.insert_events(rows, "t")
    found: list[EventRow] = []
    while len(page := await store.events_after(found[-1] if found else None, 10)) == 10:
        found += page
    found += page
    assert [(row.user_id, row.message_id) for row in found] == [(row.user_id, row.message_id) for row in rows]
    await store.clear_events()
    assert await store.count_events() == 0
    await store.insert_events(found, "t")
    again = await store.events_after(None, 100)
    assert again == found
    assert again[0].lists == {"l": (["x"], [1.0], [True], [])}
