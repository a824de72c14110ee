"""The rows of runs, zones and live sends: SQL in and out of the domain's shapes. Decides nothing.

Order of locks, everywhere: run rows by id, then zone rows by (run, zone). Expanding pages holds a run FOR SHARE,
whatever changes the run itself (snapshot, stop, end) holds it FOR UPDATE: so each person is counted by exactly one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from postrider.contracts import codec
from postrider.contracts.audience import AudiencePage
from postrider.contracts.definitions import CampaignDefinition
from postrider.scheduling.occurrences import ONE_TIME
from scheduler.domain.moves import RunName, Zone
from scheduler.domain.run_states import RunState, ZoneState
from scheduler.domain.runs import Run

ZoneKey = tuple[str, str]
PageKey = tuple[str, str, int]


_RUN_COLUMNS = """run_id, campaign_id, occurrence, state, seed, definition, account_zone, scheduled_at, request_at,
                  requested_at, total, reachable, reason, paused, resumed_at, cut"""
_ZONE_COLUMNS = "run_id, zone, users, state, due_at, send_by, next_page, expanded_users, reason, following_at, begin_at"

_NOW = text("SELECT db_now()")
_ADD_RUN = text("""
INSERT INTO runs (run_id, campaign_id, occurrence, state, seed, definition_version, definition, account_zone,
                  scheduled_at, request_at, paused, resumed_at, reason)
VALUES (:run_id, :campaign_id, :occurrence, :state, :seed, :version, :definition, :account_zone, :scheduled_at,
        :request_at, :paused, :resumed_at, :reason)
ON CONFLICT DO NOTHING
""")
_SAVE_RUN = text("""
UPDATE runs SET state = :state, definition_version = :version, definition = :definition, account_zone = :account_zone,
    scheduled_at = :scheduled_at, request_at = :request_at, requested_at = :requested_at, total = :total,
    reachable = :reachable, reason = :reason, paused = :paused, resumed_at = :resumed_at, cut = :cut,
    updated_at = clock_timestamp()
WHERE run_id = :run_id
""")
_RUNS = f"SELECT {_RUN_COLUMNS} FROM runs WHERE run_id = ANY(CAST(:ids AS text[])) ORDER BY run_id "
_RUNS_FOR_UPDATE = text(_RUNS + "FOR UPDATE")
_RUNS_FOR_SHARE = text(_RUNS + "FOR SHARE")
_OPEN_RUNS = text(f"""
SELECT {_RUN_COLUMNS} FROM runs
WHERE campaign_id = :campaign_id AND state IN ('planned', 'requested', 'running') ORDER BY run_id FOR UPDATE
""")
_RUN_OF = text(f"SELECT {_RUN_COLUMNS} FROM runs WHERE run_id = :run_id FOR UPDATE")
_KNOWN_OCCURRENCES = text("""
WITH known AS (
    SELECT occurrence, state FROM runs
    WHERE campaign_id = :campaign_id AND state <> 'removed' AND (occurrence = 'once') = :once
)
SELECT occurrence, state FROM known
WHERE occurrence >= :since OR state = 'planned' OR occurrence = (SELECT max(occurrence) FROM known)
""")
_RUNS_OF = text(f"""
SELECT {_RUN_COLUMNS} FROM runs
WHERE campaign_id = :campaign_id AND (CAST(:ids AS text[]) IS NULL OR run_id = ANY(CAST(:ids AS text[])))
ORDER BY run_id
""")
_ACTIVE_CAMPAIGNS = text("SELECT DISTINCT campaign_id FROM runs WHERE state IN ('planned', 'requested', 'running')")
_TO_REQUEST = text(f"""
SELECT {_RUN_COLUMNS} FROM runs WHERE state = 'planned' AND NOT paused AND request_at <= (SELECT db_now())
ORDER BY request_at, run_id LIMIT :limit FOR UPDATE SKIP LOCKED
""")
_TO_FINISH = text(f"""
SELECT {_RUN_COLUMNS} FROM runs r WHERE state = 'running' AND NOT EXISTS
    (SELECT 1 FROM zone_timers z WHERE z.run_id = r.run_id AND z.state IN ('waiting', 'requested'))
