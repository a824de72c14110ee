"""What is due: runs whose audience has to be asked for, zones whose time has come, runs whose zones are all done.

Each method takes some of what is due, by the database's clock, and leaves what somebody else works on to them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from postrider.contracts.audience import ZoneRequested
from postrider.contracts.definitions import AccountSettings
from postrider.contracts.envelope import Outgoing
from postrider.logs import log
from scheduler import metrics
from scheduler.domain import moves
from scheduler.domain.moves import Zone
from scheduler.domain.run_states import RunEvent, ZoneEvent, apply_run, apply_zone, finish_event
from scheduler.domain.runs import Run, snapshot_request
from scheduler.handlers.planning import Planner
from scheduler.records import Records
from scheduler.store import run_rows

BATCH = 50


@dataclass(frozen=True, slots=True)
class Turn:
    """What a step did, by now in the transaction. `is_full`: there may be more to do at once."""

    is_full: bool
    outgoing: list[Outgoing]


class Timers:
    """`settings`: the account's, as they are known now."""

    def __init__(
        self, records: Records, planner: Planner, settings: Callable[[], AccountSettings], page_size: int
    ) -> None:
        self._records = records
        self._settings = settings
        self._planner = planner
        self._page_size = page_size

    async def request_audiences(self, tx: AsyncConnection) -> Turn:
        runs = await run_rows.runs_to_request(tx, BATCH)
        if not runs:
            return Turn(False, [])
        now = await run_rows.db_now(tx)
        outgoing: list[Outgoing] = []
        for run in runs:
            reason = run.missed_reason(now)
            event = RunEvent.MISS if reason else RunEvent.REQUEST
            after = replace(run, state=apply_run(run.state, event), reason=reason, requested_at=None if reason else now)
            await run_rows.save_run(tx, after)
            metrics.RUNS.labels(after.state.value).inc()
            log.info("run_" + after.state.value, run_id=run.name.run_id, reason=reason)
            outgoing.append(self._records.run_changed(after, now))
            if not reason:
                outgoing.append(
                    self._records.snapshot_requested(snapshot_request(after, self._settings().control_percent, now))
                )
            outgoing += await self._planner.plan_next(tx, run.definition, run.account_zone, now, run.resumed_at)
        return Turn(len(runs) == BATCH, outgoing)

    async def fire_zones(self, tx: AsyncConnection) -> Turn:
        return await self._work_off(tx, await run_rows.due_zones(tx, BATCH))

    async def expire_held_zones(self, tx: AsyncConnection) -> Turn:
        """A pause holds what comes due, and its deadline runs on."""
        return await self._work_off(tx, await run_rows.overdue_zones(tx, BATCH))

    async def _work_off(self, tx: AsyncConnection, due: list[tuple[str, Zone]]) -> Turn:
        if not due:
            return Turn(False, [])
        runs = await run_rows.lock_runs(tx, [run_id for run_id, _ in due], exclusively=False)
        now = await run_rows.db_now(tx)
        outgoing: list[Outgoing] = []
        fired: list[tuple[str, Zone]] = []
        for run_id, zone in due:
            after, records = self._fire(runs[run_id], zone, now)
            fired.append((run_id, after))
            outgoing += records
        await run_rows.save_zones(tx, fired)
        return Turn(len(due) == BATCH, outgoing)

    def _fire(self, run: Run, zone: Zone, now: datetime) -> tuple[Zone, Sequence[Outgoing]]:
        reason = run.zone_missed_reason(zone, now)
        metrics.TIMER_LATENESS.observe(max(0.0, (now - zone.due_at).total_seconds()))
        if reason:
            return self._miss(run, zone, reason, now)
        metrics.ZONES_FIRED.labels("requested").inc()
        log.info("zone_fired", run_id=run.name.run_id, zone=zone.zone, users=zone.users)
        request = ZoneRequested(
            run_id=run.name.run_id,
            campaign_id=run.name.campaign_id,
            occurrence=run.name.occurrence,
            zone=zone.zone,
            what_version=run.definition.what_version,
            profile_references=run.definition.what.references.profile,
            page_size=self._page_size,
        )
        fired = replace(zone, state=apply_zone(zone.state, ZoneEvent.FIRE))
        return fired, [self._records.zone_requested(request)]

    def _miss(self, run: Run, zone: Zone, reason: str, now: datetime) -> tuple[Zone, Sequence[Outgoing]]:
        metrics.ZONES_FIRED.labels(reason).inc()
        log.warning("zone_missed", run_id=run.name.run_id, zone=zone.zone, users=zone.users, reason=reason)
        missed = moves.miss(zone, reason)
        closing = moves.close_unsent(run.name, [missed])
        cause = f"{run.name.run_id}:{zone.zone}:missed"
        return missed, [
            *self._records.moves(closing.moves, cause),
            *self._records.unexpanded(run.name, closing.unexpanded, "expired", reason, now, cause),
        ]

    async def finish_runs(self, tx: AsyncConnection) -> Turn:
        runs = await run_rows.runs_to_finish(tx, BATCH)
        if not runs:
            return Turn(False, [])
        now = await run_rows.db_now(tx)
        zones = await run_rows.zones_of_runs(tx, [run.name.run_id for run in runs])
        outgoing = []
        for run in runs:
            states = Counter(zone.state for zone in zones[run.name.run_id])
            finished = replace(run, state=apply_run(run.state, finish_event(states)))
            await run_rows.save_run(tx, finished)
            metrics.RUNS.labels(finished.state.value).inc()
            log.info("run_finished", run_id=run.name.run_id, state=finished.state.value)
            outgoing.append(self._records.run_changed(finished, now))
        return Turn(len(runs) == BATCH, outgoing)
