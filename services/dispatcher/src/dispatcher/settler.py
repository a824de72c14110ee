"""Writes settlements in batches: state, attempts, suppressions, funnel moves and message changes in one transaction.

While one transaction runs the next batch gathers, so a batch is as large as the traffic makes it and nobody waits for a
timer. A settlement is kept until it is committed or proven late; only a crash loses it, and then the lease says so.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence

from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncConnection

from dispatcher import evidence, metrics
from dispatcher.announcer import Announcer, Changed, change_of
from dispatcher.database_clock import DatabaseClock
from dispatcher.domain.funnel import Change
from dispatcher.domain.ledger import ACCEPTED, Event, State
from dispatcher.domain.message import reference
from dispatcher.domain.settlement import Settlement
from dispatcher.evidence import Evidence
from dispatcher.providers.base import Receipt
from dispatcher.sending import woken_at
from dispatcher.store import receipts, settles, suppressions
from dispatcher.store.settles import Written
from postrider.contracts.envelope import Outgoing
from postrider.health import Check
from postrider.logs import failure, log
from postrider.phones import phone_hash
from postrider.postgres.database import Database, is_outage
from postrider.postgres.outbox import Pending

BATCH = 200
GATHER_SECONDS = 0.01
ENOUGH = 100
"""Fewer settlements than this wait a moment for more: a transaction costs the same for one as for many."""
MOMENTS, MANY = 3, 16
"""While at least so many come in a moment, it waits for a few moments."""
RETRY_SECONDS = (0.05, 0.2, 0.5, 1.0, 2.0)


class Settler:
    """A component (`run`). `on_requeued` hears (lane, queue) of texts that wait again, `on_accepted` that receipts
    which came early may fit now, `on_suppressed` of opt-outs that replies told."""

    def __init__(
        self,
        database: Database,
        announcer: Announcer,
        database_clock: DatabaseClock,
        hash_key: bytes,
        check: Check,
        *,
        on_requeued: Callable[[set[tuple[int, str]]], None],
        on_accepted: Callable[[], None],
        on_suppressed: Callable[[bytes], None],
    ) -> None:
        self._database = database
        self._announcer = announcer
        self._database_clock = database_clock
        self._hash_key = hash_key
        self._check = check
        self._on_requeued = on_requeued
        self._on_accepted = on_accepted
        self._on_suppressed = on_suppressed
        self._waiting: list[Settlement] = []
        self._wake = asyncio.Event()

    def put(self, settlement: Settlement) -> None:
        """Raises IllegalMove for a bug, before it can spoil a batch."""
        _ = settlement.state
        self._waiting.append(settlement)
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`, and then until nothing waits."""
        with woken_at(stop, self._wake):
            while not stop.is_set() or self._waiting:
                if not self._waiting:
                    await self._wake.wait()
                    self._wake.clear()
                    continue
                if len(self._waiting) < ENOUGH and not stop.is_set():
                    await self._gather(stop)
                batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
                for part in settles.alike(batch):
                    await self._write(part)

    async def _gather(self, stop: asyncio.Event) -> None:
        for _ in range(MOMENTS):
            before = len(self._waiting)
            await asyncio.sleep(GATHER_SECONDS)
            if len(self._waiting) >= ENOUGH or len(self._waiting) - before < MANY or stop.is_set():
                return

    async def _write(self, batch: Sequence[Settlement]) -> None:
        attempt = 0
        while True:
            try:
                started = time.perf_counter()
                written, pending = await self._transact(batch)
                metrics.SETTLE_SECONDS.observe(time.perf_counter() - started)
                break
            except Exception as error:  # noqa: BLE001  # one bad settlement must not end all settling
                if is_outage(error):
                    self._check.down(type(error).__name__)
                    log.warning("settling_waits", **failure(error))
                    await asyncio.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
                    attempt += 1
                    continue
                log.error("settling_failed", n=len(batch), **failure(error))
                if len(batch) > 1:
                    # One settlement that Postgres will not take must not cost the others theirs.
                    for half in (batch[: len(batch) // 2], batch[len(batch) // 2 :]):
                        await self._write(half)
                    return
                log.critical("settlement_lost", message_id=batch[0].message.message_id)
                return
        self._check.up()
        self._announcer.publish_later(pending)
        self._tell(written)

    async def _transact(self, batch: Sequence[Settlement]) -> tuple[list[Written], Pending | None]:
        async with self._database.begin() as tx:
            written, taken = await settles.settle(tx, batch)
            outgoing: list[Outgoing] = []
            if len(written) < len(batch):
                done = {id(each.settlement) for each in written}
                outgoing += await self._late(tx, [each for each in batch if id(each) not in done])
            for message_id, attempt in taken:
                metrics.DOUBLES.inc()
                log.error("provider_id_taken", message_id=message_id, provider=attempt.provider_id)
            outgoing += await self._suppress(tx, [each.settlement for each in written])
            outgoing += await self._announce(tx, written)
            pending = await self._announcer.add(tx, outgoing)
        if written:
            self._database_clock.told(written[-1].at)
        return written, pending

    async def _announce(self, tx: AsyncConnection, written: Sequence[Written]) -> list[Outgoing]:
        told = [each for each in written if each.settlement.is_announced]
        repeated = [
            each.settlement.message.message_id
            for each in told
            if each.settlement.message.attempt > (0 if each.settlement.attempt is None else 1)
        ]
        history = await settles.history(tx, repeated)
        changes: list[Change] = []
        changed: list[Changed] = []
        for each in told:
            settlement = each.settlement
            now = replace(
                settlement.message, state=settlement.state, cause=settlement.cause, reason=settlement.reason,
                seq=each.seq, provider_message_id=settlement.provider_message_id,
            )  # fmt: skip
            attempts = history.get(now.message_id) or settles.summaries(settlement.attempt, each.at)
            changes.append(change_of(settlement.message, now))
            changed.append((now, each.at, attempts))
        return [*self._announcer.moved(changes), *self._announcer.changed(changed)]

    async def _late(self, tx: AsyncConnection, late: Sequence[Settlement]) -> list[Outgoing]:
        """Our lease was over and the row has moved on. What a provider said is still evidence, which waits among the
        receipts while the next call is under way."""
        metrics.SETTLED_LATE.inc(len(late))
        log.info("settled_late", n=len(late))
        proofs = [
            Evidence(each.message.message_id, each.message.attempt, each.message.provider_id,
                     each.provider_message_id, "accepted")
            for each in late
            if each.event is Event.ACCEPT
        ]  # fmt: skip
        if not proofs:
            return []
        proofs = list(await evidence.by_text(tx, proofs))
        believed = await evidence.believe(tx, self._announcer, proofs)
        waiting = [
            (proof.provider_id, Receipt(proof.provider_message_id, "accepted", "late_reply",
                                        reference=reference(proof.message_id, proof.attempt)))
            for proof, result in zip(proofs, believed.results, strict=True)
            if result == "wait"
        ]  # fmt: skip
        if waiting:
            await receipts.keep(tx, waiting)
        return believed.outgoing

    async def _suppress(self, tx: AsyncConnection, settled: Sequence[Settlement]) -> list[Outgoing]:
        """Replies that say that the person opted out with the provider."""
        outgoing = []
        for each in settled:
            if each.suppress is None:
                continue
            source = f"provider:{each.message.provider_id}"
            hashed = self._hash(each)
            changed = await suppressions.suppress(tx, each.message.phone, hashed, each.suppress, source)
            if changed is not None:
                outgoing.append(self._announcer.suppression(changed))
        return outgoing

    def _hash(self, settlement: Settlement) -> bytes:
        return bytes.fromhex(phone_hash(settlement.message.phone, self._hash_key))

    def _tell(self, written: Sequence[Written]) -> None:
        again: set[tuple[int, str]] = set()
        accepted = False
        settled: Counter[State] = Counter(each.settlement.state for each in written)
        for state, n in settled.items():
            metrics.SETTLED.labels(state.value).inc(n)
        for each in written:
            state = each.settlement.state
            if state in (State.QUEUED, State.DEFERRED):
                again.add((each.settlement.message.lane, each.settlement.queue_after))
            accepted = accepted or state in ACCEPTED
            if each.settlement.suppress is not None:
                self._on_suppressed(self._hash(each.settlement))
        if again:
            self._on_requeued(again)
        if accepted:
            self._on_accepted()
