"""What is due: runs whose audience has to be asked for, zones whose time has come, runs whose zones are all done.

Each method takes some of what is due, by the database's clock, and leaves what somebody else works on to them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from postrider.contracts.audience import SnapshotRequested, ZoneRequested
from postrider.contracts.envelope import Outgoing
from postrider.logs import log
from postrider.scheduling.zone_plan import missed_reason
from scheduler import metrics, store
from scheduler.domain import moves
from scheduler.domain.moves import Zone
from scheduler.domain.run_states import RunEvent, ZoneEvent, apply_run, apply_zone, finish_event
from scheduler.domain.runs import Run
from scheduler.records import Records

BATCH = 50


@dataclass(frozen=True, slots=True)
class Turn:
    """What a step did, by now in the transaction. `is_full`: there may be more to do at once."""

    is_full: bool
    outgoing: list[Outgoing]


class Timers:
    def __init__(self, records: Records, page_size: int) -> None:
        self._records = records
        self._page_size = page_size

    async def request_audiences(self, tx: AsyncConnection) -> Turn:
        runs = await store.runs_to_request(tx, BATCH)
        outgoing: list[Outgoing] = []
        for run in runs:
            now = await store.db_now(tx)
            requested = replace(run, state=apply_run(run.state, RunEvent.REQUEST), requested_at=now)
            await store.save_run(tx, requested)
            metrics.RUNS.labels(requested.state.value).inc()
            log.info("audience_requested", run_id=run.name.run_id)
            who = run.definition.who
            request = SnapshotRequested(
                run_id=run.name.run_id,
                campaign_id=run.name.campaign_id,
                occurrence=run.name.occurrence,
                seed=run.seed,
                requested_at=now,
                rule=who.rule,
                segment_id=who.segment_id,
            )
            outgoing += [self._records.run_changed(requested.changed(now)), self._records.snapshot_requested(request)]
        return Turn(len(runs) == BATCH, outgoing)

    async def fire_zones(self, tx: AsyncConnection) -> Turn:
        due = await store.due_zones(tx, BATCH)
        if not due:
            return Turn(False, [])
        runs = await store.lock_runs(tx, [run_id for run_id, _ in due], exclusively=False)
        now = await store.db_now(tx)
        outgoing: list[Outgoing] = []
        fired: list[tuple[str, Zone]] = []
        for run_id, zone in due:
            after, records = self._fire(runs[run_id], zone, now)
            fired.append((run_id, after))
            outgoing += records
        await store.save_zones(tx, fired)
        return Turn(len(due) == BATCH, outgoing)

    def _fire(self, run: Run, zone: Zone, now: datetime) -> tuple[Zone, Sequence[Outgoing]]:
        catch_up = timedelta(seconds=run.definition.when.catch_up_seconds)
        reason = missed_reason(zone.due_at, zone.send_by, catch_up, now)
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
        runs = await store.runs_to_finish(tx, BATCH)
        outgoing = []
        for run in runs:
            states = Counter(zone.state for zone in await store.zones_of(tx, run.name.run_id))
            finished = replace(run, state=apply_run(run.state, finish_event(states)))
            await store.save_run(tx, finished)
            metrics.RUNS.labels(finished.state.value).inc()
            log.info("run_finished", run_id=run.name.run_id, state=finished.state.value)
            outgoing.append(self._records.run_changed(finished.changed(await store.db_now(tx))))
        return Turn(len(runs) == BATCH, outgoing)
