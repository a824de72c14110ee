"""Migrations: Alembic scripts that ship inside each service's package, run once under a lock.

The owner's URL migrates; the service's own role gets exactly its schema.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from postrider.postgres import outbox, progress
from postrider.postgres.database import CONNECT_TIMEOUT_SECONDS, role_of, role_password, schema_of

_LOCK = 7_711_860_001


def kernel_tables_sql() -> list[str]:
    """Statements for a service's first migration: the kernel's tables and the one clock."""
    return [
        progress.TABLE,
        outbox.TABLE,
        "CREATE OR REPLACE FUNCTION db_now() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT clock_timestamp()'",
    ]


async def migrate(owner_url: str, service: str, package: str) -> None:
    """Brings the service's schema to the newest revision. Safe to run by several replicas at once."""
    engine = create_async_engine(
        make_url(owner_url).set(drivername="postgresql+asyncpg"), connect_args={"timeout": CONNECT_TIMEOUT_SECONDS}
    )
    try:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            await connection.run_sync(_migrate, owner_url, service, package)
    finally:
        await engine.dispose()


def _migrate(connection: Connection, owner_url: str, service: str, package: str) -> None:
    schema = schema_of(service)
    role = role_of(service, make_url(owner_url).database or "postgres")
    quote = connection.dialect.identifier_preparer.quote
    connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {quote(schema)}"))
    connection.execute(text(f"SET LOCAL search_path = {quote(schema)}"))
    _run_scripts(connection, schema, package)
    password = role_password(owner_url, service)
    known = connection.execute(text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": role}).first()
    connection.execute(text(f"{'ALTER' if known else 'CREATE'} ROLE {quote(role)} LOGIN PASSWORD '{password}'"))
    for statement in (
        "GRANT USAGE, CREATE ON SCHEMA {s} TO {r}",
        "GRANT ALL ON ALL TABLES IN SCHEMA {s} TO {r}",
        "GRANT ALL ON ALL SEQUENCES IN SCHEMA {s} TO {r}",
        "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {s} TO {r}",
    ):
        connection.execute(text(statement.format(s=quote(schema), r=quote(role))))


def _run_scripts(connection: Connection, schema: str, package: str) -> None:
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise RuntimeError(f"package {package} is not installed")
    folder = Path(next(iter(found.submodule_search_locations))) / "migrations"
    scripts = ScriptDirectory(str(folder), version_locations=[str(folder)])

    def upgrade(revision: object, _: object) -> object:
        return scripts._upgrade_revs("head", revision)  # type: ignore[arg-type]

    context = MigrationContext.configure(
        connection, opts={"fn": upgrade, "version_table_schema": schema, "transactional_ddl": True}
    )
    with Operations.context(context):
        context.run_migrations()
