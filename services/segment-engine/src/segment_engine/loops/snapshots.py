"""Fixes audiences: waits for the barrier, evaluates once, answers with counts, or refuses with a reason.

The store keeps a snapshot by its run, so that a crash before the answer's commit evaluates nothing twice.
"""

from __future__ import annotations

import asyncio
from datetime import time
from typing import Protocol

from msgspec import Struct

from postrider.clock import Clock
from postrider.contracts.audience import REFUSED, SNAPSHOTTED, AudienceRefused, AudienceSnapshotted, SnapshotRequested
from postrider.contracts.envelope import Outgoing
from postrider.contracts.topics import QUALIFIED_USERS_BULK
from postrider.logs import failure, log
from postrider.postgres.database import Database
from postrider.postgres.outbox import Outbox
from postrider.rules import RuleErrors, names_in
from segment_engine import metrics
from segment_engine.adapters import audience_tables
from segment_engine.event_store.port import BestTimes, EventStore, LeftOut, Snapshot, StoreFailed, StoreUnavailable
from segment_engine.loops.audience_intake import WakeUps
from segment_engine.loops.evaluation import Definitions, SegmentUnknown, context_of, rule_of
from segment_engine.loops.work import unless, work

AT_ONCE = 20
STORE_ATTEMPTS = 3
RETRY_SECONDS = 1.0


class Passable(Protocol):
    async def wait(self) -> None: ...


class Snapshots:
    """A component (`run`)."""

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        store: EventStore,
        definitions: Definitions,
        barrier: Passable,
        told: Passable,
        wake_ups: WakeUps,
        clock: Clock,
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._store = store
        self._definitions = definitions
        self._barrier = barrier
        self._told = told
        self._wake_ups = wake_ups
        self._clock = clock
        self._failures: dict[str, int] = {}

    async def run(self, stop: asyncio.Event) -> None:
        await work(stop, self._wake_ups.snapshots, "snapshots", lambda: self._step(stop))

    async def _step(self, stop: asyncio.Event) -> bool:
        async with self._database.begin() as tx:
            requests = await audience_tables.requested_runs(tx, AT_ONCE)
        if not requests:
            return False
        if not await unless(stop, self._barrier.wait()):
            return False
        if any(map(self._asks_texts, requests)) and not await unless(stop, self._told.wait()):
            return False
        for request in requests:
            await self._settle(request)
        return True

    def _asks_texts(self, request: SnapshotRequested) -> bool:
        try:
            rule = rule_of(self._definitions, request.rule, request.segment_id)
        except (SegmentUnknown, RuleErrors):
            return False  # refused when it is evaluated
        return any(mention.kind == "campaign" for mention in names_in(rule))

    async def _settle(self, request: SnapshotRequested) -> None:
        try:
            with metrics.SNAPSHOT_SECONDS.time():
                snapshot = await self._evaluate(request)
        except SegmentUnknown:
            await self._refuse(request, "segment_unknown")
        except RuleErrors:
            await self._refuse(request, "rule_invalid")
        except StoreUnavailable:
            raise  # nothing is wrong with the rule: the worker waits
        except StoreFailed as error:
            failures = self._failures[request.run_id] = self._failures.get(request.run_id, 0) + 1
            log.error("snapshot_failed", run_id=request.run_id, failures=failures, **failure(error))
            if failures >= STORE_ATTEMPTS:
                await self._refuse(request, "evaluation_failed")
            else:
                await asyncio.sleep(RETRY_SECONDS)
        else:
            await self._answer(request, snapshot)

    async def _evaluate(self, request: SnapshotRequested) -> Snapshot:
        stored = await self._store.stored_snapshot(request.run_id)
        if stored is not None:
            return stored
        rule = rule_of(self._definitions, request.rule, request.segment_id)
        return await self._store.snapshot(
            request.run_id,
            request.campaign_id,
            request.occurrence,
            request.seed,
            rule,
            context_of(self._definitions, self._clock),
            LeftOut(request.account_control_percent, request.control_percent, request.reach_percent),
            best_times_of(request),
        )

    async def _answer(self, request: SnapshotRequested, snapshot: Snapshot) -> None:
        answer = AudienceSnapshotted(
            request.run_id,
            request.campaign_id,
            request.occurrence,
            snapshot.total,
            snapshot.reachable,
            snapshot.zones,
        )
        async with self._database.begin() as tx:
            if not await audience_tables.finish_run(tx, request.run_id, snapshot.total, snapshot.reachable):
                return
            pending = await self._outbox.add(tx, [self._record(request.run_id, SNAPSHOTTED, answer)])
        self._wake_ups.streams.set()
        await self._outbox.publish(pending)
        log.info("audience_fixed", run_id=request.run_id, total=snapshot.total, reachable=snapshot.reachable)

    async def _refuse(self, request: SnapshotRequested, reason: str) -> None:
        answer = AudienceRefused(request.run_id, request.campaign_id, request.occurrence, reason)
        async with self._database.begin() as tx:
            if not await audience_tables.refuse_run(tx, request.run_id, reason):
                return
            pending = await self._outbox.add(tx, [self._record(request.run_id, REFUSED, answer)])
        await self._outbox.publish(pending)
        log.warning("audience_refused", run_id=request.run_id, reason=reason)

    def _record(self, run_id: str, type: str, answer: Struct) -> Outgoing:
        return self._outbox.outgoing(QUALIFIED_USERS_BULK, run_id, type, answer, f"{type}:{run_id}")


def best_times_of(request: SnapshotRequested) -> BestTimes | None:
    if request.best_time is None:
        return None
    return BestTimes(request.best_time.event, time.fromisoformat(request.best_time.fallback_time or "12:00"))
