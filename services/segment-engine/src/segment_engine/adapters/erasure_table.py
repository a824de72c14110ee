"""Table `erasures`, and `profiles.erased_at`: who was erased, and what of it is still to be done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

# The key of `waits` begins with the campaign: one step in its index for each that has any.
_FORGET_WAITS = text("""
WITH RECURSIVE c (id) AS (
    (SELECT campaign_id FROM waits ORDER BY campaign_id LIMIT 1)
    UNION ALL
    SELECT (SELECT campaign_id FROM waits WHERE campaign_id > c.id ORDER BY campaign_id LIMIT 1) FROM c
    WHERE c.id IS NOT NULL
)
DELETE FROM waits WHERE ctid = ANY (ARRAY(
    SELECT w.ctid FROM c CROSS JOIN unnest(CAST(:users AS text[])) AS u (id) CROSS JOIN LATERAL (
        SELECT ctid FROM waits WHERE campaign_id = c.id AND user_id = u.id ORDER BY key FOR UPDATE
    ) w
))
""")

_ERASE = text("""
WITH known AS (SELECT user_id, traits FROM profiles WHERE user_id = :user_id AND NOT deleted FOR UPDATE)
UPDATE profiles p
SET version = p.version + 1, deleted = true, traits = '{}', phone = NULL, phone_country = NULL, country = NULL,
    time_zone = NULL, consent = NULL, updated_at = db_now(), erased_at = db_now()
FROM known WHERE p.user_id = known.user_id
RETURNING p.version, p.erased_at, known.traits::text AS traits
""")

_BEGIN = text("""
INSERT INTO erasures AS e (user_id, version, erased_at, texts)
VALUES (:user_id, :version, :erased_at, CAST(:texts AS json))
ON CONFLICT (user_id) DO UPDATE
SET version = EXCLUDED.version, erased_at = EXCLUDED.erased_at,
    texts = to_json(ARRAY(SELECT json_array_elements_text(e.texts)
                          UNION SELECT json_array_elements_text(EXCLUDED.texts)))
""")

_OPEN = text("SELECT user_id, version, erased_at, texts::text AS texts FROM erasures ORDER BY erased_at LIMIT :limit")
_IS_OPEN = text("SELECT 1 FROM erasures WHERE user_id = :user_id")
_DONE = text("DELETE FROM erasures WHERE user_id = :user_id AND version = :version")

_SINCE = text("""
SELECT user_id, erased_at FROM profiles WHERE erased_at > :since ORDER BY erased_at LIMIT :limit
""")

_STILL_ERASED = text("""
SELECT user_id, erased_at FROM profiles WHERE deleted AND erased_at > :since ORDER BY erased_at LIMIT :limit FOR SHARE
""")

_ERASED = text("""
SELECT user_id, deleted, erased_at FROM profiles
WHERE user_id = ANY(CAST(:ids AS text[])) AND erased_at IS NOT NULL
""")


@dataclass(frozen=True, slots=True)
class Erasure:
    """`texts`: of the profile's traits as they were."""

    user_id: str
    version: int
    erased_at: datetime
    texts: list[str]


@dataclass(frozen=True, slots=True)
class Erased:
    """`deleted`: nothing was heard of the person since."""

    deleted: bool
    erased_at: datetime


async def begin(tx: AsyncConnection, user_id: str) -> bool:
    """Erases what this database has and writes down what the event store has to do. False: there is no such person."""
    # The profile before the waits, in the order in which an identify locks them.
    found = (await tx.execute(_ERASE, {"user_id": user_id})).first()
    if found is None:
        return False
    await forget_waits(tx, [user_id])
    texts = msgspec.json.encode(texts_of(msgspec.json.decode(found.traits))).decode()
    await tx.execute(
        _BEGIN, {"user_id": user_id, "version": found.version, "erased_at": found.erased_at, "texts": texts}
    )
    return True


async def forget_waits(tx: AsyncConnection, user_ids: Sequence[str]) -> int:
    """Whatever campaigns keep of these people; returns how many rows that were."""
    return (await tx.execute(_FORGET_WAITS, {"users": user_ids})).rowcount


async def still_erased(tx: AsyncConnection, since: datetime, limit: int) -> list[tuple[str, datetime]]:
    """Those erased since then of whom nothing was heard again, in order, and nothing will be while this transaction
    lasts."""
    return [(row.user_id, row.erased_at) for row in await tx.execute(_STILL_ERASED, {"since": since, "limit": limit})]


async def open_ones(tx: AsyncConnection, limit: int) -> list[Erasure]:
    """Oldest first."""
    rows = await tx.execute(_OPEN, {"limit": limit})
    return [Erasure(row.user_id, row.version, row.erased_at, msgspec.json.decode(row.texts)) for row in rows]


async def is_open(tx: AsyncConnection, user_id: str) -> bool:
    return (await tx.execute(_IS_OPEN, {"user_id": user_id})).first() is not None


async def done(tx: AsyncConnection, erasure: Erasure) -> None:
    await tx.execute(_DONE, {"user_id": erasure.user_id, "version": erasure.version})


async def now(tx: AsyncConnection) -> datetime:
    """By the clock that dates erasures."""
    at: datetime = (await tx.execute(text("SELECT db_now()"))).scalar_one()
    return at


async def erased_since(tx: AsyncConnection, since: datetime, limit: int) -> list[tuple[str, datetime]]:
    """user_id and moment, in order."""
    return [(row.user_id, row.erased_at) for row in await tx.execute(_SINCE, {"since": since, "limit": limit})]


async def among(tx: AsyncConnection, user_ids: Sequence[str]) -> dict[str, Erased]:
    """Those of `user_ids` who were ever erased."""
    rows = await tx.execute(_ERASED, {"ids": user_ids})
    return {row.user_id: Erased(row.deleted, row.erased_at) for row in rows}


def texts_of(traits: Mapping[str, Any]) -> list[str]:
    """Every text among traits, elements of lists too."""
    values = [item for value in traits.values() for item in (value if isinstance(value, list) else [value])]
    return sorted({value for value in values if isinstance(value, str)})
