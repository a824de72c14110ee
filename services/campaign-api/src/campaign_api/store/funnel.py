"""Funnel counters and runs: what delivery-events add up to. One statement per batch and table."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.domain.campaign_states import RUN_RANKS, Progress
from campaign_api.domain.funnel import Cell
from campaign_api.domain.resource import rfc3339
from postrider.contracts.delivery_events import ACCEPTED_STATUSES, RunChanged

APPLIED_RETENTION_SECONDS = 9 * 86_400
"""Longer than delivery-events are kept: what is older cannot be read again."""

_CLAIM = text("""
INSERT INTO applied_events (id) SELECT unnest(CAST(:ids AS text[])) ON CONFLICT (id) DO NOTHING RETURNING id
""")
_ADD = text("""
INSERT INTO funnel AS f (campaign_id, run_id, variant, provider_id, status, reason, n)
SELECT * FROM unnest(CAST(:campaigns AS text[]), CAST(:runs AS text[]), CAST(:variants AS text[]),
                     CAST(:providers AS text[]), CAST(:statuses AS text[]), CAST(:reasons AS text[]),
                     CAST(:ns AS bigint[]))
ON CONFLICT (campaign_id, run_id, variant, provider_id, status, reason) DO UPDATE SET n = f.n + excluded.n
""")
_RUNS = text("""
INSERT INTO runs AS r (run_id, campaign_id, occurrence, state, rank, total, reachable, reason, started_at, changed_at)
SELECT DISTINCT ON (v.run_id) v.run_id, v.campaign_id, v.occurrence, v.state, v.rank,
       max(v.total) OVER whole, max(v.reachable) OVER whole, max(v.reason) OVER whole, min(v.at) OVER whole, v.at
FROM unnest(CAST(:ids AS text[]), CAST(:campaigns AS text[]), CAST(:occurrences AS text[]), CAST(:states AS text[]),
            CAST(:ranks AS int[]), CAST(:totals AS bigint[]), CAST(:reachables AS bigint[]), CAST(:reasons AS text[]),
            CAST(:ats AS timestamptz[]))
     AS v(run_id, campaign_id, occurrence, state, rank, total, reachable, reason, at)
WINDOW whole AS (PARTITION BY v.run_id)
ORDER BY v.run_id, v.rank DESC, v.at DESC
ON CONFLICT (run_id) DO UPDATE SET
    state = excluded.state, rank = excluded.rank, changed_at = excluded.changed_at,
    total = greatest(r.total, excluded.total), reachable = greatest(r.reachable, excluded.reachable),
    reason = CASE WHEN excluded.reason = '' THEN r.reason ELSE excluded.reason END
WHERE r.rank < excluded.rank OR (r.rank = excluded.rank AND r.changed_at <= excluded.changed_at)
""")
_REPORT = text("""
SELECT 'cell' AS what, campaign_id, run_id, variant, provider_id, status, reason, n,
       NULL AS occurrence, NULL AS total, NULL AS reachable, NULL AS started_at, NULL AS changed_at
FROM funnel WHERE campaign_id = :id
UNION ALL
SELECT 'run', campaign_id, run_id, '', '', state, reason, 0, occurrence, total, reachable, started_at, changed_at
FROM runs WHERE campaign_id = :id
ORDER BY 1, 3
""")
_STANDINGS = text("""
SELECT c.id AS campaign_id, coalesce(r.state, '') AS state, coalesce(r.reason, '') AS reason, f.sent,
       EXISTS (SELECT 1 FROM runs WHERE campaign_id = c.id AND state IN ('running', 'expanded')) AS has_started,
       f.open + greatest((SELECT coalesce(sum(total), 0) FROM runs WHERE campaign_id = c.id) - f.qualified, 0) AS open
FROM unnest(CAST(:ids AS text[])) AS c(id)
LEFT JOIN LATERAL (
    SELECT state, reason FROM runs WHERE campaign_id = c.id ORDER BY (state = 'removed'), rank, run_id LIMIT 1
) r ON true
CROSS JOIN LATERAL (
    SELECT coalesce(sum(n), 0) AS qualified,
           coalesce(sum(n) FILTER (WHERE status IN ('pending', 'in_doubt')), 0) AS open,
           coalesce(sum(n) FILTER (WHERE status = ANY(CAST(:sent AS text[]))), 0) AS sent
    FROM funnel WHERE campaign_id = c.id
) f
""")
_USES_PROVIDER = text("SELECT 1 FROM funnel WHERE provider_id = :id LIMIT 1")
_FORGET = text("""
DELETE FROM applied_events WHERE id IN (
    SELECT id FROM applied_events WHERE at < db_now() - make_interval(secs => :seconds) LIMIT 5000)
