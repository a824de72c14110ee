"""Who names whom in rules: saved segments, campaigns and user lists, by the ids kept with each rule (`internal.names`).

A campaign's `who.segment_id` is such a name too. Must not judge: what is missing is simply absent.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.domain.campaign_states import TERMINAL

_REACHED = text("""
WITH RECURSIVE reached (id) AS (
    SELECT unnest(CAST(:ids AS text[]))
    UNION
    SELECT named.id FROM resources r JOIN reached ON reached.id = r.id
    CROSS JOIN LATERAL json_array_elements_text(r.internal->'names') AS named (id)
    WHERE r.kind = 'segment' AND NOT r.deleted
)
SELECT r.id, r.kind, r.status, CASE r.kind WHEN 'segment' THEN CAST(r.body->'rule' AS text) END AS rule
FROM resources r JOIN reached USING (id)
WHERE r.kind IN ('segment', 'campaign', 'user_list') AND NOT r.deleted
""")
_USERS = text("""
SELECT named.id AS named, r.id, r.kind, r.body->>'name' AS name
FROM resources r CROSS JOIN LATERAL (
    SELECT json_array_elements_text(r.internal->'names') AS id UNION SELECT r.body->'who'->>'segment_id'
) AS named
WHERE r.kind IN ('segment', 'campaign') AND NOT r.deleted AND r.status <> ALL(CAST(:over AS text[]))
  AND named.id = ANY(CAST(:ids AS text[])) AND r.id <> named.id
ORDER BY r.id
""")


@dataclass(frozen=True, slots=True)
class Reached:
    """`segments`: id → rule. `user_lists`: id → status."""

    segments: Mapping[str, Any] = field(default_factory=dict)
    campaigns: frozenset[str] = frozenset()
    user_lists: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class User:
    """A segment, or a campaign that can still run."""

    id: str
    kind: str
    name: str


async def reached(tx: AsyncConnection, named: Collection[str]) -> Reached:
    """What there is of these ids and, of segments, of those that they name, and so on. Cycles do no harm."""
    if not named:
        return Reached()
    rows = (await tx.execute(_REACHED, {"ids": sorted(named)})).all()
    return Reached(
        segments={row.id: msgspec.json.decode(row.rule) for row in rows if row.kind == "segment"},
        campaigns=frozenset(row.id for row in rows if row.kind == "campaign"),
        user_lists={row.id: row.status for row in rows if row.kind == "user_list"},
    )


async def users_of(tx: AsyncConnection, ids: Collection[str]) -> dict[str, list[User]]:
    """Segments, and campaigns that can still run, that name each of these themselves. Nobody uses itself."""
    found: dict[str, list[User]] = {id: [] for id in ids}
    if ids:
        rows = await tx.execute(_USERS, {"ids": sorted(ids), "over": sorted(TERMINAL)})
        for row in rows:
            found[row.named].append(User(row.id, row.kind, row.name))
    return found


async def all_users_of(tx: AsyncConnection, id: str) -> dict[str, User]:
    """All that an edit of this segment reaches: who names it, who names those, and so on."""
    found: dict[str, User] = {}
    frontier = {id}
    while frontier:
        users = {user.id: user for several in (await users_of(tx, frontier)).values() for user in several}
        frontier = {user.id for user in users.values() if user.kind == "segment"} - found.keys() - {id}
        found |= users
    found.pop(id, None)
    return found
