"""Definitions → runs: a scheduled campaign has its run, a stopped one has nothing left that could still be emitted.

Repeats change nothing. Must not wait or publish: `loops.definitions` does.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from postrider.contracts.definitions import AccountSettings, CampaignDefinition
from postrider.contracts.envelope import Outgoing
from postrider.logs import log
from postrider.scheduling.occurrences import is_scheduled
from scheduler import metrics, store
from scheduler.domain import moves
from scheduler.domain.run_states import ACTIVE_RUNS, RunEvent, apply_run
from scheduler.domain.runs import Run, edited, new_run
from scheduler.records import Records

STARTING_STATUSES = frozenset({"scheduled", "running"})
ENDED_STATUSES = frozenset({"stopped", "completed"})


class Campaigns:
    """`lead`: how long ahead of the first zone an audience is asked for."""

    def __init__(self, records: Records, lead: timedelta) -> None:
        self._records = records
        self._lead = lead

    async def align(
        self, tx: AsyncConnection, campaign_id: str, campaign: CampaignDefinition | None, settings: AccountSettings
    ) -> list[Outgoing]:
        """Brings the runs of one campaign in line with its definition; None: it was deleted."""
        if campaign is not None and not is_scheduled(campaign):
            return []
        runs = await store.lock_campaign_runs(tx, campaign_id)
        if campaign is None:
            return await self._stop_all(tx, runs, "campaign_deleted")
        if campaign.status == "stopped":
            return await self._stop_all(tx, runs, "campaign_stopped")
        if campaign.status not in STARTING_STATUSES:
            return []
        if not runs:
            run = new_run(campaign, settings.account_time_zone, self._lead, await store.db_now(tx))
            if await store.add_run(tx, run):
                metrics.RUNS.labels(run.state.value).inc()
                log.info("run_planned", run_id=run.name.run_id, request_at=run.request_at.isoformat())
        for run in runs:
            after = edited(run, campaign, settings.account_time_zone, self._lead)
            if run.state in ACTIVE_RUNS and after is not run:
                await store.save_run(tx, after)
        return []

    async def _stop_all(self, tx: AsyncConnection, runs: list[Run], reason: str) -> list[Outgoing]:
        outgoing = []
        for run in runs:
            if run.state in ACTIVE_RUNS:
                outgoing += await self._stop(tx, run, reason)
        return outgoing

    async def _stop(self, tx: AsyncConnection, run: Run, reason: str) -> list[Outgoing]:
        """The run's row is locked: pages that come later find it stopped and are ignored."""
        now = await store.db_now(tx)
        stopped = replace(run, state=apply_run(run.state, RunEvent.STOP), reason=reason)
        closing = moves.stop(run.name, await store.lock_zones_of(tx, run.name.run_id), reason)
        await store.save_run(tx, stopped)
        await store.save_zones(tx, [(run.name.run_id, zone) for zone in closing.zones])
        await store.unpark_run(tx, run.name.run_id)
        metrics.RUNS.labels(stopped.state.value).inc()
        log.info("run_stopped", run_id=run.name.run_id, zones=len(closing.zones), reason=reason)
        cause = f"{run.name.run_id}:stop"
        return [
            *self._records.moves(closing.moves, cause),
            self._records.run_changed(stopped.changed(now)),
            *self._records.unexpanded(run.name, closing.unexpanded, "cancelled", reason, now, cause),
        ]
