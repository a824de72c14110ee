"""API keys: ids, scopes and hashes; never a secret."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.domain.keys import StoredKey

_SHOWN = "id, name, scopes, expires_at, version, created_at, updated_at"
_FIND = text("SELECT id, secret_hash, scopes, expires_at FROM api_keys WHERE id = :id")
_INSERT = text(f"""
INSERT INTO api_keys (id, name, scopes, secret_hash, expires_at)
VALUES (:id, :name, CAST(:scopes AS text[]), :secret_hash, :expires_at) RETURNING {_SHOWN}
""")
_DELETE = text("DELETE FROM api_keys WHERE id = :id")
_GET = text(f"SELECT {_SHOWN} FROM api_keys WHERE id = :id")
_PAGE = text(f"""
SELECT {_SHOWN} FROM api_keys WHERE CAST(:before AS text) IS NULL OR id < :before ORDER BY id DESC LIMIT :limit
""")


@dataclass(frozen=True, slots=True)
class ShownKey:
    id: str
    name: str
    scopes: list[str]
    expires_at: datetime | None
    version: int
    created_at: datetime
    updated_at: datetime


async def find(tx: AsyncConnection, id: str) -> StoredKey | None:
    row = (await tx.execute(_FIND, {"id": id})).one_or_none()
    return None if row is None else StoredKey(row.id, bytes(row.secret_hash), tuple(row.scopes), row.expires_at)


async def insert(
    tx: AsyncConnection, id: str, name: str, scopes: list[str], secret_hash: bytes, expires_at: datetime | None
) -> ShownKey:
    values = {"id": id, "name": name, "scopes": scopes, "secret_hash": secret_hash, "expires_at": expires_at}
    return _shown((await tx.execute(_INSERT, values)).one())


async def get(tx: AsyncConnection, id: str) -> ShownKey | None:
    row = (await tx.execute(_GET, {"id": id})).one_or_none()
    return None if row is None else _shown(row)


async def delete(tx: AsyncConnection, id: str) -> bool:
    return bool((await tx.execute(_DELETE, {"id": id})).rowcount)


async def page(tx: AsyncConnection, limit: int, before: str | None) -> list[ShownKey]:
    return [_shown(row) for row in await tx.execute(_PAGE, {"limit": limit, "before": before})]


def _shown(row: Row[Any]) -> ShownKey:
    return ShownKey(row.id, row.name, list(row.scopes), row.expires_at, row.version, row.created_at, row.updated_at)
