"""What the segment-engine answers: snapshots become zones and counts, pages become jobs. Handler of the bulk lane.

A page counts once: zones keep a cursor, pages before it are repeats, pages ahead of it wait for their turn, so that
the people expanded are always the first by rank. A transaction expands a bounded number of pages, however many have
waited. Must not decide when a zone is due (`postrider.scheduling`) nor how people are counted (`domain.moves`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from postrider.contracts import codec
from postrider.contracts.audience import (
    PAGE,
    REFUSED,
    SNAPSHOTTED,
    AudiencePage,
    AudienceRefused,
    AudienceSnapshotted,
)
from postrider.contracts.codec import Unreadable
from postrider.contracts.envelope import Outgoing, envelope_of
from postrider.kafka.loop import Batch, ConsumerRecord
from postrider.logs import log
from postrider.scheduling.zone_plan import plan_zones
from scheduler import metrics, store
from scheduler.domain import moves
from scheduler.domain.jobs import what_version_for
from scheduler.domain.moves import Zone
from scheduler.domain.run_states import OPEN_ZONES, RunEvent, RunState, ZoneState, apply_run
from scheduler.domain.runs import Run
from scheduler.handlers.timers import Turn
from scheduler.records import Records
from scheduler.store import PageKey, ZoneKey

PAGES_AT_ONCE = 8
"""Pages that waited and are expanded in one transaction: each is hundreds of jobs, and all are one outbox row."""

Answer = AudienceSnapshotted | AudiencePage | AudienceRefused


def decode(record: ConsumerRecord) -> Answer:
    """Raises `Unreadable`."""
    match envelope_of(record.headers).type:
        case "audience.snapshotted":
            return codec.decode(record.value, AudienceSnapshotted)
        case "audience.page":
            return codec.decode(record.value, AudiencePage)
        case "audience.refused":
            return codec.decode(record.value, AudienceRefused)
    raise Unreadable(f"the type is none of {SNAPSHOTTED}, {PAGE}, {REFUSED}")


class Audiences:
    """`handle` is the loop's handler; `wake` tells the timers that something may be due."""

    def __init__(self, records: Records, wake: Callable[[], None]) -> None:
        self._records = records
        self._wake = wake

    async def after_commit(self) -> None:
        self._wake()

    async def handle(self, tx: AsyncConnection, batch: Batch[Answer]) -> Sequence[Outgoing]:
        answers = [record.value for record in batch.records]
        verdicts = [answer for answer in answers if not isinstance(answer, AudiencePage)]
        runs = await store.lock_runs(tx, [answer.run_id for answer in answers], exclusively=bool(verdicts))
        now = await store.db_now(tx)
        outgoing: list[Outgoing] = []
        for answer in verdicts:
            run = runs.get(answer.run_id)
            if run is None or run.state is not RunState.REQUESTED:
                metrics.ANSWERS_IGNORED.labels("unknown_run" if run is None else "run_" + run.state).inc()
                continue
            if isinstance(answer, AudienceSnapshotted):
                runs[answer.run_id], records = await self._fix_audience(tx, run, answer, now)
            else:
                runs[answer.run_id], records = await self._refuse(tx, run, answer, now)
            outgoing += records
        pages = [a for a in answers if isinstance(a, AudiencePage) and self._is_wanted(a, runs)]
        if pages:
            zones = await store.lock_zones(tx, {(page.run_id, page.zone) for page in pages})
            outgoing += await self._expand_pages(tx, runs, zones, pages, now)
        return outgoing

    async def expand_parked(self, tx: AsyncConnection) -> Turn:
        """Pages that waited, whose turn has come, and that no transaction has had room for so far."""
        found = await store.parked_in_turn(tx, 1)
        runs = await store.lock_runs(tx, [run_id for run_id, _ in found], exclusively=False) if found else {}
        keys = [key for key in found if runs[key[0]].state is RunState.RUNNING]
        if not keys:
            return Turn(False, [])
        now = await store.db_now(tx)
        zones = await store.lock_zones(tx, keys)
        pages = await store.unpark_pages(tx, [(*key, zone.next_page) for key, zone in zones.items()])
        return Turn(True, await self._expand_pages(tx, runs, zones, pages, now))

    async def _fix_audience(
        self, tx: AsyncConnection, run: Run, answer: AudienceSnapshotted, now: datetime
    ) -> tuple[Run, list[Outgoing]]:
        """Everybody becomes pending; zones that are not going to fire give their people back at once."""
        total = sum(answer.zones.values())
        if total != answer.total:
            log.error("snapshot_does_not_add_up", run_id=answer.run_id, total=answer.total, in_zones=total)
        fixed = replace(run, state=apply_run(run.state, RunEvent.SNAPSHOT), total=total, reachable=answer.reachable)
        users = {zone: n for zone, n in answer.zones.items() if n > 0}
        zones = moves.open_zones(plan_zones(run.schedule, users, now), users)
        closing = moves.close_unsent(run.name, [zone for zone in zones if zone.state not in OPEN_ZONES])
        await store.save_run(tx, fixed)
        await store.add_zones(tx, run.name.run_id, zones)
        metrics.RUNS.labels(fixed.state.value).inc()
        log.info("audience_fixed", run_id=run.name.run_id, total=total, zones=len(zones), unsent=len(closing.zones))
        outgoing = [
            *self._records.moves(moves.qualify(run.name, total), f"{run.name.run_id}:qualified"),
            *self._records.moves(closing.moves, f"{run.name.run_id}:unsent"),
            self._records.run_changed(fixed.changed(now)),
        ]
        for reason in sorted({zone.reason for zone in closing.zones}):
            named = {zone.zone: 0 for zone in closing.zones if zone.reason == reason and zone.remaining}
            cause = f"{run.name.run_id}:unsent:{reason}"
            outgoing += self._records.unexpanded(run.name, named, "expired", reason, now, cause)
        return fixed, outgoing

    async def _refuse(
        self, tx: AsyncConnection, run: Run, answer: AudienceRefused, now: datetime
    ) -> tuple[Run, list[Outgoing]]:
        failed = replace(run, state=apply_run(run.state, RunEvent.REFUSE), reason=answer.reason)
        await store.save_run(tx, failed)
        metrics.RUNS.labels(failed.state.value).inc()
        log.warning("audience_refused", run_id=run.name.run_id, reason=answer.reason)
        return failed, [self._records.run_changed(failed.changed(now))]

    async def _expand_pages(
        self,
        tx: AsyncConnection,
        runs: dict[str, Run],
        zones: dict[ZoneKey, Zone],
        ready: list[AudiencePage],
        now: datetime,
    ) -> list[Outgoing]:
        """`zones`: those of the pages, locked."""
        before = dict(zones)
        outgoing: list[Outgoing] = []
        ahead: dict[PageKey, AudiencePage] = {}
        room = PAGES_AT_ONCE
        while ready:
            for page in sorted(ready, key=lambda page: page.page):
                key = (page.run_id, page.zone)
                zone = zones.get(key)
                if zone is None or zone.state is not ZoneState.REQUESTED or page.page < zone.next_page:
                    metrics.ANSWERS_IGNORED.labels("repeated" if zone else "unknown_zone").inc()
                elif page.page > zone.next_page:
                    ahead[(*key, page.page)] = page
                else:
                    zones[key], records = self._expand(runs[page.run_id], zone, page, now)
                    outgoing += records
                    room -= 1
                    await asyncio.sleep(0)  # a batch of pages is more work than the event loop may be kept from
            due = self._next_keys(zones, before)[: max(room, 0)]
            ready = [ahead.pop(key) for key in due if key in ahead] + await store.unpark_pages(tx, due)
        await store.park_pages(tx, list(ahead.values()))
        await store.save_zones(tx, [(key[0], zone) for key, zone in zones.items() if zone is not before[key]])
        await store.unpark_zones(tx, [key for key, zone in zones.items() if zone.state is ZoneState.EXPANDED])
        return outgoing

    def _is_wanted(self, page: AudiencePage, runs: dict[str, Run]) -> bool:
        run = runs.get(page.run_id)
        if run is not None and run.state is RunState.RUNNING:
            return True
        metrics.ANSWERS_IGNORED.labels("unknown_run" if run is None else "run_" + run.state).inc()
        return False

    @staticmethod
    def _next_keys(zones: dict[ZoneKey, Zone], before: dict[ZoneKey, Zone]) -> list[PageKey]:
        """Pages that may be waiting and whose turn has come."""
        return [
            (*key, zone.next_page)
            for key, zone in zones.items()
            if zone.state is ZoneState.REQUESTED and zone is not before[key]
        ]

    def _expand(self, run: Run, zone: Zone, page: AudiencePage, now: datetime) -> tuple[Zone, list[Outgoing]]:
        version = what_version_for(run.definition, page.what_version)
        page = msgspec.structs.replace(page, what_version=version)
        expansion = moves.expand(zone, page, run.definition.message_class, now)
        cause = f"{page.run_id}:{page.zone}:{page.page}"
        if expansion.unexpanded or expansion.zone.users != zone.users:
            log.error("pages_do_not_add_up", run_id=page.run_id, zone=page.zone, counted=zone.users)
        metrics.PAGES.inc()
        metrics.JOBS.labels("bulk").inc(len(expansion.jobs))
        metrics.SETTLED.labels("bulk").inc(len(page.users) - len(expansion.jobs))
        return expansion.zone, [
            *self._records.moves(expansion.moves, cause),
            *self._records.messages(expansion.messages),
            *self._records.bulk_jobs(expansion.jobs),
            *self._records.unexpanded(
                run.name, expansion.unexpanded, "cancelled", moves.MISSING_FROM_PAGES, now, cause
            ),
        ]
