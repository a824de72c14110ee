"""Locks the messages that evidence speaks of, and writes what evidence makes of them, whoever owns them.

Evidence (a provider's receipt, a look-up that found the text, a reply that came late) is stronger than a lease.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatcher.domain.ledger import State
from dispatcher.domain.message import Message
from dispatcher.store.rows import CLOCK, COLUMNS, WIDTH, message_of

_LOCK = text(f"""
SELECT {COLUMNS} FROM ledger l WHERE l.message_id = ANY(CAST(:ids AS uuid[])) ORDER BY l.message_id FOR UPDATE
""")

_WRITE = text(f"""
WITH {CLOCK}
UPDATE ledger l SET state = v.state, cause = '', reason = v.reason, provider_id = v.provider_id,
    provider_message_id = v.provider_message_id, seq = l.seq + 1, owner = NULL, lease_until = NULL,
    not_before = NULL, updated_at = clock.now
FROM clock, unnest(CAST(:ids AS uuid[]), CAST(:states AS text[]), CAST(:reasons AS text[]),
    CAST(:providers AS text[]), CAST(:provider_message_ids AS text[]))
    AS v(id, state, reason, provider_id, provider_message_id)
WHERE l.message_id = v.id
RETURNING {COLUMNS}, clock.now
""")

_ATTEMPT_OF = text("""
SELECT a.provider_id, a.provider_message_id, a.message_id, a.attempt
FROM unnest(CAST(:providers AS text[]), CAST(:ids AS text[])) AS v(provider_id, provider_message_id)
JOIN attempts a ON a.provider_message_id = v.provider_message_id AND a.provider_id = v.provider_id
""")

_PROVIDER_OF = text("""
SELECT a.message_id, a.attempt, a.provider_id
FROM unnest(CAST(:ids AS uuid[]), CAST(:attempts AS int[])) AS v(id, attempt)
JOIN attempts a ON a.message_id = v.id AND a.attempt = v.attempt
""")


async def lock(tx: AsyncConnection, message_ids: Sequence[str]) -> dict[str, Message]:
    """The rows as they are now, nobody else's to change until the transaction ends."""
    rows = await tx.execute(_LOCK, {"ids": sorted(set(message_ids))})
    return {message.message_id: message for message in map(message_of, rows)}


async def write(
    tx: AsyncConnection, changes: Sequence[tuple[Message, State, str, str, str]]
) -> list[tuple[Message, datetime]]:
    """(locked message, state, reason, provider_id, provider_message_id) → the messages as written, and when."""
    rows = await tx.execute(
        _WRITE,
        {
            "ids": [message.message_id for message, *_ in changes],
            "states": [state.value for _, state, *_ in changes],
            "reasons": [reason for _, _, reason, _, _ in changes],
            "providers": [provider for *_, provider, _ in changes],
            "provider_message_ids": [provider_message_id for *_, provider_message_id in changes],
        },
    )
    return [(message_of(row), row[WIDTH]) for row in rows]


async def attempts_by_provider_id(
    tx: AsyncConnection, ids: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], tuple[str, int]]:
    """(provider_id, provider_message_id) → (message_id, attempt) of those that are known."""
    rows = await tx.execute(
        _ATTEMPT_OF, {"providers": [provider for provider, _ in ids], "ids": [each for _, each in ids]}
    )
    return {(row.provider_id, row.provider_message_id): (row.message_id.hex, row.attempt) for row in rows}


async def providers_of(tx: AsyncConnection, attempts: Sequence[tuple[str, int]]) -> dict[tuple[str, int], str]:
    """(message_id, attempt) → provider of attempts that ended."""
    rows = await tx.execute(
        _PROVIDER_OF, {"ids": [message_id for message_id, _ in attempts], "attempts": [n for _, n in attempts]}
    )
    return {(row.message_id.hex, row.attempt): row.provider_id for row in rows}
