"""Leases on what waits: claim, give back, and the list of queues that have anything waiting.

A claim only reserves; nothing goes out before `store/marks.py`. A lease that ran out makes the row claimable again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatcher.domain.message import Message
from dispatcher.store.rows import BY_ID, CLAIMABLE, CLOCK, COLUMNS, WIDTH, message_of

_CLAIM = text(f"""
WITH {CLOCK},
picked AS (
    SELECT c.message_id
    FROM unnest(CAST(:queues AS text[]), CAST(:limits AS int[])) AS w(queue, n)
    CROSS JOIN LATERAL (
        SELECT l.message_id FROM ledger l, clock
        WHERE l.lane = :lane AND l.queue = w.queue AND l.state IN {CLAIMABLE} AND l.next_at <= clock.now
          AND (l.owner IS NULL OR l.lease_until < clock.now)
        ORDER BY l.next_at LIMIT w.n FOR UPDATE OF l SKIP LOCKED
    ) c
)
UPDATE ledger l SET owner = :owner, lease_until = clock.now + make_interval(secs => :lease), state = 'QUEUED'
FROM picked, clock WHERE l.message_id = picked.message_id
RETURNING {COLUMNS}, clock.now
""")

_RELEASE = text(f"""
WITH {BY_ID}
UPDATE ledger l SET owner = NULL, lease_until = NULL
FROM clock, unnest(CAST(:ids AS uuid[])) AS v(id)
WHERE l.message_id = v.id AND l.owner = :owner AND l.state = clock.queued
""")

MOST_QUEUES = 5_000
FIRST: tuple[int, str] = (-1, "")

_QUEUES = text(f"""
WITH RECURSIVE q AS (
    (SELECT lane, queue FROM ledger WHERE state IN {CLAIMABLE} AND (lane, queue) > (CAST(:lane AS smallint), :queue)
     ORDER BY lane, queue LIMIT 1)
    UNION ALL
    SELECT n.lane, n.queue FROM q CROSS JOIN LATERAL (
        SELECT lane, queue FROM ledger WHERE state IN {CLAIMABLE} AND (lane, queue) > (q.lane, q.queue)
        ORDER BY lane, queue LIMIT 1
    ) n
)
SELECT lane, queue FROM q LIMIT :most
""")


@dataclass(frozen=True, slots=True)
class Claim:
    """`now`: the database's, as of the claim."""

    messages: list[Message]
    now: datetime | None


async def claim(tx: AsyncConnection, owner: str, lane: int, wants: Mapping[str, int], lease_seconds: float) -> Claim:
    """Leases up to so many due texts of each queue, oldest first. Texts that other workers hold are passed over."""
    result = await tx.execute(
        _CLAIM,
        {"owner": owner, "lane": lane, "queues": list(wants), "limits": list(wants.values()), "lease": lease_seconds},
    )
    rows = result.all()
    return Claim([message_of(row) for row in rows], rows[0][WIDTH] if rows else None)


async def release(tx: AsyncConnection, owner: str, message_ids: Sequence[str]) -> int:
    """Gives claimed texts back untouched."""
    result = await tx.execute(_RELEASE, {"owner": owner, "ids": list(message_ids)})
    return result.rowcount


async def queues(tx: AsyncConnection, after: tuple[int, str] = FIRST, most: int = MOST_QUEUES) -> list[tuple[int, str]]:
    """(lane, queue) of what waits and is not held, in order: one index probe per queue, however long they are."""
    lane, queue = after
    return [(row.lane, row.queue) for row in await tx.execute(_QUEUES, {"lane": lane, "queue": queue, "most": most})]
