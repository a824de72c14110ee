"""Messages in doubt: leases that ran out in SUBMITTING, what is due for a look, and who else holds a provider's id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatcher.domain.message import Message
from dispatcher.store.rows import BY_ID, CLOCK, COLUMNS, DAYS, WIDTH, message_of

_ABANDONED = text(f"""
WITH {CLOCK},
picked AS (
    SELECT l.message_id FROM ledger l, clock WHERE l.state = 'SUBMITTING' AND l.lease_until < clock.now
    ORDER BY l.message_id LIMIT :n FOR UPDATE OF l SKIP LOCKED
)
UPDATE ledger l SET state = 'IN_DOUBT', reason = 'lease_over', owner = NULL, lease_until = NULL, next_at = clock.now,
    look_ups = 0, seq = l.seq + 1, updated_at = clock.now,
    not_before = clock.now + make_interval(secs => COALESCE(
        (SELECT w.seconds FROM unnest(CAST(:providers AS text[]), CAST(:waits AS float8[])) AS w(provider_id, seconds)
         WHERE w.provider_id = l.provider_id), :default_wait))
FROM picked, clock WHERE l.message_id = picked.message_id
RETURNING {COLUMNS}, clock.now
""")

_DUE = text(f"""
WITH {CLOCK},
picked AS (
    SELECT l.message_id FROM ledger l, clock
    WHERE l.state = 'IN_DOUBT' AND l.next_at <= clock.now AND (l.owner IS NULL OR l.lease_until < clock.now)
      AND NOT (l.provider_id = ANY(CAST(:busy AS text[])))
    ORDER BY l.next_at LIMIT :n FOR UPDATE OF l SKIP LOCKED
)
UPDATE ledger l SET owner = :owner, lease_until = clock.now + make_interval(secs => :lease), look_ups = l.look_ups + 1
FROM picked, clock WHERE l.message_id = picked.message_id
RETURNING {COLUMNS}, clock.now
""")

_LATER = text(f"""
WITH {BY_ID}
UPDATE ledger l SET owner = NULL, lease_until = NULL, next_at = v.next_at
FROM clock, unnest(CAST(:ids AS uuid[]), CAST(:attempts AS int[]), CAST(:nexts AS timestamptz[]))
    AS v(id, attempt, next_at)
WHERE l.message_id = v.id AND l.attempt = v.attempt AND l.state = clock.in_doubt AND l.owner = :owner
""")

_HOLDERS = text(f"""
WITH RECURSIVE {DAYS}
SELECT a.provider_message_id FROM unnest(CAST(:ids AS text[])) AS v(id) CROSS JOIN days d
JOIN attempts a ON a.day = d.day AND a.provider_message_id = v.id AND a.provider_id = :provider_id
WHERE a.message_id <> CAST(:message_id AS uuid)
""")

_TWIN = text("""
SELECT EXISTS (SELECT 1 FROM ledger WHERE state = 'SUBMITTING' AND phone = :phone AND provider_id = :provider_id
    AND message_id <> CAST(:message_id AS uuid) AND body = :body)
""")

_TWINS = text("""
SELECT message_id FROM ledger
WHERE state = 'IN_DOUBT' AND phone = :phone AND provider_id = :provider_id AND body = :body
ORDER BY marked_at, message_id
""")

_MAY_RESUBMIT = text(f"""
WITH {BY_ID}
SELECT EXISTS (SELECT 1 FROM ledger l, clock WHERE l.message_id = CAST(:message_id AS uuid) AND l.state = clock.in_doubt
    AND l.owner = :owner AND l.lease_until > clock.now AND l.send_by > clock.now
    AND (l.allowed IS NULL OR l.allowed @> clock.now)
    AND NOT EXISTS (SELECT 1 FROM suppressions s WHERE s.phone_hash = l.phone_hash AND s.suppressed))
""")


@dataclass(frozen=True, slots=True)
class Doubts:
    messages: list[Message]
    now: datetime | None


async def abandon(tx: AsyncConnection, waits: Mapping[str, float], default_wait: float, limit: int) -> Doubts:
    """SUBMITTING texts whose owner is gone → IN_DOUBT. `waits`: the providers' in_doubt_wait_seconds, counted from now:
    an owner who was only stopped sends what he was about to send when he goes on, however long after the mark."""
    parameters = {
        "providers": list(waits), "waits": list(waits.values()), "default_wait": default_wait, "n": limit,
    }  # fmt: skip
    rows = (await tx.execute(_ABANDONED, parameters)).all()
    return Doubts([message_of(row) for row in rows], rows[0][WIDTH] if rows else None)


async def due(tx: AsyncConnection, owner: str, limit: int, lease_seconds: float, busy: Sequence[str]) -> Doubts:
    """Leases texts in doubt that are due for a look, but none of providers whose look-ups are all taken."""
    rows = (await tx.execute(_DUE, {"owner": owner, "n": limit, "lease": lease_seconds, "busy": list(busy)})).all()
    return Doubts([message_of(row) for row in rows], rows[0][WIDTH] if rows else None)


async def later(tx: AsyncConnection, owner: str, looks: Sequence[tuple[Message, datetime]]) -> None:
    await tx.execute(
        _LATER,
        {
            "owner": owner,
            "ids": [message.message_id for message, _ in looks],
            "attempts": [message.attempt for message, _ in looks],
            "nexts": [at for _, at in looks],
        },
    )


async def held_by_others(
    tx: AsyncConnection, provider_id: str, message_id: str, provider_message_ids: Sequence[str]
) -> frozenset[str]:
    rows = await tx.execute(
        _HOLDERS, {"ids": list(provider_message_ids), "provider_id": provider_id, "message_id": message_id}
    )
    return frozenset(row.provider_message_id for row in rows)


async def has_twin_under_way(tx: AsyncConnection, message: Message) -> bool:
    """The same text to the same phone is being submitted right now: what a look-up finds may be that one."""
    found = await tx.execute(
        _TWIN,
        {"phone": message.phone, "provider_id": message.provider_id, "message_id": message.message_id,
         "body": message.body},
    )  # fmt: skip
    return bool(found.scalar_one())


async def twins(tx: AsyncConnection, message: Message) -> list[str]:
    """Messages in doubt that nobody could tell from this one, itself among them, in the order of their marks."""
    rows = await tx.execute(_TWINS, {"phone": message.phone, "provider_id": message.provider_id, "body": message.body})
    return [row.message_id.hex for row in rows]


async def may_resubmit(tx: AsyncConnection, owner: str, message_id: str) -> bool:
    """Nothing that forbids a call has happened meanwhile, and the text in doubt is still ours."""
    return bool((await tx.execute(_MAY_RESUBMIT, {"owner": owner, "message_id": message_id})).scalar_one())