ORDER BY run_id LIMIT :limit FOR UPDATE SKIP LOCKED
""")
_NEXT_TURN = text("""
SELECT extract(epoch FROM least(
    (SELECT min(request_at) FROM runs WHERE state = 'planned' AND NOT paused),
    (SELECT min(z.begin_at) FROM zone_timers z JOIN runs r ON r.run_id = z.run_id
     WHERE z.state = 'waiting' AND NOT r.paused)) - (SELECT db_now()))
""")
_ADD_ZONES = text("""
INSERT INTO zone_timers (run_id, zone, users, state, due_at, send_by, reason, following_at, begin_at)
SELECT :run_id, v.zone, v.users, v.state, v.due_at, v.send_by, v.reason, v.following_at, v.begin_at
FROM unnest(CAST(:zones AS text[]), CAST(:users AS int[]), CAST(:states AS text[]), CAST(:dues AS timestamptz[]),
            CAST(:send_bys AS timestamptz[]), CAST(:reasons AS text[]), CAST(:followings AS timestamptz[]),
            CAST(:begins AS timestamptz[]))
     AS v(zone, users, state, due_at, send_by, reason, following_at, begin_at)
""")
_SAVE_ZONES = text("""
UPDATE zone_timers z
SET users = v.users, state = v.state, next_page = v.next_page, expanded_users = v.expanded, reason = v.reason
FROM unnest(CAST(:run_ids AS text[]), CAST(:zones AS text[]), CAST(:users AS int[]), CAST(:states AS text[]),
            CAST(:next_pages AS int[]), CAST(:expanded AS int[]), CAST(:reasons AS text[]))
     AS v(run_id, zone, users, state, next_page, expanded, reason)
WHERE z.run_id = v.run_id AND z.zone = v.zone
""")
_ZONES_OF_RUN = f"SELECT {_ZONE_COLUMNS} FROM zone_timers WHERE run_id = :run_id ORDER BY zone"
_ZONES_OF_RUNS = text(f"""
SELECT {_ZONE_COLUMNS} FROM zone_timers WHERE run_id = ANY(CAST(:ids AS text[])) ORDER BY run_id, zone
""")
_LOCK_ZONES_OF_RUN = text(_ZONES_OF_RUN + " FOR UPDATE")
_ZONES = text(f"""
SELECT {_ZONE_COLUMNS} FROM zone_timers
WHERE (run_id, zone) IN (SELECT * FROM unnest(CAST(:run_ids AS text[]), CAST(:zones AS text[])))
ORDER BY run_id, zone FOR UPDATE
""")
_WAITING_ZONES = """
SELECT z.run_id, z.zone, z.users, z.state, z.due_at, z.send_by, z.next_page, z.expanded_users, z.reason,
    z.following_at, z.begin_at
