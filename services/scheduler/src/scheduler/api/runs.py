"""GET /internal/runs?campaign_id=&run_ids=: a campaign's runs with their zones, for whoever has to find out what
happened. `run_ids`: some of them, by commas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from postrider.postgres.database import Database
from scheduler.domain.moves import Zone
from scheduler.domain.runs import Run
from scheduler.store import run_rows


def router(database: Database, is_ours: Callable[..., None]) -> APIRouter:
    """`is_ours`: refuses whoever has no service token."""
    routes = APIRouter(prefix="/internal", dependencies=[Depends(is_ours)])

    @routes.get("/runs")
    async def runs(
        campaign_id: Annotated[str, Query(max_length=100, pattern=r"^[^\x00]*$")],
        run_ids: Annotated[str | None, Query(max_length=10_000, pattern=r"^[^\x00]*$")] = None,
    ) -> dict[str, Any]:
        async with database.begin() as tx:
            found = await run_rows.runs_of(tx, campaign_id, None if run_ids is None else run_ids.split(","))
            zones = await run_rows.zones_of_runs(tx, [run.name.run_id for run in found])
        return {"items": [_shown(run, zones[run.name.run_id]) for run in found]}

    return routes


def _shown(run: Run, zones: list[Zone]) -> dict[str, Any]:
    return {
        "run_id": run.name.run_id,
        "campaign_id": run.name.campaign_id,
        "occurrence": run.name.occurrence,
        "state": run.state.value,
        "reason": run.reason,
        "definition_version": run.definition.version,
        "request_at": run.request_at.isoformat(),
        "requested_at": run.requested_at.isoformat() if run.requested_at else None,
        "total": run.total,
        "reachable": run.reachable,
        "zones": [
            {
                "zone": zone.zone,
                "state": zone.state.value,
                "reason": zone.reason,
                "users": zone.users,
                "expanded_users": zone.expanded_users,
                "next_page": zone.next_page,
                "due_at": zone.due_at.isoformat(),
                "send_by": zone.send_by.isoformat(),
            }
            for zone in zones
        ],
    }
