"""Table `forwards`: misplaced records on their way to their user's partition, from the commit that sends them on to the
commit that has read them there. Nothing may fire that such a record could still disarm.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_ADD = text("""
INSERT INTO forwards (origin) SELECT unnest(CAST(:origins AS text[])) ORDER BY 1 ON CONFLICT DO NOTHING
""")
_REMOVE = text("DELETE FROM forwards WHERE origin = ANY(CAST(:origins AS text[]))")
_UNDER_WAY = text("""
SELECT (SELECT max(number) FROM forwards) AS number, (SELECT max(id) FROM outbox) AS outbox_id
""")
_STILL = text("SELECT EXISTS (SELECT FROM forwards WHERE number <= :number)")
_FORGET = text("DELETE FROM forwards WHERE number <= :number")
_UNPUBLISHED = text("SELECT EXISTS (SELECT FROM outbox WHERE id <= :id)")


class UnderWay(NamedTuple):
    """Records up to `number` are on their way; those of them that are not published yet are in outbox rows up to
    `outbox_id`."""

    number: int
    outbox_id: int | None


async def add(tx: AsyncConnection, origins: Collection[str]) -> None:
    await tx.execute(_ADD, {"origins": sorted(origins)})


async def remove(tx: AsyncConnection, origins: Collection[str]) -> None:
    await tx.execute(_REMOVE, {"origins": sorted(origins)})


async def under_way(tx: AsyncConnection) -> UnderWay | None:
    """None: nothing is."""
    row = (await tx.execute(_UNDER_WAY)).one()
    return None if row.number is None else UnderWay(row.number, row.outbox_id)


async def any_left(tx: AsyncConnection, under_way: UnderWay) -> bool:
    return bool((await tx.execute(_STILL, {"number": under_way.number})).scalar_one())


async def forget(tx: AsyncConnection, under_way: UnderWay) -> None:
    """They never arrive."""
    await tx.execute(_FORGET, {"number": under_way.number})


async def is_published(tx: AsyncConnection, under_way: UnderWay) -> bool:
    """Whether all of them are in the log, read or not."""
    if under_way.outbox_id is None:
        return True
    return not (await tx.execute(_UNPUBLISHED, {"id": under_way.outbox_id})).scalar_one()