FROM zone_timers z JOIN runs r ON r.run_id = z.run_id
WHERE z.state = 'waiting' AND r.state = 'running'
"""
_LOCKED_ZONES = "LIMIT :limit FOR SHARE OF r SKIP LOCKED FOR UPDATE OF z SKIP LOCKED"
_DUE_ZONES = text(f"""
{_WAITING_ZONES} AND NOT r.paused AND z.begin_at <= (SELECT db_now())
ORDER BY z.begin_at, z.run_id, z.zone {_LOCKED_ZONES}
""")
_OVERDUE_ZONES = text(f"""
{_WAITING_ZONES} AND r.paused AND z.send_by <= (SELECT db_now())
ORDER BY z.send_by, z.run_id, z.zone {_LOCKED_ZONES}
""")
_PARK = text("""
INSERT INTO pages_ahead (run_id, zone, page, value)
SELECT * FROM unnest(CAST(:run_ids AS text[]), CAST(:zones AS text[]), CAST(:pages AS int[]), CAST(:values AS bytea[]))
ON CONFLICT DO NOTHING
""")
_UNPARK = text("""
DELETE FROM pages_ahead p
USING unnest(CAST(:run_ids AS text[]), CAST(:zones AS text[]), CAST(:pages AS int[])) AS v(run_id, zone, page)
WHERE p.run_id = v.run_id AND p.zone = v.zone AND p.page = v.page
RETURNING p.value
""")
_PARKED_IN_TURN = text("""
SELECT z.run_id, z.zone FROM zone_timers z JOIN runs r ON r.run_id = z.run_id
    JOIN pages_ahead p ON p.run_id = z.run_id AND p.zone = z.zone AND p.page = z.next_page
WHERE z.state = 'requested' AND r.state = 'running' ORDER BY z.due_at, z.run_id, z.zone LIMIT :limit
""")
_UNPARK_ZONES = text("""
DELETE FROM pages_ahead
WHERE (run_id, zone) IN (SELECT * FROM unnest(CAST(:run_ids AS text[]), CAST(:zones AS text[])))
""")
_UNPARK_RUN = text("DELETE FROM pages_ahead WHERE run_id = :run_id")
_NEW_LIVE = text("""
INSERT INTO live_sends (message_id)
SELECT DISTINCT CAST(v.id AS uuid) FROM unnest(CAST(:ids AS text[])) AS v(id) ORDER BY 1
ON CONFLICT DO NOTHING RETURNING replace(CAST(message_id AS text), '-', '')
""")
_SWEEP_LIVE = text("""
DELETE FROM live_sends WHERE message_id IN (
    SELECT message_id FROM live_sends
    WHERE created_at < (SELECT db_now()) - make_interval(days => :days) LIMIT :limit FOR UPDATE SKIP LOCKED)
""")


async def db_now(tx: AsyncConnection) -> datetime:
    now: datetime = (await tx.execute(_NOW)).scalar_one()
    return now


async def add_run(tx: AsyncConnection, run: Run) -> bool:
    """False when it is there already."""
    return (await tx.execute(_ADD_RUN, _run_values(run))).rowcount == 1


async def save_run(tx: AsyncConnection, run: Run) -> None:
    await tx.execute(_SAVE_RUN, _run_values(run))


async def lock_runs(tx: AsyncConnection, run_ids: Iterable[str], exclusively: bool) -> dict[str, Run]:
    statement = _RUNS_FOR_UPDATE if exclusively else _RUNS_FOR_SHARE
    rows = await tx.execute(statement, {"ids": sorted(set(run_ids))})
    return {row.run_id: _run(row) for row in rows}


async def lock_open_runs(tx: AsyncConnection, campaign_id: str) -> list[Run]:
    """Those that are not over."""
    return [_run(row) for row in await tx.execute(_OPEN_RUNS, {"campaign_id": campaign_id})]


async def lock_run(tx: AsyncConnection, run_id: str) -> Run | None:
    row = (await tx.execute(_RUN_OF, {"run_id": run_id})).one_or_none()
    return None if row is None else _run(row)


async def known_occurrences(tx: AsyncConnection, campaign_id: str, kind: str, since: str) -> dict[str, RunState]:
    """Those from the name `since` on and the latest that have, or had, a run; names sort by time. An edit may have
    changed the kind."""
    values = {"campaign_id": campaign_id, "once": kind == ONE_TIME, "since": since}
    return {row.occurrence: RunState(row.state) for row in await tx.execute(_KNOWN_OCCURRENCES, values)}


async def runs_of(tx: AsyncConnection, campaign_id: str, run_ids: Sequence[str] | None = None) -> list[Run]:
    """All of them, or those of these names."""
    values = {"campaign_id": campaign_id, "ids": None if run_ids is None else list(run_ids)}
    return [_run(row) for row in await tx.execute(_RUNS_OF, values)]


async def active_campaigns(tx: AsyncConnection) -> set[str]:
    """Campaigns with a run that is not over."""
    return set((await tx.execute(_ACTIVE_CAMPAIGNS)).scalars())


async def runs_to_request(tx: AsyncConnection, limit: int) -> list[Run]:
    return [_run(row) for row in await tx.execute(_TO_REQUEST, {"limit": limit})]


async def runs_to_finish(tx: AsyncConnection, limit: int) -> list[Run]:
    return [_run(row) for row in await tx.execute(_TO_FINISH, {"limit": limit})]


async def seconds_to_next(tx: AsyncConnection) -> float | None:
    """Until the next run or zone is due, by the database's clock; None when nothing waits."""
    seconds = (await tx.execute(_NEXT_TURN)).scalar_one()
    return None if seconds is None else float(seconds)


