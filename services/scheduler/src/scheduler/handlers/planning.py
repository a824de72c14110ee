"""The next occurrence of a campaign gets its run: one ahead, planned when the one before it is under way.

Occurrences that nobody was there to plan are recorded as expired. Repeats, and two schedulers at once, change nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from postrider.contracts.definitions import CampaignDefinition
from postrider.contracts.envelope import Outgoing
from postrider.logs import log
from postrider.scheduling.occurrences import name_of
from scheduler import metrics
from scheduler.domain.plan import LOOK_BACK, plan_ahead
from scheduler.domain.run_states import RunEvent, RunState, apply_run
from scheduler.domain.runs import Run
from scheduler.records import Records
from scheduler.store import run_rows


class Planner:
    """`lead`: how long ahead of the first zone an audience is asked for."""

    def __init__(self, records: Records, lead: timedelta) -> None:
        self._records = records
        self.lead = lead

    async def plan_next(
        self,
        tx: AsyncConnection,
        campaign: CampaignDefinition,
        account_zone: str,
        now: datetime,
        resumed_at: datetime | None = None,
    ) -> list[Outgoing]:
        """Nothing when the next occurrence has its run, or there is none ahead."""
        since = name_of(now.astimezone(UTC).replace(tzinfo=None) - LOOK_BACK)
        known = await run_rows.known_occurrences(tx, campaign.campaign_id, campaign.kind, since)
        outgoing: list[Outgoing] = []
        for run in plan_ahead(campaign, account_zone, self.lead, now, known, resumed_at):
            if await self._add(tx, run):
                outgoing.append(self._records.run_changed(run, now))
        return outgoing

    async def _add(self, tx: AsyncConnection, run: Run) -> bool:
        if not await run_rows.add_run(tx, run):
            former = await run_rows.lock_run(tx, run.name.run_id)
            if former is None or former.state is not RunState.REMOVED:
                return False
            apply_run(former.state, RunEvent.PLAN)
            await run_rows.save_run(tx, run)
        metrics.RUNS.labels(run.state.value).inc()
        log.info("run_" + run.state.value, run_id=run.name.run_id, occurrence=run.name.occurrence, reason=run.reason)
        return True
