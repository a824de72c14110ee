"""Definitions → runs: a scheduled campaign has its next run, a stopped one nothing left that could still be emitted.

Repeats change nothing. Must not wait or publish: `loops.definitions` does.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from postrider.contracts.definitions import AccountSettings, CampaignDefinition
from postrider.contracts.envelope import Outgoing
from postrider.logs import log
from postrider.scheduling.occurrences import is_occurrence, is_scheduled
from scheduler import metrics
from scheduler.domain import moves
from scheduler.domain.run_states import UNFIXED_RUNS, RunEvent, RunState, apply_run
from scheduler.domain.runs import PAUSED, Run, edited
from scheduler.handlers.planning import Planner
from scheduler.records import Records
from scheduler.store import run_rows

STARTING_STATUSES = frozenset({"scheduled", "running", PAUSED})
ENDED_STATUSES = frozenset({"stopped", "completed"})


class Campaigns:
    def __init__(self, records: Records, planner: Planner) -> None:
        self._records = records
        self._planner = planner

    async def align(
        self, tx: AsyncConnection, campaign_id: str, campaign: CampaignDefinition | None, settings: AccountSettings
    ) -> list[Outgoing]:
        """Brings the runs of one campaign in line with its definition; None: it was deleted."""
        if campaign is not None and not is_scheduled(campaign):
            return []
        runs = await run_rows.lock_open_runs(tx, campaign_id)
        if campaign is None:
            return await self._stop_all(tx, runs, "campaign_deleted")
        # Another scheduler may have read on.
        newest = max([campaign, *(run.definition for run in runs)], key=lambda definition: definition.version)
        if newest.status == "stopped":
            return await self._stop_all(tx, runs, "campaign_stopped")
        if newest.status not in STARTING_STATUSES:
            return []
        now = await run_rows.db_now(tx)
        outgoing: list[Outgoing] = []
        is_planned = is_edited = False
        resumed_at: datetime | None = None
        for run in runs:
            after = self._aligned(run, newest, settings.account_time_zone, now)
            if after is not run:
                await run_rows.save_run(tx, after)
            if after.state is RunState.REMOVED:
                metrics.RUNS.labels(after.state.value).inc()
                log.info("run_removed", run_id=run.name.run_id, occurrence=run.name.occurrence)
                outgoing.append(self._records.run_changed(after, now))
            is_planned = is_planned or after.state is RunState.PLANNED
            resumed_at = after.resumed_at if resumed_at is None else max(resumed_at, after.resumed_at or resumed_at)
            is_edited = is_edited or after.definition is not run.definition
        if is_edited or not is_planned:
            outgoing += await self._planner.plan_next(tx, newest, settings.account_time_zone, now, resumed_at)
        return outgoing

    def _aligned(self, run: Run, campaign: CampaignDefinition, account_zone: str, now: datetime) -> Run:
        """The same object when nothing changes."""
        after = run
        if run.state in UNFIXED_RUNS:
            scheduled_at = campaign.scheduled_at or run.scheduled_at
            if not is_occurrence(campaign, account_zone, scheduled_at, run.name.occurrence):
                return replace(run, state=apply_run(run.state, RunEvent.REMOVE), reason="edited")
        after = edited(run, campaign, account_zone, self._planner.lead)
        paused = campaign.status == PAUSED
        if paused != run.paused:
            after = replace(after, paused=paused, resumed_at=run.resumed_at if paused else now)
        return after

    async def _stop_all(self, tx: AsyncConnection, runs: list[Run], reason: str) -> list[Outgoing]:
        outgoing = []
        for run in runs:
            outgoing += await self._stop(tx, run, reason)
        return outgoing

    async def _stop(self, tx: AsyncConnection, run: Run, reason: str) -> list[Outgoing]:
        """The run's row is locked: pages that come later find it stopped and are ignored."""
        now = await run_rows.db_now(tx)
        stopped = replace(run, state=apply_run(run.state, RunEvent.STOP), reason=reason)
        closing = moves.stop(run.name, await run_rows.lock_zones_of(tx, run.name.run_id), reason)
        await run_rows.save_run(tx, stopped)
        await run_rows.save_zones(tx, [(run.name.run_id, zone) for zone in closing.zones])
        await run_rows.unpark_run(tx, run.name.run_id)
        metrics.RUNS.labels(stopped.state.value).inc()
        log.info("run_stopped", run_id=run.name.run_id, zones=len(closing.zones), reason=reason)
        cause = f"{run.name.run_id}:stop"
        return [
            *self._records.moves(closing.moves, cause),
            self._records.run_changed(stopped, now),
            *self._records.unexpanded(run.name, closing.unexpanded, "cancelled", reason, now, cause),
        ]
