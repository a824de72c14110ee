"""Connections and transactions. Hot paths use `sqlalchemy.text` with `unnest` batches; the ORM is not used.

One schema and one role per service: the role's URL is derived from the owner's unless it is given.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType

import asyncpg
from sqlalchemy import ExceptionContext, event, make_url
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

COMMAND_TIMEOUT_SECONDS = 30.0
CONNECT_TIMEOUT_SECONDS = 5.0
IDLE_SECONDS = 150
"""A transaction that nobody goes on with for so long is ended by Postgres: a machine that stands still, or is gone
without a word, must not hold its rows, and with them the partitions of its successor. Longer than a store may take to
answer."""


class Database:
    """A pool of connections whose search path is one schema."""

    def __init__(self, engine: AsyncEngine, schema: str) -> None:
        self.engine = engine
        self.schema = schema

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """One transaction: committed at the end of the block, rolled back by an exception."""
        async with self.engine.begin() as connection:
            yield connection

    async def close(self) -> None:
        await self.engine.dispose()


def schema_of(service: str) -> str:
    return service.replace("-", "_")


def role_of(service: str, database: str) -> str:
    """Roles belong to the whole cluster, so the database's name is part of the role's."""
    return f"{database}_{schema_of(service)}"[:63]


def role_password(owner_url: str, service: str) -> str:
    """Derived, so that nothing has to be stored: HMAC of the owner's password over the role's name."""
    url = make_url(owner_url)
    secret = (str(url.password) if url.password else "") + (url.database or "")
    return hmac.new(secret.encode(), schema_of(service).encode(), hashlib.sha256).hexdigest()


def service_url(owner_url: str, service: str) -> str:
    """The URL of the service's own role, derived from the owner's."""
    url = make_url(owner_url)
    own = url.set(username=role_of(service, url.database or "postgres"), password=role_password(owner_url, service))
    return own.render_as_string(hide_password=False)


def open_database(
    url: str,
    schema: str,
    pool_size: int = 10,
    command_timeout_seconds: float = COMMAND_TIMEOUT_SECONDS,
    server_settings: Mapping[str, str] = MappingProxyType({}),
) -> Database:
    """Opens no connection yet. `url` in postgresql:// form. `server_settings`: Postgres's own, for each session."""
    engine = create_async_engine(
        make_url(url).set(drivername="postgresql+asyncpg"),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=30,
        hide_parameters=True,
        connect_args={
            "timeout": CONNECT_TIMEOUT_SECONDS,
            "command_timeout": command_timeout_seconds,
            "server_settings": {
                "search_path": schema,
                "jit": "off",
                "application_name": f"postrider-{schema}",
                "idle_in_transaction_session_timeout": f"{IDLE_SECONDS}s",
                **server_settings,
            },
        },
    )
    event.listen(engine.sync_engine, "handle_error", _distrust_silence)
    return Database(engine, schema)


def _distrust_silence(context: ExceptionContext) -> None:
    """A statement without an answer means a dead connection: it is not used again, nor are those that wait in the pool.

    A wire that swallows everything tells nobody that a connection is gone: each of the pool would be found out by a
    time-out of its own, and its roll-back by another.
    """
    if isinstance(context.original_exception, TimeoutError):
        context.is_disconnect = context.invalidate_pool_on_disconnect = True


# asyncpg's word for a statement on a connection that the server is just closing ("cannot switch to state …").
_CUT_SHORT = (asyncpg.InternalClientError, AsyncAdapt_asyncpg_dbapi.InternalClientError)
# What the driver raises while SQLAlchemy makes a connection ready comes as it is, without SQLAlchemy's own type.
_DRIVER = (AsyncAdapt_asyncpg_dbapi.InterfaceError, AsyncAdapt_asyncpg_dbapi.OperationalError, asyncpg.InterfaceError)


def is_outage(error: BaseException) -> bool:
    """True when Postgres is away or the connection broke: wait and try again, nothing is wrong with the data.

    Serialisation failures and deadlocks count too: the same transaction will pass when repeated.
    """
    if isinstance(error, InterfaceError | OperationalError | PoolTimeout | OSError | TimeoutError):
        return True
    if isinstance(error, DBAPIError):
        if error.connection_invalidated or isinstance(error.orig, _CUT_SHORT):
            return True
        return _passes(error.orig)
    return isinstance(error, _CUT_SHORT + _DRIVER) or _passes(error)


def _passes(error: BaseException | None) -> bool:
    state = str(getattr(error, "sqlstate", None) or "")
    return state[:2] in ("08", "40", "53", "57", "58") or state == "55P03"
