"""Which definitions are saved and not published yet. A row holds the id alone: whoever publishes reads what is current.

A row whose publishing ended in doubt gets `again_at`: the record may still reach the log, after a newer one, so the
current snapshot is published once more when no request of that time can be under way any longer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_PUBLISHER_LOCK = 7_711_860_102

_LOCK = text("SELECT pg_advisory_xact_lock(:key)")
_REQUEST = text("""
INSERT INTO definition_outbox (resource_id) SELECT unnest(CAST(:ids AS text[]))
ON CONFLICT (resource_id) DO UPDATE SET settled = false
""")
_DOUBT = text("""
INSERT INTO definition_outbox (resource_id, again_at)
SELECT unnest(CAST(:ids AS text[])), db_now() + make_interval(secs => :seconds)
ON CONFLICT (resource_id) DO UPDATE SET settled = false, again_at = excluded.again_at
""")
_DUE = text("""
SELECT o.resource_id FROM definition_outbox o
WHERE NOT o.settled OR o.again_at <= db_now()
ORDER BY o.resource_id LIMIT :limit
""")
_MARK = text("""
UPDATE resources r SET published_version = v.version
FROM unnest(CAST(:ids AS text[]), CAST(:versions AS bigint[])) AS v(id, version) WHERE r.id = v.id
""")
_SETTLE = text("""
UPDATE definition_outbox o SET settled = true
FROM unnest(CAST(:ids AS text[]), CAST(:versions AS bigint[])) AS v(id, version)
WHERE o.resource_id = v.id AND o.again_at > db_now()
  AND NOT EXISTS (SELECT 1 FROM resources r WHERE r.id = v.id AND r.version <> v.version)
""")
_DELETE = text("""
DELETE FROM definition_outbox o
USING unnest(CAST(:ids AS text[]), CAST(:versions AS bigint[])) AS v(id, version)
WHERE o.resource_id = v.id AND (o.again_at IS NULL OR o.again_at <= db_now())
  AND NOT EXISTS (SELECT 1 FROM resources r WHERE r.id = v.id AND r.version <> v.version)
""")
_WAITING = text("SELECT count(*) FROM definition_outbox WHERE NOT settled")
_IS_WAITING = text("SELECT 1 FROM definition_outbox WHERE resource_id = :id AND NOT settled")
_REQUEST_DIFFERING = text("""
INSERT INTO definition_outbox (resource_id)
SELECT id FROM resources
WHERE published_version IS DISTINCT FROM version AND kind <> 'user_list'
  AND (kind <> 'campaign' OR internal->>'scheduled_at' IS NOT NULL)
ON CONFLICT (resource_id) DO NOTHING RETURNING resource_id
""")

_OUTRUN = text("""
WITH moved AS (
    UPDATE resources r SET version = v.version + 1, updated_at = db_now()
    FROM unnest(CAST(:ids AS text[]), CAST(:versions AS bigint[])) AS v(id, version)
    WHERE r.id = v.id AND r.version < v.version RETURNING r.id
)
INSERT INTO definition_outbox (resource_id) SELECT id FROM moved
ON CONFLICT (resource_id) DO UPDATE SET settled = false RETURNING resource_id
""")
_REQUEST_KNOWN = text("""
INSERT INTO definition_outbox (resource_id)
SELECT id FROM resources WHERE id = ANY(CAST(:ids AS text[])) AND published_version IS NOT NULL
ON CONFLICT (resource_id) DO UPDATE SET settled = false RETURNING resource_id
""")


async def request(tx: AsyncConnection, ids: Sequence[str]) -> None:
    """In the transaction of the change."""
    await tx.execute(_REQUEST, {"ids": list(ids)})


async def request_differing(tx: AsyncConnection) -> int:
    """Asks for everything whose published version is not its version; returns how many were new."""
    return len((await tx.execute(_REQUEST_DIFFERING)).all())


async def request_known(tx: AsyncConnection, ids: Sequence[str]) -> int:
    """Asks for those that were published before; names that are nobody's change nothing. Returns how many."""
    return len((await tx.execute(_REQUEST_KNOWN, {"ids": list(ids)})).all())


async def outrun(tx: AsyncConnection, versions: Mapping[str, int]) -> int:
    """Raises those that are below the version named above it, and asks for them. Returns how many."""
    values = {"ids": list(versions), "versions": list(versions.values())}
    return len((await tx.execute(_OUTRUN, values)).all())


async def doubt(tx: AsyncConnection, ids: Sequence[str], seconds: float) -> None:
    await tx.execute(_DOUBT, {"ids": list(ids), "seconds": seconds})


async def lock_publisher(tx: AsyncConnection) -> None:
    """One publisher at a time, of all replicas, until the end of the transaction."""
    await tx.execute(_LOCK, {"key": _PUBLISHER_LOCK})


async def due(tx: AsyncConnection, limit: int) -> list[str]:
    return [row.resource_id for row in await tx.execute(_DUE, {"limit": limit})]


async def mark_published(tx: AsyncConnection, versions: dict[str, int]) -> None:
    """Rows changed meanwhile stay: their newer version is not in the log yet."""
    values = {"ids": list(versions), "versions": list(versions.values())}
    await tx.execute(_MARK, values)
    await tx.execute(_DELETE, values)
    await tx.execute(_SETTLE, values)


async def waiting(tx: AsyncConnection) -> int:
    return int((await tx.execute(_WAITING)).scalar_one())


async def is_waiting(tx: AsyncConnection, id: str) -> bool:
    """Whether the newest version of this one is saved but not acknowledged yet."""
    return (await tx.execute(_IS_WAITING, {"id": id})).first() is not None