async def add_zones(tx: AsyncConnection, run_id: str, zones: Sequence[Zone]) -> None:
    if not zones:
        return
    values = {
        "run_id": run_id,
        "zones": [zone.zone for zone in zones],
        "users": [zone.users for zone in zones],
        "states": [zone.state.value for zone in zones],
        "dues": [zone.due_at for zone in zones],
        "send_bys": [zone.send_by for zone in zones],
        "reasons": [zone.reason for zone in zones],
        "followings": [zone.following_at for zone in zones],
        "begins": [zone.begin_at or zone.due_at for zone in zones],
    }
    await tx.execute(_ADD_ZONES, values)


async def save_zones(tx: AsyncConnection, zones: Sequence[tuple[str, Zone]]) -> None:
    """`zones`: (run id, zone). Their due and deadline never change."""
    if not zones:
        return
    values = {
        "run_ids": [run_id for run_id, _ in zones],
        "zones": [zone.zone for _, zone in zones],
        "users": [zone.users for _, zone in zones],
        "states": [zone.state.value for _, zone in zones],
        "next_pages": [zone.next_page for _, zone in zones],
        "expanded": [zone.expanded_users for _, zone in zones],
        "reasons": [zone.reason for _, zone in zones],
    }
    await tx.execute(_SAVE_ZONES, values)


async def zones_of_runs(tx: AsyncConnection, run_ids: Sequence[str]) -> dict[str, list[Zone]]:
    """For each of the runs."""
    zones: dict[str, list[Zone]] = {run_id: [] for run_id in run_ids}
    for row in await tx.execute(_ZONES_OF_RUNS, {"ids": list(run_ids)}):
        zones[row.run_id].append(_zone(row))
    return zones


async def lock_zones_of(tx: AsyncConnection, run_id: str) -> list[Zone]:
    return [_zone(row) for row in await tx.execute(_LOCK_ZONES_OF_RUN, {"run_id": run_id})]


async def lock_zones(tx: AsyncConnection, keys: Iterable[ZoneKey]) -> dict[ZoneKey, Zone]:
    rows = await tx.execute(_ZONES, _zone_keys(keys))
    return {(row.run_id, row.zone): _zone(row) for row in rows}


async def due_zones(tx: AsyncConnection, limit: int) -> list[tuple[str, Zone]]:
    """(run id, zone) of those that are due, locked; what somebody else works on is left to them."""
    return [(row.run_id, _zone(row)) for row in await tx.execute(_DUE_ZONES, {"limit": limit})]


async def overdue_zones(tx: AsyncConnection, limit: int) -> list[tuple[str, Zone]]:
    """(run id, zone) of those that a pause has held past their deadline, locked."""
    return [(row.run_id, _zone(row)) for row in await tx.execute(_OVERDUE_ZONES, {"limit": limit})]


