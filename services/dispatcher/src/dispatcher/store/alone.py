"""Statements that are a transaction by themselves. Postgres commits each before it answers; saying BEGIN and COMMIT
around it would be two round trips more, and these are on the way of every text.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncConnection

from postrider.postgres.database import Database


@asynccontextmanager
async def alone(database: Database) -> AsyncIterator[AsyncConnection]:
    """A connection on which every statement is committed at its end. For one statement, or for reads."""
    async with database.engine.connect() as connection:
        # Here, and not by an engine of its own: what fails while a connection is made ready leaves it with the pool.
        yield await connection.execution_options(isolation_level="AUTOCOMMIT")
