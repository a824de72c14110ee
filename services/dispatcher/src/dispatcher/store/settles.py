"""Writes what became of messages: compare-and-set on (message, state, attempt, owner), hundreds of rows a statement.

A late write of somebody who lost his lease changes no row; the caller hands such evidence to store/evidence.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatcher.domain.settlement import Attempt, Settlement
from dispatcher.store.rows import CLOCK
from postrider.contracts.delivery_events import AttemptSummary

_SETTLE = text(f"""
WITH {CLOCK}
UPDATE ledger l SET state = v.state, cause = v.cause, reason = v.reason, attempt = l.attempt - v.taken_back,
    next_at = COALESCE(v.next_at, clock.now), not_before = v.not_before, provider_message_id = v.provider_message_id,
    tried = CASE WHEN v.tried = '' THEN '{{}}' ELSE string_to_array(v.tried, ',') END, queue = v.queue,
    seq = l.seq + v.announced, owner = NULL, lease_until = NULL, updated_at = clock.now
FROM clock, unnest(CAST(:ids AS uuid[]), CAST(:attempts AS int[]), CAST(:from_states AS text[]),
    CAST(:states AS text[]), CAST(:causes AS text[]), CAST(:reasons AS text[]), CAST(:taken_back AS int[]),
    CAST(:next_ats AS timestamptz[]), CAST(:not_befores AS timestamptz[]), CAST(:provider_message_ids AS text[]),
    CAST(:tried AS text[]), CAST(:queues AS text[]), CAST(:announced AS int[]))
    AS v(id, attempt, from_state, state, cause, reason, taken_back, next_at, not_before, provider_message_id, tried,
         queue, announced)
WHERE l.message_id = v.id AND l.attempt = v.attempt AND l.state = v.from_state AND l.owner = :owner
RETURNING l.message_id, l.seq, clock.now
""")

_ATTEMPTS = text("""
INSERT INTO attempts (message_id, attempt, provider_id, started_at, outcome, code, provider_message_id)
SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:attempts AS int[]), CAST(:providers AS text[]),
    CAST(:started AS timestamptz[]), CAST(:outcomes AS text[]), CAST(:codes AS text[]),
    CAST(:provider_message_ids AS text[])) AS v(id, attempt, provider, started, outcome, code, provider_message_id)
ORDER BY v.id
ON CONFLICT DO NOTHING
RETURNING message_id, attempt
""")

_ATTEMPT_AGAIN = text("""
INSERT INTO attempts AS a (message_id, attempt, provider_id, started_at, outcome, code, provider_message_id)
VALUES (CAST(:id AS uuid), :attempt, :provider, :started, :outcome, :code,
    (SELECT CAST(:provider_message_id AS text) WHERE NOT EXISTS (
        SELECT 1 FROM attempts o WHERE o.provider_message_id = :provider_message_id AND o.provider_id = :provider
        AND NOT (o.message_id = CAST(:id AS uuid) AND o.attempt = :attempt))))
ON CONFLICT (message_id, attempt) DO UPDATE SET outcome = excluded.outcome, code = excluded.code,
    provider_message_id = COALESCE(a.provider_message_id, excluded.provider_message_id)
RETURNING provider_message_id
""")

_HISTORY = text("""
SELECT message_id, attempt, provider_id, started_at, outcome, code FROM attempts
WHERE message_id = ANY(CAST(:ids AS uuid[])) ORDER BY message_id, attempt
""")


@dataclass(frozen=True, slots=True)
class Written:
    """`seq` and `at` of a settlement that changed its row."""

    settlement: Settlement
    seq: int
    at: datetime


async def settle(tx: AsyncConnection, owner: str, settlements: Sequence[Settlement]) -> list[Written]:
    """Those that changed a row. The others have been moved on by somebody else."""
    rows = await tx.execute(
        _SETTLE,
        {
            "owner": owner,
            "ids": [each.message.message_id for each in settlements],
            "attempts": [each.message.attempt for each in settlements],
            "from_states": [each.message.state.value for each in settlements],
            "states": [each.state.value for each in settlements],
            "causes": [each.cause for each in settlements],
            "reasons": [each.reason for each in settlements],
            "taken_back": [each.attempts_taken_back for each in settlements],
            "next_ats": [each.next_at for each in settlements],
            "not_befores": [each.not_before for each in settlements],
            "provider_message_ids": [each.provider_message_id for each in settlements],
            "tried": [",".join(each.tried_after) for each in settlements],
            "queues": [each.queue_after for each in settlements],
            "announced": [int(each.is_announced) for each in settlements],
        },
    )
    by_id = {each.message.message_id: each for each in settlements}
    return [Written(by_id[row.message_id.hex], row.seq, row.now) for row in rows]


async def keep_attempts(tx: AsyncConnection, attempts: Iterable[tuple[str, Attempt]]) -> list[tuple[str, Attempt]]:
    """Writes the ends of calls. Returns those whose provider message id belongs to another message already:
    the provider gave one id to two texts, or a look-up took it for this one."""
    wanted = {(message_id, attempt.attempt): attempt for message_id, attempt in attempts}
    if not wanted:
        return []
    rows = await tx.execute(
        _ATTEMPTS,
        {
            "ids": [message_id for message_id, _ in wanted],
            "attempts": [number for _, number in wanted],
            "providers": [each.provider_id for each in wanted.values()],
            "started": [each.started_at for each in wanted.values()],
            "outcomes": [each.outcome for each in wanted.values()],
            "codes": [each.code for each in wanted.values()],
            "provider_message_ids": [each.provider_message_id for each in wanted.values()],
        },
    )
    new = {(row.message_id.hex, row.attempt) for row in rows}
    taken = []
    for (message_id, number), attempt in wanted.items():
        if (message_id, number) in new:
            continue
        again = await tx.execute(
            _ATTEMPT_AGAIN,
            {
                "id": message_id,
                "attempt": number,
                "provider": attempt.provider_id,
                "started": attempt.started_at,
                "outcome": attempt.outcome,
                "code": attempt.code,
                "provider_message_id": attempt.provider_message_id,
            },
        )
        if attempt.provider_message_id is not None and again.scalar_one() != attempt.provider_message_id:
            taken.append((message_id, attempt))
    return taken


def summaries(attempt: Attempt | None) -> list[AttemptSummary]:
    """The history of a message whose first call this was."""
    if attempt is None:
        return []
    return [AttemptSummary(attempt.attempt, attempt.provider_id, attempt.outcome, attempt.started_at, attempt.code)]


async def history(tx: AsyncConnection, message_ids: Sequence[str]) -> dict[str, list[AttemptSummary]]:
    """Attempts that ended, by message."""
    found: dict[str, list[AttemptSummary]] = {}
    if message_ids:
        for row in await tx.execute(_HISTORY, {"ids": list(message_ids)}):
            found.setdefault(row.message_id.hex, []).append(
                AttemptSummary(row.attempt, row.provider_id, row.outcome, row.started_at, row.code)
            )
    return found
