"""The next occurrence of a campaign gets its run: one ahead, planned when the one before it is under way.

Occurrences that nobody was there to plan are recorded as expired. Repeats, and two schedulers at once, change nothing.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from postrider.contracts.definitions import CampaignDefinition
from postrider.contracts.envelope import Outgoing
from postrider.logs import log
from postrider.scheduling.occurrences import occurrences
from scheduler import metrics
from scheduler.domain.run_states import RunEvent, RunState, apply_run
from scheduler.domain.runs import Run, new_run
from scheduler.records import Records
from scheduler.store import run_rows

MOST_RECORDED: Final = 100
"""Of occurrences missed in one downtime, the newest."""
MOST_PASSED: Final = 100_000


class Planner:
    """`lead`: how long ahead of the first zone an audience is asked for."""

    def __init__(self, records: Records, lead: timedelta) -> None:
        self._records = records
        self.lead = lead

    async def plan_next(
        self, tx: AsyncConnection, campaign: CampaignDefinition, account_zone: str, now: datetime
    ) -> list[Outgoing]:
        """For a campaign that has no planned run. Nothing when there is no occurrence ahead."""
        latest = await run_rows.latest_occurrence(tx, campaign.campaign_id, campaign.kind)
        ahead = occurrences(campaign.kind, campaign.when, account_zone, campaign.scheduled_at or now, latest)
        missed: deque[Run] = deque(maxlen=MOST_RECORDED)
        following: Run | None = None
        for occurrence in islice(ahead, MOST_PASSED):
            run = new_run(campaign, account_zone, self.lead, now, occurrence.name)
            reason = run.missed_reason(now)
            if not reason:
                following = run
                break
            missed.append(replace(run, state=apply_run(run.state, RunEvent.MISS), reason=reason))
        outgoing: list[Outgoing] = []
        for run in [*missed, *([following] if following else [])]:
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
