"""Letters that wait for their mail server, and those that were sent."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from scheduler.domain.letters import Letter

_ADD = text("""
INSERT INTO letters (id, recipient, subject, body) VALUES (:id, :recipient, :subject, :body) ON CONFLICT DO NOTHING
""")
_TAKE = text("""
UPDATE letters SET attempts = attempts + 1,
    next_at = (SELECT db_now()) + make_interval(secs => least(30 * 2 ^ least(attempts, 10), 3600))
WHERE id IN (
    SELECT id FROM letters WHERE sent_at IS NULL AND next_at <= (SELECT db_now()) AND attempts < :most
    ORDER BY next_at LIMIT :limit FOR UPDATE SKIP LOCKED)
RETURNING id, recipient, subject, body
""")
_GIVE_UP = text("UPDATE letters SET attempts = :most WHERE id = :id")
_SENT = text("UPDATE letters SET sent_at = (SELECT db_now()) WHERE id = :id")


async def add(tx: AsyncConnection, letter: Letter) -> None:
    values = {"id": letter.id, "recipient": letter.recipient, "subject": letter.subject, "body": letter.body}
    await tx.execute(_ADD, values)


async def take(tx: AsyncConnection, limit: int, most_attempts: int) -> Sequence[Letter]:
    """Letters whose turn it is, each counted as tried: one that is not marked as sent comes again, later each time."""
    rows = await tx.execute(_TAKE, {"limit": limit, "most": most_attempts})
    return [Letter(row.id, row.recipient, row.subject, row.body) for row in rows]


async def mark_sent(tx: AsyncConnection, id: str) -> None:
    await tx.execute(_SENT, {"id": id})


async def give_up(tx: AsyncConnection, id: str, most_attempts: int) -> None:
    """It does not come again."""
    await tx.execute(_GIVE_UP, {"id": id, "most": most_attempts})
