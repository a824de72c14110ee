"""Fires the timers that are due: never before everything in the log at that moment was read, never twice.

A turn: what is due by the database's clock, then a barrier, then batches: rows locked, people and filters looked at as
they are now, the rows changed and the qualified published in one transaction. A row that an event is changing at that
moment is left to the next turn. Must not decide what a row means (`domain.firing`).

There are two of it: one for campaigns with a filter, which waits for history too, and one for all others, which a store
that is away holds up in nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from postrider.contracts.definitions import AccountSettings
from postrider.contracts.envelope import Outgoing
from postrider.contracts.ids import message_id
from postrider.contracts.qualified import QUALIFIED
from postrider.contracts.topics import QUALIFIED_USERS
from postrider.kafka.clients import is_kafka_outage
from postrider.logs import failure, log
from postrider.postgres.database import Database, is_outage
from postrider.postgres.outbox import Outbox
from segment_engine import metrics
from segment_engine.adapters import profile_table, suppression_table, wait_table
from segment_engine.adapters.wait_table import Share
from segment_engine.domain import firing
from segment_engine.domain.columns import from_microseconds, microseconds
from segment_engine.domain.firing import Evaluated, Outcome
from segment_engine.domain.live_campaigns import LiveCampaign, LiveCampaigns
from segment_engine.domain.pages import suppressed_phones
from segment_engine.domain.profiles import Contact, Profile
from segment_engine.domain.verdicts import judge
from segment_engine.domain.wait_kinds import ReadUntil
from segment_engine.domain.waits import Row
from segment_engine.loops.wait_filters import WaitFilters
from segment_engine.loops.work import BACK_OFF_SECONDS, either, first_of, unless

AT_ONCE = 200
"""Of each partition. A row is locked while its batch is worked on, and its person's next event waits for that."""
LOOK_SECONDS = 1.0
"""Another process may have armed something of our partitions."""
AHEAD = timedelta(seconds=2 * LOOK_SECONDS)
"""What is due later is found by a later look: to find those with a filter, few of a million timers are looked at."""
SHORTEST_SECONDS = 0.005
OLD_NEWS_SECONDS = 3.0
"""Definitions are compared with the log every second: older ones are those of a process that stood still."""


class Definitions(Protocol):
    settings: AccountSettings

    def confirmed_within(self, seconds: float) -> bool: ...

    async def wait_until_confirmed(self) -> None: ...


class Passable(Protocol):
    async def read(self) -> None: ...

    async def remembered(self) -> None: ...


