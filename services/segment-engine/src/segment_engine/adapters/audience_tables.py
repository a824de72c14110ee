"""Tables `audience_runs`, `page_streams`, `settlements`: what the scheduler asked for, and how far it is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from postrider.contracts import codec
from postrider.contracts.audience import SnapshotRequested, UnexpandedSettled, ZoneRequested
from segment_engine.domain.pages import Stream

_ADD_RUNS = text("""
INSERT INTO audience_runs (run_id, request)
SELECT * FROM unnest(CAST(:ids AS text[]), CAST(:requests AS text[])) ON CONFLICT DO NOTHING
""")
_REQUESTED = text("""
SELECT request FROM audience_runs WHERE state = 'requested' ORDER BY received_at, run_id LIMIT :limit
""")
_SETTLE_RUN = text("""
UPDATE audience_runs SET state = :state, total = :total, reachable = :reachable, reason = :reason, settled_at = db_now()
WHERE run_id = :run_id AND state = 'requested'
""")
_ADD_STREAMS = text("""
INSERT INTO page_streams (run_id, zone, campaign_id, occurrence, what_version, profile_references, page_size)
SELECT run_id, zone, campaign_id, occurrence, what_version, names::json, page_size
FROM unnest(CAST(:ids AS text[]), CAST(:zones AS text[]), CAST(:campaigns AS text[]), CAST(:occurrences AS text[]),
            CAST(:whats AS int[]), CAST(:names AS text[]), CAST(:sizes AS int[]))
     AS v(run_id, zone, campaign_id, occurrence, what_version, names, page_size)
ON CONFLICT DO NOTHING
""")
_OPEN_STREAMS = text("""
SELECT s.run_id, s.zone, s.campaign_id, s.occurrence, s.what_version, s.profile_references::text AS names, s.page_size,
       s.next_page, s.after_rank
FROM page_streams s JOIN audience_runs r ON r.run_id = s.run_id AND r.state = 'done'
WHERE s.state = 'open' ORDER BY s.received_at, s.run_id, s.zone
""")
_MOVE_STREAM = text("""
UPDATE page_streams SET next_page = :next_page, after_rank = :after_rank, state = :state
WHERE run_id = :run_id AND zone = :zone AND next_page = :page AND state = 'open'
""")
_ADD_SETTLEMENTS = text("""
INSERT INTO settlements (id, request)
SELECT id, request::json FROM unnest(CAST(:ids AS text[]), CAST(:requests AS text[])) AS v(id, request)
ON CONFLICT DO NOTHING
""")
_OPEN_SETTLEMENTS = text(
    "SELECT id, request::text AS request FROM settlements WHERE NOT done ORDER BY received_at, id LIMIT :limit"
)
_SETTLED = text("UPDATE settlements SET done = true WHERE id = :id")

_names = msgspec.json.Decoder(tuple[str, ...])


async def add_runs(tx: AsyncConnection, requests: Sequence[SnapshotRequested]) -> None:
    """A run that is known keeps its first request."""
    await tx.execute(
        _ADD_RUNS,
        {
            "ids": [request.run_id for request in requests],
            "requests": [codec.encode(request).decode() for request in requests],
        },
    )


async def requested_runs(tx: AsyncConnection, limit: int) -> list[SnapshotRequested]:
    rows = await tx.execute(_REQUESTED, {"limit": limit})
    return [codec.decode(row.request.encode(), SnapshotRequested) for row in rows]


async def finish_run(tx: AsyncConnection, run_id: str, total: int, reachable: int) -> bool:
    """False when it was finished before."""
    row = {"run_id": run_id, "state": "done", "total": total, "reachable": reachable, "reason": None}
    return (await tx.execute(_SETTLE_RUN, row)).rowcount == 1


async def refuse_run(tx: AsyncConnection, run_id: str, reason: str) -> bool:
    row = {"run_id": run_id, "state": "refused", "total": None, "reachable": None, "reason": reason}
    return (await tx.execute(_SETTLE_RUN, row)).rowcount == 1


async def add_streams(tx: AsyncConnection, requests: Sequence[ZoneRequested]) -> None:
    """A zone that is known goes on where it is."""
    await tx.execute(
        _ADD_STREAMS,
        {
            "ids": [request.run_id for request in requests],
            "zones": [request.zone for request in requests],
            "campaigns": [request.campaign_id for request in requests],
            "occurrences": [request.occurrence for request in requests],
            "whats": [request.what_version for request in requests],
            "names": [msgspec.json.encode(request.profile_references).decode() for request in requests],
            "sizes": [request.page_size for request in requests],
        },
    )


async def open_streams(tx: AsyncConnection) -> list[Stream]:
    """Those whose audience is fixed."""
    return [
        Stream(
            row.run_id,
            row.zone,
            row.campaign_id,
            row.occurrence,
            row.what_version,
            _names.decode(row.names),
            row.page_size,
            row.next_page,
            row.after_rank,
        )
        for row in await tx.execute(_OPEN_STREAMS)
    ]


async def move_stream(tx: AsyncConnection, stream: Stream, next_page: int, after_rank: int, state: str) -> bool:
    """Compare-and-set on the page. False: somebody else moved it, or it is over."""
    result = await tx.execute(
        _MOVE_STREAM,
        {
            "run_id": stream.run_id,
            "zone": stream.zone,
            "page": stream.next_page,
            "next_page": next_page,
            "after_rank": after_rank,
            "state": state,
        },
    )
    return result.rowcount == 1


@dataclass(frozen=True, slots=True)
class Settlement:
    id: str
    request: UnexpandedSettled


async def add_settlements(tx: AsyncConnection, settlements: Sequence[Settlement]) -> None:
    await tx.execute(
        _ADD_SETTLEMENTS,
        {
            "ids": [settlement.id for settlement in settlements],
            "requests": [codec.encode(settlement.request).decode() for settlement in settlements],
        },
    )


async def open_settlements(tx: AsyncConnection, limit: int) -> list[Settlement]:
    rows = await tx.execute(_OPEN_SETTLEMENTS, {"limit": limit})
    return [Settlement(row.id, codec.decode(row.request.encode(), UnexpandedSettled)) for row in rows]


async def mark_settled(tx: AsyncConnection, id: str) -> None:
    await tx.execute(_SETTLED, {"id": id})
