"""The tables of a cluster: the same as a single server's, each in its place, and every change reaches them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from segment_engine.event_store.clickhouse_http import ClickHouseStore, HttpRunner, Server, migrations_of
from segment_engine.event_store.cluster import EVERYWHERE, SHARDED, as_on, on_cluster, statements_of
from segment_engine.event_store.schema import MIGRATIONS
from segment_engine.event_store.statements import CREATE_SCHEMA_VERSIONS
from tests.standins.clickhouse import PASSWORD, USER, ClickHouse

MAIN = Server("http://h", cluster="main", database="sms")
_TABLE = re.compile(r"CREATE TABLE IF NOT EXISTS (\w+)(?: ON CLUSTER 'main')?\s*\((.*)\)\s*ENGINE = (\w+)", re.DOTALL)


def tables_of(statements: Iterable[str]) -> dict[str, tuple[list[str], str]]:
    """Name → columns and engine."""
    found = (match for statement in statements if (match := _TABLE.match(statement)))
    return {match[1]: (match[2].split(), match[3]) for match in found}


def made_from(table: str) -> list[str]:
    [statement] = [text for _, text in MIGRATIONS if text.startswith(f"CREATE TABLE IF NOT EXISTS {table} (")]
    return statements_of(statement, "main", "sms")


def test_every_table_and_column_of_a_server_is_on_a_cluster() -> None:
    wanted = tables_of(statement for _, statement in MIGRATIONS)
    made = tables_of(statement for _, statement in migrations_of(MAIN))
    assert wanted.keys() | {"schema_versions"} == SHARDED | EVERYWHERE
    assert {name.removesuffix("_local") for name in made} == wanted.keys()
    for name, (columns, engine) in wanted.items():
        local = f"{name}_local" if name in SHARDED else name
        assert made[local] == (columns, f"Replicated{engine}")
    assert {version for version, _ in migrations_of(MAIN)} == {version for version, _ in MIGRATIONS}
    assert migrations_of(Server("http://h")) == MIGRATIONS


async def test_the_tables_that_are_made_have_the_columns_of_a_server(tmp_path: Path) -> None:
    found: list[list[list[str]]] = []
    columns = "SELECT table, name, type FROM system.columns WHERE database = currentDatabase() ORDER BY 1, 2"
    for cluster in (None, "main"):
        async with ClickHouse(tmp_path / str(cluster), is_cluster=cluster is not None).serving() as server:
            runner = HttpRunner(Server(server.url, USER, PASSWORD, cluster=cluster))
            store = ClickHouseStore(Server(server.url, USER, PASSWORD, cluster=cluster))
            await store.open()
            await runner.open()
            found.append(await runner.rows(columns))
            await runner.close()
            await store.close()
    single, cluster_tables = found
    assert [row for row in cluster_tables if not row[0].endswith("_local")] == single
    local = [[row[0].removesuffix("_local"), *row[1:]] for row in cluster_tables if row[0].endswith("_local")]
    assert local == [row for row in single if row[0] in SHARDED]


def test_what_is_made_for_a_cluster_is_sent_as_it_was_made() -> None:
    for _, statement in migrations_of(MAIN):
        assert as_on(statement, "main", "sms") == statement
    assert as_on(CREATE_SCHEMA_VERSIONS, "main", "sms") == (
        "CREATE TABLE IF NOT EXISTS schema_versions ON CLUSTER 'main' (version UInt32) ENGINE = ReplicatedMergeTree("
        "'/clickhouse/tables/{database}/schema_versions', '{shard}-{replica}') ORDER BY version"
    )


def test_a_sharded_table_is_a_replicated_one_and_a_distributed_one() -> None:
    local, distributed = made_from("events")
    assert local.startswith("CREATE TABLE IF NOT EXISTS events_local ON CLUSTER 'main' (\n  user_id String")
    assert (
        "ENGINE = ReplicatedMergeTree('/clickhouse/tables/{database}/{shard}/events', '{replica}')"
        " ORDER BY (event, user_id, at)" in local
    )
    assert "replicated_deduplication_window_seconds = 2592000" in local
    assert "non_replicated" not in local
    assert distributed.endswith("ENGINE = Distributed('main', 'sms', 'events_local', sipHash64(user_id))")
    assert "/profiles', '{replica}', version)" in made_from("profiles")[0]


def test_a_table_of_every_node_is_one_replicated_table() -> None:
    [made] = made_from("suppressions")
    assert (
        "ReplicatedReplacingMergeTree('/clickhouse/tables/{database}/suppressions', '{shard}-{replica}', version)"
        in made
    )


def test_an_audience_is_on_one_table_so_that_none_is_half_there() -> None:
    [made] = made_from("audiences")
    assert "'/clickhouse/tables/{database}/audiences', '{shard}-{replica}'" in made
    assert "replicated_deduplication_window = 10000" in made


def test_a_new_column_is_one_of_both_tables() -> None:
    assert statements_of("ALTER TABLE events ADD COLUMN IF NOT EXISTS x String", "main", "sms") == [
        "ALTER TABLE events_local ON CLUSTER 'main' ADD COLUMN IF NOT EXISTS x String",
        "ALTER TABLE events ON CLUSTER 'main' ADD COLUMN IF NOT EXISTS x String",
    ]
    assert statements_of("ALTER TABLE catalog ADD COLUMN IF NOT EXISTS x String", "main", "sms") == [
        "ALTER TABLE catalog ADD COLUMN IF NOT EXISTS x String"
    ]


@pytest.mark.parametrize(
    ("statement", "wanted"),
    [
        ("DELETE FROM events WHERE user_id = {user_id:String}",
         "DELETE FROM events_local ON CLUSTER 'main' WHERE user_id = {user_id:String}"),
        ("ALTER TABLE messages UPDATE phone = '' WHERE true",
         "ALTER TABLE messages_local ON CLUSTER 'main' UPDATE phone = '' WHERE true"),
        ("ALTER TABLE catalog MODIFY SETTING x = 1", "ALTER TABLE catalog ON CLUSTER 'main' MODIFY SETTING x = 1"),
        ("TRUNCATE TABLE events", "TRUNCATE TABLE events_local ON CLUSTER 'main'"),
        ("DELETE FROM user_lists WHERE true", "DELETE FROM user_lists WHERE true"),
        ("SELECT count() FROM events", "SELECT count() FROM events"),
        ("INSERT INTO audiences SELECT 1", "INSERT INTO audiences SELECT 1"),
    ],
)  # fmt: skip
def test_changes_reach_the_shards(statement: str, wanted: str) -> None:
    assert on_cluster(statement, "main") == wanted


def test_a_table_that_nobody_placed_is_no_table() -> None:
    with pytest.raises(ValueError, match="neither sharded nor everywhere"):
        statements_of("CREATE TABLE IF NOT EXISTS news (a String) ENGINE = MergeTree ORDER BY a", "main", "sms")
