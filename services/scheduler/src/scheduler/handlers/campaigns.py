"""Definitions → runs: a scheduled campaign has its run, a stopped one has nothing left that could still be emitted.

A component: reconciles everything once the definitions are read, then whatever changes. Repeats change nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from postrider.contracts.definitions import AccountSettings, CampaignDefinition
from postrider.contracts.envelope import Outgoing
from postrider.kafka.definitions import Definition, DefinitionsReader
from postrider.logs import failure, log
from postrider.postgres.database import Database, is_outage
from postrider.postgres.outbox import Outbox
from sqlalchemy.ext.asyncio import AsyncConnection

from scheduler import metrics, store
from scheduler.domain import moves
from scheduler.domain.occurrences import is_scheduled
from scheduler.domain.run_states import ACTIVE_RUNS, RunEvent, RunState, apply_run
from scheduler.domain.runs import Run, edited, new_run
from scheduler.records import Records

STARTING_STATUSES = frozenset({"scheduled", "running"})
STOPPING_STATUSES = frozenset({"stopped"})
RETRY_SECONDS = 0.5
WAIT_SECONDS = 0.2


class Campaigns:
    """Keeps runs in step with the definitions. `on_change` is the reader's callback."""

    def __init__(
        self, database: Database, outbox: Outbox, records: Records, lead: timedelta, wake: Callable[[], None]
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._records = records
        self._lead = lead
        self._wake = wake
        self._changed: set[str] = set()
        self._all = True
        self._something = asyncio.Event()
        self.reconciled = asyncio.Event()
        """Set when every definition known at the start has its effect."""

    def on_change(self, definition: Definition) -> None:
        if isinstance(definition, CampaignDefinition):
            self._changed.add(definition.campaign_id)
        elif isinstance(definition, AccountSettings):
            self._all = True
        else:
            return
        self._something.set()

    async def run(self, reader: DefinitionsReader, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await asyncio.wait_for(reader.wait_until_read(), WAIT_SECONDS)
                break
            except TimeoutError:
                continue
        while not stop.is_set():
            try:
                await self._reconcile_changed(reader)
            except Exception as error:
                if not is_outage(error):
                    raise
                log.warning("campaigns_wait", **failure(error))
                await asyncio.sleep(RETRY_SECONDS)
                continue
            try:
                await asyncio.wait_for(self._something.wait(), WAIT_SECONDS)
            except TimeoutError:
                continue

    async def _reconcile_changed(self, reader: DefinitionsReader) -> None:
        everything, self._all = self._all, False
        changed, self._changed = self._changed, set()
        self._something.clear()
        try:
            if everything:
                async with self._database.begin() as tx:
                    changed = changed | set(reader.campaigns) | await store.active_campaigns(tx)
            for campaign_id in sorted(changed):
                await self.reconcile(campaign_id, reader.campaigns.get(campaign_id), reader.settings)
        except BaseException:
            self._all = self._all or everything
            self._changed |= changed
            raise
        self.reconciled.set()

    async def reconcile(
        self, campaign_id: str, campaign: CampaignDefinition | None, settings: AccountSettings
    ) -> None:
        """Brings the runs of one campaign in line with its definition; None: it was deleted."""
        if campaign is not None and not is_scheduled(campaign):
            return
        async with self._database.begin() as tx:
            outgoing = await self._align(tx, campaign_id, campaign, settings)
            pending = await self._outbox.add(tx, outgoing) if outgoing else None
        self._wake()
        await self._outbox.publish(pending)

    async def _align(
        self, tx: AsyncConnection, campaign_id: str, campaign: CampaignDefinition | None, settings: AccountSettings
    ) -> list[Outgoing]:
        runs = await store.lock_campaign_runs(tx, campaign_id)
        if campaign is None:
            return await self._stop_all(tx, runs, "campaign_deleted")
        if campaign.status in STOPPING_STATUSES:
            return await self._stop_all(tx, runs, f"campaign_{campaign.status}")
        if campaign.status not in STARTING_STATUSES:
            return []
        if not runs:
            run = new_run(campaign, settings.account_time_zone, self._lead, await store.db_now(tx))
            if await store.add_run(tx, run):
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
        """In one transaction, with the run's row locked: pages that come later find it stopped and are ignored."""
        now = await store.db_now(tx)
        stopped = replace(run, state=apply_run(run.state, RunEvent.STOP), reason=reason)
        closing = moves.stop(run.name, await store.zones_of(tx, run.name.run_id, lock=True), reason)
        await store.save_run(tx, stopped)
        await store.save_zones(tx, [(run.name.run_id, zone) for zone in closing.zones])
        await store.unpark_run(tx, run.name.run_id)
        metrics.RUNS.labels(RunState.STOPPED.value).inc()
        log.info("run_stopped", run_id=run.name.run_id, zones=len(closing.zones))
        cause = f"{run.name.run_id}:stop"
        return [
            *self._records.moves(closing.moves, cause),
            self._records.run_changed(stopped.changed(now)),
            *self._records.unexpanded(run.name, closing.unexpanded, "cancelled", reason, now, cause),
        ]