""")


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a campaign is. `reason`: of the run furthest behind.

    People of a run whose first move a crash has held back count as open: it comes late, and then their other moves
    have long been here.
    """

    campaign_id: str
    progress: Progress
    reason: str


async def claim(tx: AsyncConnection, ids: Sequence[str]) -> frozenset[str]:
    """Those of the envelope ids that were never applied before; they are now."""
    return frozenset(row.id for row in await tx.execute(_CLAIM, {"ids": sorted(set(ids))}))


async def add(tx: AsyncConnection, deltas: dict[Cell, int]) -> None:
    if not deltas:
        return
    cells = sorted(deltas, key=lambda c: (c.campaign_id, c.run_id, c.variant, c.provider_id, c.status, c.reason))
    await tx.execute(
        _ADD,
        {
            "campaigns": [cell.campaign_id for cell in cells],
            "runs": [cell.run_id for cell in cells],
            "variants": [cell.variant for cell in cells],
            "providers": [cell.provider_id for cell in cells],
            "statuses": [cell.status for cell in cells],
            "reasons": [cell.reason for cell in cells],
            "ns": [deltas[cell] for cell in cells],
        },
    )


async def change_runs(tx: AsyncConnection, changes: Sequence[RunChanged]) -> None:
    """A run only moves on: a repeated or late change is dropped. The state must be one of RUN_RANKS."""
    if not changes:
        return
    await tx.execute(
        _RUNS,
        {
            "ids": [change.run_id for change in changes],
            "campaigns": [change.campaign_id for change in changes],
            "occurrences": [change.occurrence for change in changes],
            "states": [change.state for change in changes],
            "ranks": [RUN_RANKS[change.state] for change in changes],
            "totals": [change.total for change in changes],
            "reachables": [change.reachable for change in changes],
            "reasons": [change.reason for change in changes],
            "ats": [change.at for change in changes],
        },
    )


async def standings(tx: AsyncConnection, campaign_ids: Collection[str]) -> list[Standing]:
    """Of each of the campaigns."""
    rows = await tx.execute(_STANDINGS, {"ids": sorted(campaign_ids), "sent": [*ACCEPTED_STATUSES, "unknown"]})
    return [
        Standing(row.campaign_id, Progress(row.state, row.has_started, int(row.open), int(row.sent)), row.reason)
        for row in rows
    ]


async def progress_of(tx: AsyncConnection, campaign_id: str) -> Progress:
    (standing,) = await standings(tx, [campaign_id])
    return standing.progress


async def read_report(tx: AsyncConnection, campaign_id: str) -> tuple[dict[Cell, int], list[dict[str, Any]]]:
    """Counters and runs from one snapshot, so that they add up."""
    cells: dict[Cell, int] = {}
    runs: list[dict[str, Any]] = []
    for row in await tx.execute(_REPORT, {"id": campaign_id}):
        if row.what == "cell":
            cell = Cell(row.campaign_id, row.run_id, row.variant, row.provider_id, row.status, row.reason)
            cells[cell] = row.n
        else:
            runs.append(_run(row))
    return cells, runs


async def uses_provider(tx: AsyncConnection, provider_id: str) -> bool:
    """Whether a message was ever given to this provider."""
    return (await tx.execute(_USES_PROVIDER, {"id": provider_id})).first() is not None


async def forget_applied(tx: AsyncConnection) -> int:
    return int((await tx.execute(_FORGET, {"seconds": APPLIED_RETENTION_SECONDS})).rowcount)


def _run(row: Any) -> dict[str, Any]:
    return {
        "run_id": row.run_id,
        "occurrence": row.occurrence,
        "state": row.status,
        "reason": row.reason or None,
        "total": row.total,
        "reachable": row.reachable,
        "started_at": rfc3339(row.started_at),
        "changed_at": rfc3339(row.changed_at),
    }


def states_known(changes: Iterable[RunChanged]) -> list[RunChanged]:
    """A state that a newer scheduler knows and we do not changes nothing here."""
    return [change for change in changes if change.state in RUN_RANKS]
