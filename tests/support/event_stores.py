"""The ways to an event store that must keep the same promises: in the process, on a server, on a cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from segment_engine.event_store.chdb_store import ChdbStore
from segment_engine.event_store.clickhouse_http import ClickHouseStore, Server
from segment_engine.event_store.sql_store import SqlEventStore
from tests.standins.clickhouse import PASSWORD, USER, ClickHouse

Way: TypeAlias = Literal["embedded", "server", "cluster"]
WAYS: tuple[Way, ...] = get_args(Way)
FAR_APART: tuple[Way, ...] = ("embedded", "cluster")
"""For suites of many statements: a cluster is a server and more."""


@asynccontextmanager
async def opened(way: str, folder: Path) -> AsyncIterator[SqlEventStore]:
    """An open store that keeps its data in the folder. `way`: one of `WAYS`."""
    if way == "embedded":
        embedded = ChdbStore(folder)
        await embedded.open()
        try:
            yield embedded
        finally:
            await embedded.close()
        return
    async with ClickHouse(folder, is_cluster=way == "cluster").serving() as server:
        store = ClickHouseStore(Server(server.url, USER, PASSWORD, cluster="main" if server.is_cluster else None))
        await store.open()
        try:
            yield store
        finally:
            await store.close()
