"""Writes what became of messages: compare-and-set on (message, state, attempt, owner), hundreds of rows a statement.

A late write of somebody who lost his lease changes no row; the caller hands such evidence to store/evidence.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatcher.domain.settlement import Attempt, Settlement
from dispatcher.store.rows import BY_ID, CLOCK, DAY, DAYS
from postrider.contracts.delivery_events import AttemptSummary

# One statement writes the states and the ends of calls: a round trip more is paid by every batch. Rows are locked in
# the order of the arrays, which is that of ids, as evidence locks them.
_SETTLE = text(f"""
WITH {CLOCK},
settled AS (
UPDATE ledger l SET state = v.state, cause = v.cause, reason = v.reason, attempt = l.attempt - v.taken_back,
    next_at = COALESCE(v.next_at, clock.now), not_before = v.not_before, provider_message_id = v.provider_message_id,
    tried = CASE WHEN v.tried = '' THEN '{{}}' ELSE string_to_array(v.tried, ',') END, queue = v.queue,
    seq = l.seq + v.announced, owner = NULL, lease_until = NULL, updated_at = clock.now
FROM clock, unnest(CAST(:ids AS uuid[]), CAST(:attempts AS int[]), CAST(:from_states AS text[]),
    CAST(:states AS text[]), CAST(:causes AS text[]), CAST(:reasons AS text[]), CAST(:taken_back AS int[]),
    CAST(:next_ats AS timestamptz[]), CAST(:not_befores AS timestamptz[]), CAST(:provider_message_ids AS text[]),
    CAST(:tried AS text[]), CAST(:queues AS text[]), CAST(:announced AS int[]), CAST(:owners AS text[]),
    CAST(:called AS text[]), CAST(:started AS timestamptz[]), CAST(:outcomes AS text[]), CAST(:codes AS text[]),
    CAST(:given_ids AS text[])) WITH ORDINALITY
    AS v(id, attempt, from_state, state, cause, reason, taken_back, next_at, not_before, provider_message_id, tried,
         queue, announced, owner, called, started, outcome, code, given_id, place)
WHERE l.message_id = v.id AND l.attempt = v.attempt AND l.state = v.from_state AND l.owner = v.owner
RETURNING v.place, l.seq, {DAY} AS day, v.id, v.attempt, v.called, v.started, v.outcome, v.code, v.given_id
),
ended AS (
INSERT INTO attempts (day, message_id, attempt, provider_id, started_at, outcome, code, provider_message_id, ended_at)
SELECT day, id, attempt, called, started, outcome, code, given_id, clock.now
FROM settled, clock WHERE called IS NOT NULL
ON CONFLICT DO NOTHING
RETURNING 1
)
SELECT settled.place, settled.seq, clock.now, (SELECT count(*) FROM ended) AS ended FROM settled, clock
""")

# Nearly every settlement is of this kind, and everything but four words of it is in the row already.
_ACCEPT = text(f"""
WITH {BY_ID},
settled AS (
UPDATE ledger l SET state = 'ACCEPTED', cause = '', reason = '', next_at = clock.now, not_before = NULL,
    provider_message_id = v.given_id, seq = l.seq + 1, owner = NULL, lease_until = NULL, updated_at = clock.now
FROM clock, unnest(CAST(:ids AS uuid[]), CAST(:attempts AS int[]), CAST(:owners AS text[]), CAST(:given_ids AS text[]))
    WITH ORDINALITY AS v(id, attempt, owner, given_id, place)
WHERE l.message_id = v.id AND l.attempt = v.attempt AND l.state = clock.submitting AND l.owner = v.owner
RETURNING v.place, l.seq, {DAY} AS day, v.id, v.attempt, l.provider_id, l.marked_at, v.given_id
),
ended AS (
INSERT INTO attempts (day, message_id, attempt, provider_id, started_at, outcome, code, provider_message_id, ended_at)
SELECT day, id, attempt, provider_id, marked_at, 'accepted', '', given_id, clock.now FROM settled, clock
ON CONFLICT DO NOTHING
RETURNING 1
)
SELECT settled.place, settled.seq, clock.now, (SELECT count(*) FROM ended) AS ended FROM settled, clock
""")

# The index keeps a provider's id to one message of a day; whoever writes here waits for others who write the same id,
# and looks through all days. A settlement is spared that: it has the id from the provider's own reply.
_ONE_BY_ONE = text("""
SELECT pg_advisory_xact_lock(k.key) FROM (
    SELECT DISTINCT hashtextextended(v.id || ' ' || v.provider, 0) AS key
    FROM unnest(CAST(:provider_message_ids AS text[]), CAST(:providers AS text[])) AS v(id, provider) ORDER BY 1
) k
""")

_HELD = text(f"""
WITH RECURSIVE {DAYS}
SELECT v.id, v.attempt
FROM unnest(CAST(:ids AS uuid[]), CAST(:attempts AS int[]), CAST(:providers AS text[]),
    CAST(:provider_message_ids AS text[])) AS v(id, attempt, provider, provider_message_id)
