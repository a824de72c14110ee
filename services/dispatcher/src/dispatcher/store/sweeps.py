"""Moves many waiting messages at once for a reason outside them: deadline, stop, pause, opt-out."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatcher.domain.ledger import State
from dispatcher.domain.message import Message
from dispatcher.store.rows import CLAIMABLE, CLOCK, COLUMNS, WAITING, WIDTH, message_of

_MOVE = f"""
UPDATE ledger l SET state = :state, cause = '', reason = CASE WHEN :keep_reason AND l.reason <> '' THEN l.reason
    ELSE :reason END, owner = NULL, lease_until = NULL, seq = l.seq + 1, updated_at = clock.now
FROM picked, clock WHERE l.message_id = picked.message_id
RETURNING {COLUMNS}, clock.now, picked.state
"""

# Each is a stretch of an index: what is held is in another one than what may be claimed.
_PICK = {
    "deadline": f"""SELECT l.message_id, l.state FROM ledger l, clock
        WHERE l.state IN {WAITING} AND l.send_by <= clock.now ORDER BY l.send_by LIMIT :n""",
    "claimable": f"""SELECT l.message_id, l.state FROM ledger l
        WHERE l.state IN {CLAIMABLE} AND l.lane IN (0, 1, 2)
          AND l.queue >= :campaign_id || '|' AND l.queue < :campaign_id || '}}' LIMIT :n""",
    "held": """SELECT l.message_id, l.state FROM ledger l
        WHERE l.state = 'HELD' AND l.campaign_id = :campaign_id LIMIT :n""",
    "phone": f"""SELECT l.message_id, l.state FROM ledger l
        WHERE l.state IN {WAITING} AND l.phone_hash = :phone_hash LIMIT :n""",
}
_STATEMENTS = {
    kind: text(f"WITH {CLOCK}, picked AS ({pick} FOR UPDATE OF l SKIP LOCKED) {_MOVE}") for kind, pick in _PICK.items()
}

_HELD = text("""
WITH RECURSIVE h AS (
    (SELECT campaign_id FROM ledger WHERE state = 'HELD' ORDER BY campaign_id LIMIT 1)
    UNION ALL
    SELECT n.campaign_id FROM h CROSS JOIN LATERAL (
        SELECT campaign_id FROM ledger WHERE state = 'HELD' AND campaign_id > h.campaign_id ORDER BY campaign_id LIMIT 1
    ) n
)
SELECT campaign_id FROM h
""")

Swept = list[tuple[Message, State, datetime]]
"""Messages as they are now, the state they were in, and the moment."""


async def _sweep(
    tx: AsyncConnection, kind: Literal["deadline", "claimable", "held", "phone"], state: State, reason: str, limit: int,
    **parameters: object,
) -> Swept:  # fmt: skip
    rows = await tx.execute(
        _STATEMENTS[kind],
        {"state": state.value, "reason": reason, "keep_reason": kind == "deadline", "n": limit, **parameters},
    )
    return [(message_of(row), State(row[WIDTH + 1]), row[WIDTH]) for row in rows]


async def expire(tx: AsyncConnection, limit: int) -> Swept:
    """What waits past its deadline. A reason that is known (the last refusal, a pause) stays."""
    return await _sweep(tx, "deadline", State.EXPIRED, "deadline", limit)


async def cancel(tx: AsyncConnection, *, campaign_id: str, reason: str, limit: int) -> Swept:
    swept = await _sweep(tx, "claimable", State.CANCELLED, reason, limit, campaign_id=campaign_id)
    left = limit - len(swept)
    return swept + (await _sweep(tx, "held", State.CANCELLED, reason, left, campaign_id=campaign_id) if left else [])


async def hold(tx: AsyncConnection, *, campaign_id: str, limit: int) -> Swept:
    return await _sweep(tx, "claimable", State.HELD, "campaign_paused", limit, campaign_id=campaign_id)


async def resume(tx: AsyncConnection, *, campaign_id: str, limit: int) -> Swept:
    """Whoever waited for a moment waits for it again."""
    return await _sweep(tx, "held", State.QUEUED, "", limit, campaign_id=campaign_id)


async def suppress(tx: AsyncConnection, phone_hash: bytes, reason: str, limit: int) -> Swept:
    return await _sweep(tx, "phone", State.SUPPRESSED, reason, limit, phone_hash=phone_hash)


async def held_campaigns(tx: AsyncConnection) -> set[str]:
    """One index probe a campaign, however much is held."""
    return {row.campaign_id for row in await tx.execute(_HELD)}
