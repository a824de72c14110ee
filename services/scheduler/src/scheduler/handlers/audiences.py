"""What the segment-engine answers: snapshots become zones and counts, pages become jobs. Handler of the bulk lane.

A page counts once: zones keep a cursor, pages before it are repeats, pages ahead of it wait for their turn, so that
the people expanded are always the first by rank. A transaction expands a bounded number of pages, however many have
waited. Must not decide when a zone is due (`postrider.scheduling`) nor how people are counted (`domain.moves`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

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
from postrider.contracts.definitions import AccountSettings
from postrider.contracts.envelope import Outgoing, envelope_of
from postrider.contracts.send_jobs import SendJob
from postrider.kafka.loop import Batch, ConsumerRecord
from postrider.logs import log
from postrider.scheduling.zone_plan import end_at, plan_zones
from postrider.scheduling.zone_slots import read_slot
from scheduler import metrics
from scheduler.domain import moves
from scheduler.domain.gate import WHOLE_CAMPAIGN, Candidate, Leave, Terms, terms_of
from scheduler.domain.jobs import page_candidate, page_job, what_version_for
from scheduler.domain.letters import safety_letter
from scheduler.domain.limits import is_unsafe, run_cut
from scheduler.domain.moves import Zone
from scheduler.domain.plan import asks_in_turn
from scheduler.domain.run_states import OPEN_ZONES, RunEvent, RunState, ZoneState, apply_run
from scheduler.domain.runs import Run
from scheduler.domain.settled import Settled
from scheduler.handlers.gate import let_through
from scheduler.handlers.planning import Planner
from scheduler.handlers.timers import Turn
from scheduler.records import Records
from scheduler.store import book_rows, letter_rows, run_rows
from scheduler.store.run_rows import PageKey, ZoneKey

PAGES_AT_ONCE = 8
"""Pages that waited and are expanded in one transaction: each is hundreds of jobs, and all are one outbox row."""

SAFETY_CHECK = "safety_check"

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
    """`handle` is the loop's handler; `wake` tells the timers that something may be due. `settings`: the account's, as
    they are known now."""

    def __init__(
        self, records: Records, planner: Planner, settings: Callable[[], AccountSettings], wake: Callable[[], None]
    ) -> None:
        self._records = records
        self._planner = planner
        self._settings = settings
        self._wake = wake

    async def after_commit(self) -> None:
        self._wake()

    async def handle(self, tx: AsyncConnection, batch: Batch[Answer]) -> Sequence[Outgoing]:
        answers = [record.value for record in batch.records]
        verdicts = [answer for answer in answers if not isinstance(answer, AudiencePage)]
        runs = await run_rows.lock_runs(tx, [answer.run_id for answer in answers], exclusively=bool(verdicts))
        now = await run_rows.db_now(tx)
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
            if asks_in_turn(run.definition):  # told first: without a run ahead the campaign would look completed
                outgoing += await self._planner.plan_next(tx, run.definition, run.account_zone, now, run.resumed_at)
            outgoing += records
        pages = [a for a in answers if isinstance(a, AudiencePage) and self._is_wanted(a, runs)]
        if pages:
            zones = await run_rows.lock_zones(tx, {(page.run_id, page.zone) for page in pages})
            outgoing += await self._expand_pages(tx, runs, zones, pages, now)
        return outgoing

    async def expand_parked(self, tx: AsyncConnection) -> Turn:
        """Pages that waited, whose turn has come, and that no transaction has had room for so far."""
        found = await run_rows.parked_in_turn(tx, 1)
        runs = await run_rows.lock_runs(tx, [run_id for run_id, _ in found], exclusively=False) if found else {}
        keys = [key for key in found if runs[key[0]].state is RunState.RUNNING]
        if not keys:
            return Turn(False, [])
        now = await run_rows.db_now(tx)
        zones = await run_rows.lock_zones(tx, keys)
        pages = await run_rows.unpark_pages(tx, [(*key, zone.next_page) for key, zone in zones.items()])
        return Turn(True, await self._expand_pages(tx, runs, zones, pages, now))

    async def _fix_audience(
        self, tx: AsyncConnection, run: Run, answer: AudienceSnapshotted, now: datetime
    ) -> tuple[Run, list[Outgoing]]:
        """Everybody becomes pending; zones that are not going to fire give their people back at once."""
        total = sum(answer.zones.values())
        if total != answer.total:
            log.error("snapshot_does_not_add_up", run_id=answer.run_id, total=answer.total, in_zones=total)
        counted = replace(run, total=total, reachable=answer.reachable)
        if is_unsafe(answer.reachable, run.definition.who.safety_limit):
            return await self._stop_unsafe(tx, counted, answer, now)
        cut = await self._cut(tx, counted)
        fixed = replace(counted, state=apply_run(run.state, RunEvent.SNAPSHOT), cut=cut)
        users = {zone: n for zone, n in answer.zones.items() if n > 0}
        zones = moves.open_zones(plan_zones(run.schedule, users, now, run.resumed_at), users)
        closing = moves.close_unsent(run.name, [zone for zone in zones if zone.state not in OPEN_ZONES])
        await run_rows.save_run(tx, fixed)
        await run_rows.add_zones(tx, run.name.run_id, zones)
        metrics.RUNS.labels(fixed.state.value).inc()
        log.info("audience_fixed", run_id=run.name.run_id, total=total, zones=len(zones), unsent=len(closing.zones))
        outgoing = [
            *self._records.moves(moves.qualify(run.name, total), f"{run.name.run_id}:qualified"),
            *self._records.moves(closing.moves, f"{run.name.run_id}:unsent"),
            self._records.run_changed(fixed, now),
        ]
        for reason in sorted({zone.reason for zone in closing.zones}):
            named = {zone.zone: 0 for zone in closing.zones if zone.reason == reason and zone.remaining}
            cause = f"{run.name.run_id}:unsent:{reason}"
            outgoing += self._records.unexpanded(run.name, named, "expired", reason, now, cause)
        return fixed, outgoing

    async def _cut(self, tx: AsyncConnection, run: Run) -> int | None:
        """How many may be texted, taken from what the campaign has left. None: no limit. All are counted, so that a
        total that an edit brings is a total of the whole campaign."""
        limits = run.definition.who.limits
        key = (run.name.campaign_id, WHOLE_CAMPAIGN)
        books = await book_rows.open_books(tx, [key], [])
        granted = run_cut(run.reachable, limits, books.counters[key])
        await book_rows.save_counters(tx, {key: granted.counter})
        return None if limits.run is None and limits.total is None else granted.n

    async def _stop_unsafe(
        self, tx: AsyncConnection, run: Run, answer: AudienceSnapshotted, now: datetime
    ) -> tuple[Run, list[Outgoing]]:
        """The run does not start: all are cancelled, and whoever owns the campaign gets a letter."""
        stopped = replace(run, state=apply_run(run.state, RunEvent.UNSAFE), reason=SAFETY_CHECK)
        await run_rows.save_run(tx, stopped)
        definition = run.definition
        if definition.owner_email:
            letter = safety_letter(run, definition.owner_email)
            await letter_rows.add(tx, letter)
        metrics.RUNS.labels(stopped.state.value).inc()
        log.warning("run_stopped_by_safety_check", run_id=run.name.run_id, reachable=run.reachable)
        everybody = {zone: 0 for zone, n in answer.zones.items() if n > 0}
        cause = f"{run.name.run_id}:unsafe"
        return stopped, [
            *self._records.moves(moves.qualify(run.name, run.total), f"{run.name.run_id}:qualified"),
            *self._records.moves(moves.cancel(run.name, run.total, SAFETY_CHECK), cause),
            self._records.run_changed(stopped, now),
            *self._records.unexpanded(run.name, everybody, "cancelled", SAFETY_CHECK, now, cause),
        ]

    async def _refuse(
        self, tx: AsyncConnection, run: Run, answer: AudienceRefused, now: datetime
    ) -> tuple[Run, list[Outgoing]]:
        failed = replace(run, state=apply_run(run.state, RunEvent.REFUSE), reason=answer.reason)
        await run_rows.save_run(tx, failed)
        metrics.RUNS.labels(failed.state.value).inc()
        log.warning("audience_refused", run_id=run.name.run_id, reason=answer.reason)
        return failed, [self._records.run_changed(failed, now)]

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
        turns, ahead = await self._in_turn(tx, zones, ready)
        for page, outcomes in zip(turns, await self._decide(tx, runs, zones, turns, now), strict=True):
            key = (page.run_id, page.zone)
            zones[key], records = self._expand(runs[page.run_id], zones[key], page, outcomes, now)
            outgoing += records
            await asyncio.sleep(0)  # a batch of pages is more work than the event loop may be kept from
        await run_rows.park_pages(tx, ahead)
        await run_rows.save_zones(tx, [(key[0], zone) for key, zone in zones.items() if zone is not before[key]])
        await run_rows.unpark_zones(tx, [key for key, zone in zones.items() if zone.state is ZoneState.EXPANDED])
        return outgoing

    @staticmethod
    async def _in_turn(
        tx: AsyncConnection, zones: Mapping[ZoneKey, Zone], ready: list[AudiencePage]
    ) -> tuple[list[AudiencePage], list[AudiencePage]]:
        """Pages whose turn it is, in order, those that have waited behind them too; and pages that have to wait."""
        following = {key: zone.next_page for key, zone in zones.items() if zone.state is ZoneState.REQUESTED}
        turns: list[AudiencePage] = []
        ahead: dict[PageKey, AudiencePage] = {}
        while ready:
            moved: dict[ZoneKey, None] = {}
            for page in sorted(ready, key=lambda page: page.page):
                key = (page.run_id, page.zone)
                if key not in following or page.page < following[key]:
                    metrics.ANSWERS_IGNORED.labels("repeated" if key in zones else "unknown_zone").inc()
                elif page.page > following[key]:
                    ahead[(*key, page.page)] = page
                else:
                    turns.append(page)
                    moved[key] = None
                    following[key] += 1
                    if page.last:
                        del following[key]
            room = max(PAGES_AT_ONCE - len(turns), 0)
            due = [(*key, following[key]) for key in moved if key in following][:room]
            ready = [ahead.pop(key) for key in due if key in ahead] + await run_rows.unpark_pages(tx, due)
        return turns, list(ahead.values())

    def _is_wanted(self, page: AudiencePage, runs: dict[str, Run]) -> bool:
        run = runs.get(page.run_id)
        if run is not None and run.state is RunState.RUNNING:
            return True
        metrics.ANSWERS_IGNORED.labels("unknown_run" if run is None else "run_" + run.state).inc()
        return False

    def _expand(
        self, run: Run, zone: Zone, page: AudiencePage, outcomes: Sequence[SendJob | Settled], now: datetime
    ) -> tuple[Zone, list[Outgoing]]:
        expansion = moves.expand(zone, page, outcomes, now)
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

    async def _decide(
        self,
        tx: AsyncConnection,
        runs: Mapping[str, Run],
        zones: Mapping[ZoneKey, Zone],
        pages: Sequence[AudiencePage],
        now: datetime,
    ) -> list[list[SendJob | Settled]]:
        """What the people of each page come to. All pages at once: the rows of limits and caps are locked together, or
        two transactions would wait for each other's."""
        waiting: list[list[Candidate | Settled]] = []
        asked: list[tuple[Candidate, Terms]] = []
        for page in pages:
            run, zone = runs[page.run_id], zones[page.run_id, page.zone]
            end = end_at(run.schedule, page.zone)
            terms = terms_of(run.definition, self._settings(), run.account_zone, run.cut, end)
            own = read_slot(page.zone)[0]
            each = [page_candidate(page, user, own, zone.due_at) for user in page.users]
            waiting.append(each)
            asked += [(candidate, terms) for candidate in each if isinstance(candidate, Candidate)]
        decided = iter(await let_through(tx, asked, now))
        outcomes: list[list[SendJob | Settled]] = []
        for page, candidates in zip(pages, waiting, strict=True):
            run = runs[page.run_id]
            version, message_class = what_version_for(run.definition, page.what_version), run.definition.message_class
            own = read_slot(page.zone)[0]
            outcomes.append([])
            for user, candidate in zip(page.users, candidates, strict=True):
                decision = candidate if isinstance(candidate, Settled) else next(decided)
                if isinstance(decision, Leave):
                    outcomes[-1].append(page_job(page, user, own, decision, version, message_class))
                else:
                    outcomes[-1].append(decision)
        return outcomes