CROSS JOIN days d
JOIN attempts o ON o.day = d.day AND o.provider_message_id = v.provider_message_id AND o.provider_id = v.provider
WHERE NOT (o.message_id = v.id AND o.attempt = v.attempt)
""")

_ATTEMPTS = text(f"""
INSERT INTO attempts (day, message_id, attempt, provider_id, started_at, outcome, code, provider_message_id)
SELECT {DAY}, v.*
FROM unnest(CAST(:ids AS uuid[]), CAST(:attempts AS int[]), CAST(:providers AS text[]),
    CAST(:started AS timestamptz[]), CAST(:outcomes AS text[]), CAST(:codes AS text[]),
    CAST(:provider_message_ids AS text[])) AS v(id, attempt, provider, started, outcome, code, provider_message_id)
JOIN ledger l ON l.message_id = v.id
ORDER BY v.id
ON CONFLICT DO NOTHING
RETURNING message_id, attempt
""")

_ATTEMPT_AGAIN = text(f"""
WITH RECURSIVE {DAYS}
INSERT INTO attempts AS a (day, message_id, attempt, provider_id, started_at, outcome, code, provider_message_id)
SELECT {DAY}, l.message_id, CAST(:attempt AS int), :provider, CAST(:started AS timestamptz), :outcome, :code,
    (SELECT CAST(:provider_message_id AS text) WHERE NOT EXISTS (
        SELECT 1 FROM days d JOIN attempts o ON o.day = d.day AND o.provider_message_id = :provider_message_id
            AND o.provider_id = :provider
        WHERE NOT (o.message_id = CAST(:id AS uuid) AND o.attempt = :attempt)))
FROM ledger l WHERE l.message_id = CAST(:id AS uuid)
ON CONFLICT (day, message_id, attempt) DO UPDATE SET outcome = excluded.outcome,
    code = CASE excluded.code WHEN '' THEN a.code ELSE excluded.code END,
    provider_message_id = COALESCE(a.provider_message_id, excluded.provider_message_id)
