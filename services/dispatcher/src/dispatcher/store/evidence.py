"""Locks the messages that evidence speaks of, and writes what evidence makes of them, whoever owns them.

Evidence (a provider's receipt, a look-up that found the text, a reply that came late) is stronger than a lease.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatcher.domain.ledger import State
from dispatcher.domain.message import Message
from dispatcher.store.rows import CLOCK, COLUMNS, DAY, DAYS, WIDTH, message_of

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

_ATTEMPT_OF = """
SELECT a.provider_id, a.provider_message_id, a.message_id, a.attempt
FROM unnest(CAST(:providers AS text[]), CAST(:ids AS text[])) AS v(provider_id, provider_message_id)
CROSS JOIN days d
JOIN attempts a ON a.day = d.day AND a.provider_message_id = v.provider_message_id AND a.provider_id = v.provider_id
ORDER BY a.day
"""
_NEW_ATTEMPT_OF = text(f"""
WITH {CLOCK},
days AS (SELECT CAST(clock.now AT TIME ZONE 'UTC' AS date) - ago AS day FROM clock, generate_series(0, 1) AS ago)
{_ATTEMPT_OF}
""")
_ANY_ATTEMPT_OF = text(f"WITH RECURSIVE {DAYS} {_ATTEMPT_OF}")

_END_OF = text(f"""
SELECT a.message_id, a.attempt, a.provider_id, a.provider_message_id
FROM unnest(CAST(:ids AS uuid[]), CAST(:attempts AS int[])) AS v(id, attempt)
JOIN ledger l ON l.message_id = v.id
JOIN attempts a ON a.day = {DAY} AND a.message_id = v.id AND a.attempt = v.attempt
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


Names = dict[tuple[str, str], tuple[str, int]]
"""(provider_id, provider_message_id) → (message_id, attempt) of those that are known, the newest where a provider has
given an id again."""


async def new_attempts_by_provider_id(tx: AsyncConnection, ids: Sequence[tuple[str, str]]) -> Names:
    """Of texts of yesterday and today, as nearly all are that are heard of."""
    return await _names(tx, _NEW_ATTEMPT_OF, ids)


async def attempts_by_provider_id(tx: AsyncConnection, ids: Sequence[tuple[str, str]]) -> Names:
    """An index probe for each day that the ledger remembers."""
    return await _names(tx, _ANY_ATTEMPT_OF, ids) if ids else {}


async def _names(tx: AsyncConnection, statement: TextClause, ids: Sequence[tuple[str, str]]) -> Names:
    rows = await tx.execute(
        statement, {"providers": [provider for provider, _ in ids], "ids": [each for _, each in ids]}
    )
    return {(row.provider_id, row.provider_message_id): (row.message_id.hex, row.attempt) for row in rows}


async def providers_of(tx: AsyncConnection, attempts: Sequence[tuple[str, int]]) -> dict[tuple[str, int], str]:
    """(message_id, attempt) → provider of attempts that ended."""
    return {(row.message_id.hex, row.attempt): row.provider_id for row in await _ends_of(tx, attempts)}


async def given_ids(tx: AsyncConnection, attempts: Sequence[tuple[str, int]]) -> dict[tuple[str, int], str]:
    """(message_id, attempt) → the provider's id of attempts that it took."""
    return {
        (row.message_id.hex, row.attempt): row.provider_message_id
        for row in await _ends_of(tx, attempts)
        if row.provider_message_id is not None
    }


async def _ends_of(tx: AsyncConnection, attempts: Sequence[tuple[str, int]]) -> Sequence[Any]:
    rows = await tx.execute(
        _END_OF, {"ids": [message_id for message_id, _ in attempts], "attempts": [n for _, n in attempts]}
    )
    return rows.all()