async def park_pages(tx: AsyncConnection, pages: Sequence[AudiencePage]) -> None:
    """Keeps pages that came before their turn."""
    if not pages:
        return
    values = {
        "run_ids": [page.run_id for page in pages],
        "zones": [page.zone for page in pages],
        "pages": [page.page for page in pages],
        "values": [codec.encode(page) for page in pages],
    }
    await tx.execute(_PARK, values)


async def unpark_pages(tx: AsyncConnection, keys: Iterable[PageKey]) -> list[AudiencePage]:
    """Takes out those of the pages that are kept."""
    wanted = sorted(set(keys))
    if not wanted:
        return []
    values = {name: [key[index] for key in wanted] for index, name in enumerate(("run_ids", "zones", "pages"))}
    return [codec.decode(row.value, AudiencePage) for row in await tx.execute(_UNPARK, values)]


async def parked_in_turn(tx: AsyncConnection, limit: int) -> list[ZoneKey]:
    """Zones whose next page is kept. Not locked: somebody may be at it."""
    return [(row.run_id, row.zone) for row in await tx.execute(_PARKED_IN_TURN, {"limit": limit})]


async def unpark_zones(tx: AsyncConnection, keys: Sequence[ZoneKey]) -> None:
    """Forgets what is left of zones that are done: repeats of their pages."""
    if keys:
        await tx.execute(_UNPARK_ZONES, _zone_keys(keys))


async def unpark_run(tx: AsyncConnection, run_id: str) -> None:
    await tx.execute(_UNPARK_RUN, {"run_id": run_id})


async def new_live_sends(tx: AsyncConnection, message_ids: Sequence[str]) -> set[str]:
    """Remembers the messages; returns those that nobody remembered before."""
    return set((await tx.execute(_NEW_LIVE, {"ids": list(message_ids)})).scalars())


async def sweep_live_sends(tx: AsyncConnection, days: int, limit: int) -> int:
    """Forgets messages older than so many days; returns how many, at most `limit`."""
    return (await tx.execute(_SWEEP_LIVE, {"days": days, "limit": limit})).rowcount


def _run(row: Row[Any]) -> Run:
    return Run(
        name=RunName(row.run_id, row.campaign_id, row.occurrence),
        state=RunState(row.state),
        seed=row.seed,
        definition=codec.decode(row.definition.encode(), CampaignDefinition),
        account_zone=row.account_zone,
        scheduled_at=row.scheduled_at,
        request_at=row.request_at,
        requested_at=row.requested_at,
        total=row.total,
        reachable=row.reachable,
        reason=row.reason,
        paused=row.paused,
        resumed_at=row.resumed_at,
        cut=row.cut,
    )


def _run_values(run: Run) -> dict[str, object]:
    return {
        "run_id": run.name.run_id,
        "campaign_id": run.name.campaign_id,
        "occurrence": run.name.occurrence,
        "state": run.state.value,
        "seed": run.seed,
        "version": run.definition.version,
        "definition": codec.encode(run.definition).decode(),
        "account_zone": run.account_zone,
        "scheduled_at": run.scheduled_at,
        "request_at": run.request_at,
        "requested_at": run.requested_at,
        "total": run.total,
        "reachable": run.reachable,
        "reason": run.reason,
        "paused": run.paused,
        "resumed_at": run.resumed_at,
        "cut": run.cut,
    }


def _zone(row: Row[Any]) -> Zone:
    return Zone(
        zone=row.zone,
        users=row.users,
        state=ZoneState(row.state),
        due_at=row.due_at,
        send_by=row.send_by,
        next_page=row.next_page,
        expanded_users=row.expanded_users,
        reason=row.reason,
        following_at=row.following_at,
        begin_at=row.begin_at,
    )


def _zone_keys(keys: Iterable[ZoneKey]) -> dict[str, list[str]]:
    ordered = sorted(set(keys))
    return {"run_ids": [run_id for run_id, _ in ordered], "zones": [zone for _, zone in ordered]}
