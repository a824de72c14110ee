"""Which errors mean that Postgres is away: to be waited for, and nobody's fault."""

from __future__ import annotations

import asyncpg
import pytest
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi as dbapi
from sqlalchemy.exc import DataError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from postrider.postgres.database import is_outage


@pytest.mark.parametrize(
    "error",
    [
        InternalError("SELECT 1", {}, dbapi.InternalClientError("cannot switch to state 11; another operation (2)")),  # type: ignore[no-untyped-call]
        InterfaceError("SELECT 1", {}, dbapi.InterfaceError("connection is closed")),  # type: ignore[no-untyped-call]
        OperationalError("SELECT 1", {}, dbapi.OperationalError("gone")),  # type: ignore[no-untyped-call]
        asyncpg.InternalClientError("cannot switch to state 11; another operation (2) is in progress"),
        dbapi.InternalClientError("cannot switch to state 11; another operation (2) is in progress"),  # type: ignore[no-untyped-call]
        dbapi.InterfaceError("connection is closed"),  # type: ignore[no-untyped-call]
        dbapi.OperationalError("gone"),  # type: ignore[no-untyped-call]
        asyncpg.CannotConnectNowError("the database system is starting up"),
        PoolTimeout(),
        ConnectionResetError(),
        TimeoutError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_outages(error: Exception) -> None:
    assert is_outage(error)


@pytest.mark.parametrize(
    "error",
    [
        DataError("SELECT 1", {}, dbapi.DataError("value out of range")),  # type: ignore[no-untyped-call]
        InternalError("SELECT 1", {}, dbapi.InternalServerError("cache lookup failed")),  # type: ignore[no-untyped-call]
        dbapi.DataError("value out of range"),  # type: ignore[no-untyped-call]
        ValueError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_no_waiting_mends(error: Exception) -> None:
    assert not is_outage(error)
