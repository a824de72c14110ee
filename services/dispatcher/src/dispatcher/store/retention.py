"""Forgets what is over for long: messages with their attempts, receipts, inbound texts, the sandbox's texts.

What waits, is under way or in doubt stays, however old. Suppressions are not ours to forget.
"""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatcher.store.rows import CLOCK, DAY

_MESSAGES = text(f"""
WITH {CLOCK},
old AS (
    SELECT l.message_id, {DAY} AS day FROM ledger l, clock
    WHERE l.created_at < clock.now - make_interval(days => :days)
      AND l.updated_at < clock.now - make_interval(days => :days)
      AND l.state NOT IN ('QUEUED', 'DEFERRED', 'HELD', 'SUBMITTING', 'IN_DOUBT')
    LIMIT :n FOR UPDATE OF l SKIP LOCKED
),
ended AS (DELETE FROM attempts a USING old WHERE a.day = old.day AND a.message_id = old.message_id)
DELETE FROM ledger l USING old WHERE l.message_id = old.message_id
""")


def _by_time(table: str, moment: str, and_over: str = "") -> str:
    return f"""
    WITH {CLOCK}
    DELETE FROM {table} WHERE ctid = ANY(ARRAY(
        SELECT t.ctid FROM {table} t, clock
        WHERE t.{moment} < clock.now - make_interval(days => :days) {and_over} LIMIT :n
    ))
    """


STATEMENTS = {
    "ledger": _MESSAGES,
    "receipts": text(_by_time("receipts", "received_at", "AND t.next_at IS NULL")),
    "inbound": text(_by_time("inbound", "received_at")),
    "sandbox_inbox": text(_by_time("sandbox_inbox", "at")),
    "former_ids": text(_by_time("former_ids", "at")),
    "keyword_replies": text(_by_time("keyword_replies", "created_at", "AND t.next_at IS NULL")),
}


async def forget(tx: AsyncConnection, table: str, days: int, limit: int) -> int:
    """Deletes up to `limit` rows of one of STATEMENTS that are over for so many days; how many there were."""
    return (await tx.execute(STATEMENTS[table], {"days": days, "n": limit})).rowcount
