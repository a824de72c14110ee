"""Table `alignments`: of each live campaign that has waits, which definition its rows are in line with, and how far the
work on that is. A step locks its campaign's row, so that replicas never work on one campaign together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_ALL = text("SELECT campaign_id, plan, phase FROM alignments")
_ADD = text("""
INSERT INTO alignments (campaign_id, plan, phase) VALUES (:campaign, :plan, :phase) ON CONFLICT DO NOTHING
""")
_LOCK = text("""
SELECT campaign_id, plan, phase, cursor::text AS cursor FROM alignments WHERE campaign_id = :campaign
FOR UPDATE SKIP LOCKED
""")
_SAVE = text("""
UPDATE alignments SET plan = :plan, phase = :phase, cursor = CAST(:cursor AS json), updated_at = db_now()
WHERE campaign_id = :campaign
""")
_REMOVE = text("DELETE FROM alignments WHERE campaign_id = :campaign")
# Only rows of another trigger go; `made_by` null: all of them.
_CLEAR = text("""
WITH page AS (
    SELECT ctid, user_id, key, due_at IS NOT NULL AS armed, made_by IS DISTINCT FROM CAST(:made_by AS bigint) AS old
    FROM waits WHERE campaign_id = :campaign AND (user_id, key) > (:user, :key)
    ORDER BY user_id, key LIMIT :limit FOR UPDATE
), gone AS (
    DELETE FROM waits w USING page p WHERE w.ctid = p.ctid AND p.old RETURNING p.armed
), last AS (SELECT user_id, key FROM page ORDER BY user_id DESC, key DESC LIMIT 1)
SELECT (SELECT count(*) FROM page) AS seen, (SELECT count(*) FROM gone) AS gone,
       (SELECT count(*) FROM gone WHERE armed) AS disarmed,
       (SELECT user_id FROM last) AS user_id, (SELECT key FROM last) AS key
""")
_PEOPLE = text("""
SELECT count(*) AS seen, max(user_id) AS last,
       coalesce(array_agg(user_id ORDER BY user_id) FILTER (WHERE has), '{}') AS ids
FROM (SELECT user_id, NOT deleted AND traits ->> :attribute IS NOT NULL AS has FROM profiles
      WHERE user_id > :after ORDER BY user_id LIMIT :limit) page
""")
_LOCK_PEOPLE = text("""
SELECT user_id FROM profiles WHERE user_id = ANY(CAST(:ids AS text[])) ORDER BY user_id FOR UPDATE
""")


class Alignment(NamedTuple):
    """`phase`: clear → replan → profiles or events → done. `cursor`: behind what it is done in this phase."""

    campaign_id: str
    plan: int
    phase: str
    cursor: list[str]


class Cleared(NamedTuple):
    """`seen`: rows looked at; `last`: the key of the last one."""

    seen: int
    gone: int
    disarmed: int
    last: tuple[str, str]


class People(NamedTuple):
    seen: int
    last: str
    ids: list[str]


async def all_of(tx: AsyncConnection) -> dict[str, tuple[int, str]]:
    """Campaign → (plan, phase)."""
    return {row.campaign_id: (row.plan, row.phase) for row in await tx.execute(_ALL)}


async def add(tx: AsyncConnection, campaign_id: str, plan: int, phase: str) -> None:
    await tx.execute(_ADD, {"campaign": campaign_id, "plan": plan, "phase": phase})


async def lock(tx: AsyncConnection, campaign_id: str) -> Alignment | None:
    """None: there is none, or another process is at it."""
    row = (await tx.execute(_LOCK, {"campaign": campaign_id})).one_or_none()
    if row is None:
        return None
    return Alignment(row.campaign_id, row.plan, row.phase, msgspec.json.decode(row.cursor, type=list[str]))


async def save(tx: AsyncConnection, alignment: Alignment) -> None:
    values = {
        "campaign": alignment.campaign_id,
        "plan": alignment.plan,
        "phase": alignment.phase,
        "cursor": msgspec.json.encode(alignment.cursor).decode(),
    }
    await tx.execute(_SAVE, values)


async def remove(tx: AsyncConnection, campaign_id: str) -> None:
    await tx.execute(_REMOVE, {"campaign": campaign_id})


async def clear(
    tx: AsyncConnection, campaign_id: str, made_by: int | None, after: tuple[str, str], limit: int
) -> Cleared:
    """Deletes, of the next rows of the campaign, those that another trigger made (all for None)."""
    values = {"campaign": campaign_id, "made_by": made_by, "user": after[0], "key": after[1], "limit": limit}
    row = (await tx.execute(_CLEAR, values)).one()
    return Cleared(row.seen, row.gone, row.disarmed, (row.user_id or "", row.key or ""))


async def people_with(tx: AsyncConnection, attribute: str, after: str, limit: int) -> People:
    """Of the next `limit` people those who have the attribute, not locked."""
    row = (await tx.execute(_PEOPLE, {"attribute": attribute, "after": after, "limit": limit})).one()
    return People(row.seen, row.last or "", row.ids)


async def lock_people(tx: AsyncConnection, user_ids: Sequence[str]) -> None:
    """Nobody identifies them meanwhile."""
    await tx.execute(_LOCK_PEOPLE, {"ids": list(user_ids)})
