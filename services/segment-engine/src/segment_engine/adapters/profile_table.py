"""Table `profiles`, the authority on who a person is. One statement per batch; rows are locked in order of user_id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from segment_engine.domain.profiles import Contact, Profile

_COLUMNS = "user_id, version, deleted, traits::text AS traits, phone, phone_country, country, time_zone, consent"

_LOCK = text(f"""
SELECT {_COLUMNS} FROM profiles
WHERE user_id = ANY(CAST(:ids AS text[])) ORDER BY user_id FOR UPDATE
""")

_WRITE = text("""
INSERT INTO profiles AS p (user_id, traits, phone, phone_country, country, time_zone, consent)
SELECT v.user_id, v.traits::json, v.phone, v.phone_country, v.country, v.time_zone, v.consent
FROM unnest(CAST(:ids AS text[]), CAST(:traits AS text[]), CAST(:phones AS text[]), CAST(:phone_countries AS text[]),
            CAST(:countries AS text[]), CAST(:zones AS text[]), CAST(:consents AS boolean[]))
     AS v(user_id, traits, phone, phone_country, country, time_zone, consent)
ORDER BY v.user_id
ON CONFLICT (user_id) DO UPDATE SET
    version = p.version + 1, deleted = false, traits = EXCLUDED.traits, phone = EXCLUDED.phone,
    phone_country = EXCLUDED.phone_country, country = EXCLUDED.country, time_zone = EXCLUDED.time_zone,
    consent = EXCLUDED.consent, updated_at = db_now()
""")

# Does not wait for rows that others have locked, so that no order of locks has to be kept with `_WRITE`.
_MEET = text("""
INSERT INTO profiles (user_id) SELECT v FROM unnest(CAST(:ids AS text[])) v ORDER BY v ON CONFLICT DO NOTHING
""")

_REVIVE = text("""
UPDATE profiles SET deleted = false, version = version + 1, updated_at = db_now()
WHERE user_id = ANY(CAST(:ids AS text[])) AND deleted
""")

_READ = text(f"SELECT {_COLUMNS} FROM profiles WHERE user_id = ANY(CAST(:ids AS text[]))")

_TIMES = text("SELECT created_at, updated_at FROM profiles WHERE user_id = :user_id")

_TO_COPY = text(f"""
SELECT {_COLUMNS} FROM profiles WHERE version > copied_version AND user_id > :after ORDER BY user_id LIMIT :limit
""")

_COPIED = text("""
WITH locked AS (
    SELECT p.user_id, v.version FROM profiles p
    JOIN unnest(CAST(:ids AS text[]), CAST(:versions AS bigint[])) AS v(user_id, version) ON p.user_id = v.user_id
    ORDER BY p.user_id FOR UPDATE OF p
)
UPDATE profiles p SET copied_version = locked.version FROM locked
WHERE p.user_id = locked.user_id AND p.copied_version < locked.version
""")

_traits = msgspec.json.Decoder(dict[str, Any])


async def lock(tx: AsyncConnection, user_ids: Sequence[str]) -> dict[str, Profile]:
    """Those who are known, the erased without anything, locked until the transaction ends."""
    rows = await tx.execute(_LOCK, {"ids": user_ids})
    return {row.user_id: _profile(row) for row in rows}


async def write(tx: AsyncConnection, changed: Mapping[str, tuple[Mapping[str, Any], Contact]]) -> None:
    """New and changed profiles, each a version further."""
    ids = sorted(changed)
    contacts = [changed[user_id][1] for user_id in ids]
    await tx.execute(
        _WRITE,
        {
            "ids": ids,
            "traits": [msgspec.json.encode(changed[user_id][0]).decode() for user_id in ids],
            "phones": [contact.phone for contact in contacts],
            "phone_countries": [contact.phone_country for contact in contacts],
            "countries": [contact.country for contact in contacts],
            "zones": [contact.time_zone for contact in contacts],
            "consents": [contact.consent for contact in contacts],
        },
    )


async def meet(tx: AsyncConnection, user_ids: Sequence[str]) -> None:
    """Everybody with an accepted event has a profile (rules.md T1), the erased again."""
    met = await tx.execute(_MEET, {"ids": user_ids})
    if met.rowcount < len(user_ids):
        await tx.execute(_REVIVE, {"ids": user_ids})


async def read(tx: AsyncConnection, user_ids: Sequence[str]) -> dict[str, Profile]:
    """Those who are known, the erased included."""
    rows = await tx.execute(_READ, {"ids": user_ids})
    return {row.user_id: _profile(row) for row in rows}


async def times(tx: AsyncConnection, user_id: str) -> Row[Any]:
    """created_at and updated_at of somebody who is known."""
    return (await tx.execute(_TIMES, {"user_id": user_id})).one()


async def to_copy(tx: AsyncConnection, after: str, limit: int) -> list[Profile]:
    """Profiles whose newest version is not in the event store yet, behind the user_id `after`."""
    return [_profile(row) for row in await tx.execute(_TO_COPY, {"after": after, "limit": limit})]


async def mark_copied(tx: AsyncConnection, profiles: Sequence[Profile]) -> None:
    await tx.execute(
        _COPIED,
        {"ids": [profile.user_id for profile in profiles], "versions": [profile.version for profile in profiles]},
    )


def _profile(row: Sequence[Any]) -> Profile:
    """In the order of `_COLUMNS`, which is quicker than by name."""
    user_id, version, deleted, traits = row[:4]
    return Profile(user_id, version, _traits.decode(traits), Contact(*row[4:]), deleted)
