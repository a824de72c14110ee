"""Replies to creations, by the caller's key and `Idempotency-Key`, kept for two days.

Written in the creation's own transaction, under the configuration lock: a repeat either sees the whole reply or
nothing at all. Refusals are not kept, because a refusal changes nothing and may be right the next time.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

RETENTION_SECONDS = 2 * 86_400

_FIND = text("""
SELECT fingerprint, resource_id, status, reply, etag FROM idempotency WHERE key_id = :key_id AND key = :key
""")
_SAVE = text("""
INSERT INTO idempotency (key_id, key, fingerprint, resource_id, status, reply, etag)
VALUES (:key_id, :key, :fingerprint, :resource_id, :status, :reply, :etag)
""")
_FORGET = text("DELETE FROM idempotency WHERE key_id = :key_id AND key = :key")
_FORGET_OLD = text("""
DELETE FROM idempotency WHERE ctid IN (
    SELECT ctid FROM idempotency WHERE created_at < db_now() - make_interval(secs => :seconds) LIMIT 5000)
""")


@dataclass(frozen=True, slots=True)
class Reply:
    """`reply` is the body as it was answered. `fingerprint` covers path and body of the request."""

    fingerprint: bytes
    resource_id: str
    status: int
    reply: str
    etag: str | None


async def find(tx: AsyncConnection, key_id: str, key: str) -> Reply | None:
    row = (await tx.execute(_FIND, {"key_id": key_id, "key": key})).one_or_none()
    return None if row is None else Reply(bytes(row.fingerprint), row.resource_id, row.status, row.reply, row.etag)


async def save(tx: AsyncConnection, key_id: str, key: str, reply: Reply) -> None:
    await tx.execute(
        _SAVE,
        {
            "key_id": key_id,
            "key": key,
            "fingerprint": reply.fingerprint,
            "resource_id": reply.resource_id,
            "status": reply.status,
            "reply": reply.reply,
            "etag": reply.etag,
        },
    )


async def forget(tx: AsyncConnection, key_id: str, key: str) -> None:
    """What it was kept for was refused after all."""
    await tx.execute(_FORGET, {"key_id": key_id, "key": key})


async def forget_old(tx: AsyncConnection) -> int:
    return int((await tx.execute(_FORGET_OLD, {"seconds": RETENTION_SECONDS})).rowcount)