RETURNING provider_message_id
""")

_HISTORY = text(f"""
SELECT a.message_id, a.attempt, a.provider_id, a.started_at, a.outcome, a.code, a.ended_at
FROM ledger l JOIN attempts a ON a.day = {DAY} AND a.message_id = l.message_id
WHERE l.message_id = ANY(CAST(:ids AS uuid[])) ORDER BY a.message_id, a.attempt
""")


class Written(Struct, frozen=True):
    """`seq` and `at` of a settlement that changed its row."""

    settlement: Settlement
    seq: int
    at: datetime


def alike(settlements: Sequence[Settlement]) -> list[Sequence[Settlement]]:
    """Plain acceptances, and all else: a statement each, and a transaction each, since rows are locked in one order."""
    plain: list[Settlement] = []
    others: list[Settlement] = []
    for each in settlements:
        (plain if each.is_plain_acceptance else others).append(each)
    return [part for part in (plain, others) if part]


async def settle(
    tx: AsyncConnection, settlements: Sequence[Settlement]
) -> tuple[list[Written], list[tuple[str, Attempt]]]:
    """Those that changed a row, and what `keep_attempts` says of the ends of their calls, which are written too. The
    other settlements' rows have been moved on by somebody else.

    Two settlements of one message may come together (one of them from a mark that is over): which of them matched the
    row is told by its place, not by the message's id.
    """
    ordered = sorted(settlements, key=_id_of)
    arrays: dict[str, Any] = {
        "ids": [each.message.message_id for each in ordered],
        "attempts": [each.message.attempt for each in ordered],
        "owners": [each.message.owner for each in ordered],
    }
    if all(each.is_plain_acceptance for each in ordered):
        arrays["given_ids"] = [each.provider_message_id for each in ordered]
        rows = await tx.execute(_ACCEPT, arrays)
    else:
        rows = await tx.execute(_SETTLE, arrays | _more_arrays(ordered))
    found = rows.all()
    written = [Written(ordered[row.place - 1], row.seq, row.now) for row in found]
    calls = [
        (each.settlement.message.message_id, each.settlement.attempt)
        for each in written
        if each.settlement.attempt is not None
    ]
    return written, await keep_attempts(tx, calls) if calls and found[0].ended < len(calls) else []


def _id_of(settlement: Settlement) -> str:
    return settlement.message.message_id


def _more_arrays(ordered: Sequence[Settlement]) -> dict[str, Any]:
    attempts = [each.attempt for each in ordered]
    return {
        "from_states": [each.message.state.value for each in ordered],
        "states": [each.state.value for each in ordered],
        "causes": [each.cause for each in ordered],
        "reasons": [each.reason for each in ordered],
        "taken_back": [each.attempts_taken_back for each in ordered],
        "next_ats": [each.next_at for each in ordered],
        "not_befores": [each.not_before for each in ordered],
        "provider_message_ids": [each.provider_message_id for each in ordered],
        "tried": [",".join(each.tried_after) for each in ordered],
        "queues": [each.queue_after for each in ordered],
        "announced": [int(each.is_announced) for each in ordered],
        "called": [each and each.provider_id for each in attempts],
        "started": [each and each.started_at for each in attempts],
        "outcomes": [each and each.outcome for each in attempts],
        "codes": [each and each.code for each in attempts],
        "given_ids": [each and each.provider_message_id for each in attempts],
    }


async def keep_attempts(tx: AsyncConnection, attempts: Iterable[tuple[str, Attempt]]) -> list[tuple[str, Attempt]]:
    """Writes the ends of calls. Returns those whose provider message id belongs to another message already:
    the provider gave one id to two texts, or a look-up took it for this one."""
    wanted = {(message_id, attempt.attempt): attempt for message_id, attempt in attempts}
    if not wanted:
        return []
    held = await _held_elsewhere(tx, wanted)
    free = {key: attempt for key, attempt in wanted.items() if key not in held}
    rows = await tx.execute(_ATTEMPTS, _columns(free) | {
        "started": [each.started_at for each in free.values()],
        "outcomes": [each.outcome for each in free.values()],
        "codes": [each.code for each in free.values()],
    })  # fmt: skip
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


async def _held_elsewhere(tx: AsyncConnection, wanted: Mapping[tuple[str, int], Attempt]) -> set[tuple[str, int]]:
    """Those whose provider message id another attempt has, of whatever day, or an earlier one of these. Until the
    transaction ends nobody else comes through here with these ids."""
    named: dict[tuple[str, int], Attempt] = {}
    held = set()
    first: dict[tuple[str, str], tuple[str, int]] = {}
    for key, attempt in wanted.items():
        if attempt.provider_message_id is not None:
            named[key] = attempt
            if first.setdefault((attempt.provider_id, attempt.provider_message_id), key) != key:
                held.add(key)
    if named:
        columns = _columns(named)
        await tx.execute(_ONE_BY_ONE, {name: columns[name] for name in ("providers", "provider_message_ids")})
        held |= {(row.id.hex, row.attempt) for row in await tx.execute(_HELD, columns)}
    return held


def _columns(attempts: Mapping[tuple[str, int], Attempt]) -> dict[str, list[object]]:
    return {
        "ids": [message_id for message_id, _ in attempts],
        "attempts": [number for _, number in attempts],
        "providers": [each.provider_id for each in attempts.values()],
        "provider_message_ids": [each.provider_message_id for each in attempts.values()],
    }


def summaries(attempt: Attempt | None, ended_at: datetime) -> list[AttemptSummary]:
    """The history of a message whose first call this was."""
    if attempt is None:
        return []
    return [
        AttemptSummary(
            attempt.attempt, attempt.provider_id, attempt.outcome, attempt.started_at, attempt.code, ended_at
        )
    ]


async def history(tx: AsyncConnection, message_ids: Sequence[str]) -> dict[str, list[AttemptSummary]]:
    """Attempts that ended, by message."""
    found: dict[str, list[AttemptSummary]] = {}
    if message_ids:
        for row in await tx.execute(_HISTORY, {"ids": list(message_ids)}):
            found.setdefault(row.message_id.hex, []).append(
                AttemptSummary(row.attempt, row.provider_id, row.outcome, row.started_at, row.code, row.ended_at)
            )
    return found
