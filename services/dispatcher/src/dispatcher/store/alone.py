"""Statements that are a transaction by themselves. Postgres commits each before it answers; saying BEGIN and COMMIT
around it would be two round trips more, and these are on the way of every text.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakKeyDictionary

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from postrider.postgres.database import Database

_engines: WeakKeyDictionary[Database, AsyncEngine] = WeakKeyDictionary()


@asynccontextmanager
async def alone(database: Database) -> AsyncIterator[AsyncConnection]:
    """A connection on which every statement is committed at its end. For one statement, or for reads."""
    engine = _engines.get(database)
    if engine is None:
        engine = _engines[database] = database.engine.execution_options(isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        yield connection
