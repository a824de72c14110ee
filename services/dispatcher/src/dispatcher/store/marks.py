"""The only statement that lets a call begin: QUEUED → SUBMITTING for a group of texts, committed before the first byte.

It checks everything again in its own transaction: state, owner and lease, suppression, deadline, allowed intervals.
The campaign's state is checked by the caller against definitions confirmed a moment ago.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatcher.store.rows import BY_ID

_MARK = text(f"""
WITH {BY_ID}
UPDATE ledger l SET state = 'SUBMITTING', attempt = l.attempt + 1, provider_id = :provider_id, owner = :mark,
    origin = :origin,
    provider_message_id = '', body = v.body, encoding = v.encoding, parts = v.parts, marked_at = clock.now,
    lease_until = clock.now + make_interval(secs => :lease), not_before = NULL, look_ups = 0, updated_at = clock.now
FROM clock, unnest(CAST(:ids AS uuid[]), CAST(:attempts AS int[]), CAST(:bodies AS text[]),
    CAST(:encodings AS text[]), CAST(:parts AS int[])) WITH ORDINALITY AS v(id, attempt, body, encoding, parts, place)
WHERE l.message_id = v.id AND l.state = clock.queued AND l.owner = :owner AND l.attempt = v.attempt
  AND l.lease_until > clock.now AND l.send_by > clock.now
  AND (l.allowed IS NULL OR l.allowed @> clock.now)
  AND NOT EXISTS (SELECT 1 FROM suppressions s WHERE s.phone_hash = l.phone_hash AND s.suppressed)
RETURNING v.place, l.marked_at
""")

_SUPPRESSED = text(f"""
WITH {BY_ID}
SELECT l.message_id FROM ledger l, clock
WHERE l.message_id = ANY(CAST(:ids AS uuid[])) AND l.state = clock.queued AND l.owner = :owner
  AND EXISTS (SELECT 1 FROM suppressions s WHERE s.phone_hash = l.phone_hash AND s.suppressed)
""")


class Rendered(Struct, frozen=True):
    """What is going to be sent in one attempt; `attempt` is the count before it."""

    message_id: str
    attempt: int
    body: str
    encoding: str
    parts: int


async def mark(
    tx: AsyncConnection,
    owner: str,
    mark: str,
    provider_id: str,
    origin: str,
    texts: Sequence[Rendered],
    lease_seconds: float,
) -> dict[str, datetime]:
    """message_id → moment of the mark, for those that may be called. The others changed under us: leave them be.

    The rows pass from `owner`, who claimed them, to `mark`, a name that is used once: attempt numbers are taken back
    with a mark, so they alone do not tell a settlement of this mark from one of the next. `origin`: the provider's, as
    it is now.
    """
    rows = await tx.execute(
        _MARK,
        {
            "owner": owner,
            "mark": mark,
            "provider_id": provider_id,
            "origin": origin,
            "lease": lease_seconds,
            "ids": [each.message_id for each in texts],
            "attempts": [each.attempt for each in texts],
            "bodies": [each.body for each in texts],
            "encodings": [each.encoding for each in texts],
            "parts": [each.parts for each in texts],
        },
    )
    return {texts[place - 1].message_id: marked_at for place, marked_at in rows}


async def suppressed_among(tx: AsyncConnection, owner: str, message_ids: Sequence[str]) -> set[str]:
    """Of texts we hold and could not mark: those whose phone is suppressed."""
    rows = await tx.execute(_SUPPRESSED, {"owner": owner, "ids": list(message_ids)})
    return {row.message_id.hex for row in rows}