class Firing:
    """A component (`run`). `filters`: of the campaigns it is for; None: it is for those that have none. `partitions`:
    those of user-events that are owned here; a row fires once whoever takes it, but the owner knows when it is due."""

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        definitions: Definitions,
        campaigns: Callable[[], LiveCampaigns],
        barrier: Passable,
        filters: WaitFilters | None,
        read_until: ReadUntil,
        partitions: Callable[[], Sequence[int]],
        phone_hash_key: bytes,
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._definitions = definitions
        self._campaigns = campaigns
        self._barrier = barrier
        self._filters = filters
        self._read_until = read_until
        self._partitions = partitions
        self._phone_hash_key = phone_hash_key
        self._wake = asyncio.Event()
        self._next: datetime | None = None
        self._remembered = False

    def armed(self, due_at: datetime) -> None:
        """A timer was armed, committed: earlier than what is waited for, it is waited for instead."""
        if self._next is None or due_at < self._next:
            self._next = due_at
            self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        failures = 0
        while not stop.is_set():
            self._wake.clear()
            try:
                seconds = await self._turn(stop)
                failures = 0
            except Exception as error:
                if not (is_outage(error) or is_kafka_outage(error)):
                    raise
                log.warning("firing_waits", **failure(error))
                await first_of(stop, BACK_OFF_SECONDS[min(failures, len(BACK_OFF_SECONDS) - 1)])
                failures += 1
                continue
            await either(stop, self._wake, seconds)

    async def _turn(self, stop: asyncio.Event) -> float:
        """Everything that is due now; returns how long there is nothing to do."""
        share = self._share()
        if not share.partitions or (share.are_filtered and not share.filtered):
            return LOOK_SECONDS
        self._next = None
        async with self._database.begin() as tx:
            look = await wait_table.look(tx, share, AHEAD)
        due = look.now + AHEAD if look.due is None else look.due
        if due > look.now:
            self._next = due if self._next is None else min(self._next, due)
            return min(max((self._next - look.now).total_seconds(), SHORTEST_SECONDS), LOOK_SECONDS)
        self._remembered = False
        if await unless(stop, self._barrier.read()):
            self._read_until.passed(look.now)
            while not stop.is_set() and await self._fire(stop, look.now):
                continue
        return SHORTEST_SECONDS

    def _share(self) -> Share:
        return Share(list(self._partitions()), self._campaigns().filtered, self._filters is not None)

    async def _fire(self, stop: asyncio.Event, now: datetime) -> bool:
        """One batch of what was due at `now`; whether there may be more."""
        is_news = self._definitions.confirmed_within(OLD_NEWS_SECONDS)
        if not is_news and not await unless(stop, self._definitions.wait_until_confirmed()):
            return False
        evaluated: Mapping[str, Evaluated] = {}
        campaigns, share = self._campaigns(), self._share()
        if self._filters is not None:
            async with self._database.begin() as tx:
                ahead = await wait_table.peek(tx, share, now, AT_ONCE)
            evaluated = await self._filters.evaluate(campaigns, ahead, lambda: self._remember(stop))
        async with self._database.begin() as tx:
            rows = await wait_table.take(tx, share, now, AT_ONCE)
            if not rows:
                return False
            batch = await self._settle(tx, rows, campaigns, evaluated, now)
            pending = await self._outbox.add(tx, batch.outgoing) if batch.outgoing else None
        batch.count()
        await self._outbox.publish(pending)
        return batch.progressed

    async def _remember(self, stop: asyncio.Event) -> bool:
        """Once in a turn: whatever is due in it was read before it began."""
        self._remembered = self._remembered or await unless(stop, self._barrier.remembered())
        return self._remembered

    async def _settle(
        self,
        tx: AsyncConnection,
        rows: Sequence[Row],
        campaigns: LiveCampaigns,
        evaluated: Mapping[str, Evaluated],
        now: datetime,
    ) -> _Batch:
        settings = self._definitions.settings
        profiles = await profile_table.read(tx, sorted({row.id[1] for row in rows}))
        reasons = await suppression_table.reasons(tx, suppressed_phones(profiles), self._phone_hash_key)
        at = microseconds(now)
        batch = _Batch(now)
        changed, removed = [], []
        for row in rows:
            campaign = campaigns.waiting.get(row.id[0])
            profile = profiles.get(row.id[1])
            outcome = firing.settle(
                row, campaign, profile, evaluated.get(row.id[0]), at, settings.account_time_zone
            )  # fmt: skip
            if outcome is None:
                continue
            batch.add(campaign, outcome)
            if outcome.kept is None:
                removed.append(row.id)
            else:
                changed.append(row._replace(kept=outcome.kept))
            if campaign is None:
                continue
            for occurrence in outcome.occurrences:
                who = profile or Profile(row.id[1], 0, {}, Contact())
                phone = who.contact.phone
                verdict = judge(who.contact, reasons.get(phone) if phone else None, settings.require_consent)
                user = firing.qualified(
                    campaign.definition, who.user_id, occurrence, who, verdict, settings.account_time_zone, now
                )  # fmt: skip
                id = "qualified:" + message_id(campaign.id, occurrence.name, who.user_id)
                batch.outgoing.append(self._outbox.outgoing(QUALIFIED_USERS, who.user_id, QUALIFIED, user, id))
                batch.verdicts.append(verdict.status)
        await wait_table.write(tx, changed)
        await wait_table.remove(tx, removed)
        return batch


class _Batch:
    """What a transaction of firings wants published, and counted once it is committed."""

    def __init__(self, now: datetime) -> None:
        self.outgoing: list[Outgoing] = []
        self.verdicts: list[str] = []
        self.progressed = False
        self._now = now
        self._settled: list[tuple[str, Outcome]] = []

    def add(self, campaign: LiveCampaign | None, outcome: Outcome) -> None:
        self.progressed = True
        self._settled.append(("" if campaign is None else campaign.definition.kind, outcome))

    def count(self) -> None:
        for verdict in self.verdicts:
            metrics.QUALIFIED.labels(verdict or "reachable").inc()
        for kind, outcome in self._settled:
            if outcome.dropped:
                metrics.WAITS_DISARMED.labels(kind, outcome.dropped).inc()
            for occurrence in outcome.occurrences:
                metrics.WAITS_FIRED.labels(kind).inc()
                late = (datetime.now(self._now.tzinfo) - from_microseconds(occurrence.due)).total_seconds()
                metrics.WAIT_LATENESS.observe(max(late, 0.0))
