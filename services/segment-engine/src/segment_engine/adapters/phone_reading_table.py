"""Table `phone_reading`: with which default country phones kept as they came were read, and how far that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_LOCK = text("SELECT default_country, after_user_id, finished FROM phone_reading FOR UPDATE")
_ADVANCE = text("""
UPDATE phone_reading SET default_country = :country, after_user_id = :after, finished = :finished
""")
_UNREAD = text("""
SELECT user_id, traits::text AS traits FROM profiles
WHERE user_id > :after AND phone IS NULL AND NOT deleted AND traits->>'phone' IS NOT NULL
ORDER BY user_id LIMIT :limit FOR UPDATE
""")
_traits = msgspec.json.Decoder(dict[str, Any])


@dataclass(frozen=True, slots=True)
class PhoneReadingState:
    default_country: str | None
    after_user_id: str
    finished: bool


async def lock(tx: AsyncConnection) -> PhoneReadingState:
    """Until the transaction ends nobody else reads phones."""
    row = (await tx.execute(_LOCK)).one()
    return PhoneReadingState(row.default_country, row.after_user_id, row.finished)


async def unread(tx: AsyncConnection, after: str, limit: int) -> dict[str, dict[str, Any]]:
    """Traits of people whose phone was not understood, behind `after`, locked until the transaction ends."""
    rows = await tx.execute(_UNREAD, {"after": after, "limit": limit})
    return {row.user_id: _traits.decode(row.traits) for row in rows}


async def advance(tx: AsyncConnection, country: str | None, after: str, *, finished: bool) -> None:
    await tx.execute(_ADVANCE, {"country": country, "after": after, "finished": finished})
