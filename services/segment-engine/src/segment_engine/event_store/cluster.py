"""The tables of a cluster, made from those of a single server: sharded by user, replicated. Pure text.

What belongs to a person lies on the person's shard (`<table>_local`) and is asked through a Distributed table of the
usual name, so that a condition of a rule meets all a person did without leaving the shard. The few rows that belong to
nobody, or that every shard compares with, are on every node. Why: docs/decisions/clickhouse-cluster.md.
"""

from __future__ import annotations

import re
from typing import Final

from segment_engine.event_store.schema import MIGRATIONS, Migrations

SHARDED: Final = frozenset({"events", "profiles", "messages", "outcomes", "user_list_members"})
EVERYWHERE: Final = frozenset({
    "suppressions", "audiences", "snapshots", "schema_versions", "user_lists", "catalog", "refills",
})  # fmt: skip
"""An audience is all there or not at all: over several shards an insert could stop half-way."""

CLUSTER_SETTINGS: Final[dict[str, object]] = {
    # A subquery of a rule runs on the shard that asks it: all of a person's rows are there.
    "distributed_product_mode": "local",
    "distributed_foreground_insert": 1,
    "parallel_distributed_insert_select": 0,
    # Whoever evaluates after an insert that was acknowledged sees it, whichever replica is asked.
    "insert_quorum": "auto",
    "insert_quorum_parallel": 0,
    "select_sequential_consistency": 1,
    "alter_sync": 2,
    # Whoever waits for other nodes gives up before this side does (`max_execution_time` does not count there).
    "insert_quorum_timeout": 90_000,
    "distributed_ddl_task_timeout": 90,
}
_REMEMBERED = "replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 2592000"
_CREATE = re.compile(r"CREATE TABLE IF NOT EXISTS (\w+)(.*?)\bENGINE = (\w+)(?:\(([^)]*)\))?(.*)", re.DOTALL)
_CHANGE = re.compile(r"(ALTER TABLE|DELETE FROM|TRUNCATE TABLE) (\w+)(.*)", re.DOTALL)
_COLUMN = re.compile(r"ALTER TABLE (\w+)( (?:ADD|DROP|MODIFY|RENAME|COMMENT) COLUMN .*)", re.DOTALL)


def cluster_migrations(cluster: str, database: str) -> Migrations:
    """`schema.MIGRATIONS` under the same versions; a table that is sharded takes two statements."""
    return tuple(
        (version, made) for version, statement in MIGRATIONS for made in statements_of(statement, cluster, database)
    )


def statements_of(statement: str, cluster: str, database: str) -> list[str]:
    """What one statement of a single server's schema is on a cluster. Raises `ValueError` for a table nobody placed."""
    match = _CREATE.fullmatch(statement)
    if match is None:
        changed = _COLUMN.fullmatch(statement)
        if changed is not None and changed[1] in SHARDED:
            # A Distributed table has columns of its own.
            distributed = f"ALTER TABLE {changed[1]} ON CLUSTER '{cluster}'{changed[2]}"
            return [on_cluster(statement, cluster), distributed]
        return [on_cluster(statement, cluster)]
    name, columns, engine, arguments, rest = match.groups()
    where = f"ON CLUSTER '{cluster}'"
    rest = re.sub(r"non_replicated_deduplication_window = \d+", _REMEMBERED, rest)
    if name in EVERYWHERE:
        path = f"'/clickhouse/tables/{{database}}/{name}', '{{shard}}-{{replica}}'"
        return [_table(name, where, columns, _replicated(engine, path, arguments), rest)]
    if name not in SHARDED:
        raise ValueError(f"table {name} is neither sharded nor everywhere")
    path = f"'/clickhouse/tables/{{database}}/{{shard}}/{name}', '{{replica}}'"
    local = _table(f"{name}_local", where, columns, _replicated(engine, path, arguments), rest)
    distributed = (
        f"CREATE TABLE IF NOT EXISTS {name} {where} AS {name}_local "
        f"ENGINE = Distributed('{cluster}', '{database}', '{name}_local', sipHash64(user_id))"
    )
    return [local, distributed]


def as_on(statement: str, cluster: str, database: str) -> str:
    """A statement of the store as it is sent to a cluster; one that is made for it already stays."""
    created = _CREATE.fullmatch(statement)
    if created is not None and not created[2].startswith(" ON CLUSTER"):
        [made] = statements_of(statement, cluster, database)
        return made
    return on_cluster(statement, cluster)


def on_cluster(statement: str, cluster: str) -> str:
    """A statement that changes what is stored, as a cluster takes it; any other one, and what is made so, as it is.

    A Distributed table cannot be altered or deleted from: its shards can. A table that all nodes have is one: what is
    changed on one node changes on all, but for settings, which each keeps for itself.
    """
    match = _CHANGE.fullmatch(statement)
    if match is None or match[3].startswith(" ON CLUSTER"):
        return statement
    name = f"{match[2]}_local" if match[2] in SHARDED else match[2]
    if match[2] in SHARDED or match[3].startswith(" MODIFY SETTING"):
        return f"{match[1]} {name} ON CLUSTER '{cluster}'{match[3]}"
    return statement


def _replicated(engine: str, path: str, arguments: str | None) -> str:
    return f"Replicated{engine}({path}{', ' + arguments if arguments else ''})"


def _table(name: str, where: str, columns: str, engine: str, rest: str) -> str:
    return f"CREATE TABLE IF NOT EXISTS {name} {where}{columns}ENGINE = {engine}{rest}"
