"""Test sends in the ledger: a lane of their own, whose rows hold all that they are made of."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatcher.domain.ledger import State
from dispatcher.domain.message import TEST_CAMPAIGN, TRIALS, Message, Queue
from dispatcher.store import settles
from dispatcher.store.rows import CLAIMABLE, CLOCK, COLUMNS, WIDTH, message_of
from postrider.contracts.delivery_events import AttemptSummary

_SUPPRESSED = text("SELECT reason FROM suppressions WHERE phone_hash = :phone_hash AND suppressed")

_INSERT = text(f"""
WITH {CLOCK}
INSERT INTO ledger AS l (message_id, campaign_id, run_id, occurrence, user_id, what_version, lane, phone, phone_hash,
    country, variables, variant, message_class, zone, due_at, send_by, on_hit, queue, next_at, created_at, updated_at)
SELECT CAST(:message_id AS uuid), '{TEST_CAMPAIGN}', CAST(:tried_campaign AS text), 'test', CAST(:user_id AS text), 0,
    {TRIALS}, CAST(:phone AS text), CAST(:phone_hash AS bytea), CAST(:country AS text), CAST(:variables AS bytea), '',
    'transactional', 'UTC', clock.now, clock.now + make_interval(secs => :seconds), 'discard', CAST(:queue AS text),
    clock.now, clock.now, clock.now
FROM clock
ON CONFLICT (message_id) DO NOTHING
RETURNING {COLUMNS}, l.created_at
""")

_CLAIM = text(f"""
WITH {CLOCK},
picked AS (
    SELECT l.message_id, l.state FROM ledger l, clock
    WHERE l.lane = {TRIALS} AND l.state IN {CLAIMABLE} AND (l.owner IS NULL OR l.lease_until < clock.now)
    ORDER BY l.lane, l.queue, l.next_at LIMIT :n FOR UPDATE OF l SKIP LOCKED
)
UPDATE ledger l SET owner = :owner, lease_until = clock.now + make_interval(secs => :lease), state = 'QUEUED'
FROM picked, clock WHERE l.message_id = picked.message_id
RETURNING {COLUMNS}, clock.now, picked.state
""")

_READ = text(f"""
SELECT {COLUMNS}, l.created_at, l.updated_at FROM ledger l
WHERE l.message_id = CAST(:message_id AS uuid) AND l.campaign_id = '{TEST_CAMPAIGN}'
""")


@dataclass(frozen=True, slots=True)
class Trial:
    """A test send as it is kept. `attempts`: also the one that is under way."""

    message: Message
    created_at: datetime
    updated_at: datetime
    attempts: list[AttemptSummary]


async def suppression_of(tx: AsyncConnection, phone_hash: bytes) -> str | None:
    """Why the phone must not be texted; None: it may be."""
    reason: str | None = (await tx.execute(_SUPPRESSED, {"phone_hash": phone_hash})).scalar_one_or_none()
    return reason


async def insert(
    tx: AsyncConnection,
    message_id: str,
    tried_campaign: str,
    user_id: str,
    phone: str,
    phone_hash: bytes,
    country: str | None,
    variables: bytes,
    seconds: float,
) -> tuple[Message, datetime] | None:
    """With the moment; None when it is there already."""
    row = (
        await tx.execute(
            _INSERT,
            {
                "message_id": message_id,
                "tried_campaign": tried_campaign,
                "user_id": user_id,
                "phone": phone,
                "phone_hash": phone_hash,
                "country": country,
                "variables": variables,
                "seconds": seconds,
                "queue": Queue(TEST_CAMPAIGN, 0, country).name,
            },
        )
    ).one_or_none()
    return None if row is None else (message_of(row), row[WIDTH])


async def claim(
    tx: AsyncConnection, owner: str, n: int, lease_seconds: float
) -> tuple[list[tuple[Message, State]], datetime | None]:
    """Leases what waits, whether its moment has come or not, with the state that it was in; and the database's now."""
    rows = (await tx.execute(_CLAIM, {"owner": owner, "n": n, "lease": lease_seconds})).all()
    return [(message_of(row), State(row[WIDTH + 1])) for row in rows], rows[0][WIDTH] if rows else None


async def read(tx: AsyncConnection, message_id: str) -> Trial | None:
    row = (await tx.execute(_READ, {"message_id": message_id})).one_or_none()
    if row is None:
        return None
    message = message_of(row)
    attempts = (await settles.history(tx, [message.message_id])).get(message.message_id, [])
    if message.state is State.SUBMITTING and message.marked_at is not None:
        attempts = [*attempts, AttemptSummary(message.attempt, message.provider_id, "submitting", message.marked_at)]
    return Trial(message, row[WIDTH], row[WIDTH + 1], attempts)
