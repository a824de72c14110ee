"""Drives the scheduler's handlers through time, from one moment at which something is to be done to the next.

Real are the handlers, their transactions, the outbox and Postgres. Played are the clock (`db_now()` reads a setting of
the connection, of which there is one), the segment-engine, the dispatcher and Kafka. At random a transaction is rolled
back and comes again, a process dies between its commit and its publishing, a batch is published twice, pages overtake
each other.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from postrider.contracts import codec
from postrider.contracts.definitions import AccountSettings, CampaignDefinition
from postrider.contracts.delivery_events import MessageChanged
from postrider.contracts.envelope import Outgoing, envelope_of
from postrider.contracts.send_jobs import SendJob
from postrider.contracts.topics import (
    AUDIENCE_REQUESTS,
    DELIVERY_EVENTS,
    QUALIFIED_USERS,
    QUALIFIED_USERS_BULK,
    SEND_JOBS,
    SEND_JOBS_BULK,
    Topic,
)
from postrider.kafka.loop import Batch, Received
from postrider.postgres.database import Database
from postrider.postgres.outbox import Outbox
from scheduler.handlers import audiences, live, settlements
from scheduler.handlers.audiences import Audiences
from scheduler.handlers.campaigns import Campaigns
from scheduler.handlers.live import LiveQualifications
from scheduler.handlers.planning import Planner
from scheduler.handlers.timers import Timers
from scheduler.records import Records
from scheduler.store import run_rows
from tests.simulation.bus import PlayedBus, Record
from tests.simulation.dispatcher import PlayedDispatcher
from tests.simulation.engine import PlayedEngine
from tests.simulation.plans import Plan
from tests.simulation.story import Story, Told
from tests.simulation.world import World

LEAD = timedelta(seconds=60)
PREFIX = "simulation."
PAGE_SIZE = 2
MOST_PAGES, MOST_RECORDS, EVERYTHING = 8, 200, 1_000_000
_CLOCK = """CREATE OR REPLACE FUNCTION db_now() RETURNS timestamptz LANGUAGE sql STABLE
AS 'SELECT CAST(current_setting(''simulation.now'') AS timestamptz)'"""

_HASTE = """DO $$ BEGIN
EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database());
END $$"""
"""Nothing here survives the machine anyway."""

_OPEN = {
    "runs": "SELECT count(*) FROM runs WHERE state IN ('planned', 'requested', 'running') AND campaign_id LIKE 'cmp_%'",
    "zones": "SELECT count(*) FROM zone_timers WHERE state IN ('waiting', 'requested')",
    "pages": "SELECT count(*) FROM pages_ahead",
}

Work = Callable[[AsyncConnection], Awaitable[Sequence[Outgoing]]]


class RolledBack(Exception):
    """A transaction that is lost, and comes again."""


@dataclass(frozen=True)
class Mishaps:
    """How often a transaction is rolled back, goes through the outbox, and then is left there by a process that dies;
    how often a batch is published twice."""

    rolled_back: float = 0.01
    outbox: float = 0.1
    dies: float = 0.2
    repeats: float = 0.05


USUAL = Mishaps()


@dataclass
class Known:
    """The definitions that a scheduler has read, all at once and all there are."""

    campaigns: dict[str, CampaignDefinition] = field(default_factory=dict)
    settings: AccountSettings = field(default_factory=AccountSettings)

    async def wait_until_confirmed(self) -> None:
        """Nothing is ever behind."""


class Stage:
    """`step`: minutes between two looks of the scheduler, drawn at random up to so many."""

    def __init__(
        self, database: Database, world: World, plans: dict[str, Plan], seed: int, step: int, mishaps: Mishaps
    ) -> None:
        self.world = world
        self.plans = plans
        self.now = world.start
        self.story = Story()
        self._database = database
        self._chance = random.Random(f"stage {seed}")
        self._step = step
        self._mishaps = mishaps
        self._bus = PlayedBus(random.Random(f"bus {seed}"), mishaps.repeats)
        self._outbox = Outbox(database, self._bus, "scheduler", PREFIX)
        self.engine = PlayedEngine(world, plans, PREFIX)
        self.dispatcher = PlayedDispatcher(plans, PREFIX, seed)
        self._versions = sorted(
            [(version.at, version.definition) for plan in plans.values() for version in plan.versions],
            key=lambda version: (version[0], version[1].campaign_id, version[1].version),
            reverse=True,
        )
        self._changed: set[str] = set()
        self._taken_in: list[MessageChanged] = []
        self._left_behind = False
        self._is_awake = True
        self._due_at: datetime | None = None
        self._definitions = Known()
        records = Records(self._outbox)
        planner = Planner(records, LEAD)
        self._campaigns = Campaigns(records, planner)
        timers = Timers(records, planner, lambda: self._definitions.settings, PAGE_SIZE)
        self._audiences = Audiences(records, planner, lambda: self._definitions.settings, self._wake)
        self._live = LiveQualifications(records, self._definitions)
        self._steps = (
            timers.request_audiences,
            timers.fire_zones,
            timers.expire_held_zones,
            self._audiences.expand_parked,
            timers.finish_runs,
        )

    async def run(self, progress: Callable[[datetime, Story], None]) -> None:
        async with self._database.begin() as tx:
            await tx.execute(text(_CLOCK))
            await tx.execute(text(_HASTE))
        await self._database.engine.dispose()  # what connects from here on hastens
        while True:
            await self._set_clock()
            await self._bus.publish(self.engine.turn(self.now))
            self._read_definitions()
            if not self.world.is_down(self.now):
                self.story.ticks.append(self.now)
                await self._work_off()
            following = await self._next()
            if following is None:
                return
            self._bus.forget_what_was_read()
            progress(self.now, self.story)
            self.now = max(following, self.now + timedelta(seconds=self._chance.randrange(60, self._step * 60)))

    async def waiting(self) -> list[str]:
        return await not_over(self._database)

    def _read_definitions(self) -> None:
        self._definitions.settings = self.world.settings_at(self.now)
        while self._versions and self._versions[-1][0] <= self.now:
            definition = self._versions.pop()[1]
            self._definitions.campaigns[definition.campaign_id] = definition
            self._changed.add(definition.campaign_id)

    async def _next(self) -> datetime | None:
        """When something is to be done again."""
        moments = [self.engine.next_at(), self.dispatcher.next_at()]
        moments += [self._versions[-1][0]] if self._versions else []
        moments += [end for begin, end in self.world.down if begin <= self.now < end]
        if not self.world.is_down(self.now):
            async with self._database.begin() as tx:
                seconds = await run_rows.seconds_to_next(tx)
            self._due_at = None if seconds is None else self.now + timedelta(seconds=seconds)
            moments.append(self._due_at)
        return min((at for at in moments if at is not None), default=None)

    async def _set_clock(self) -> None:
        async with self._database.begin() as tx:
            await tx.execute(text("SELECT set_config('simulation.now', :now, false)"), {"now": self.now.isoformat()})

    async def _work_off(self) -> None:
        for campaign_id in sorted(self._changed):
            await self._align(campaign_id)
            self._wake()
        self._changed.clear()
        self._is_awake |= self._due_at is not None and self._due_at <= self.now
        self._is_awake |= any(campaign.status == "paused" for campaign in self._definitions.campaigns.values())
        is_busy = True
        while is_busy:
            is_busy = await self._take_turns() if self._is_awake else False
            is_busy |= await self._consume(QUALIFIED_USERS_BULK, MOST_PAGES, audiences.decode, self._audiences.handle)
            is_busy |= await self._consume(QUALIFIED_USERS, MOST_RECORDS, live.decode, self._live.handle)
            is_busy |= await self._consume(DELIVERY_EVENTS, MOST_RECORDS, settlements.decode, self._settle)
            if not is_busy and self._left_behind:
                self._left_behind = False
                is_busy = await self._outbox.recover() > 0
            is_busy |= await self._let_others_work()

    async def _align(self, campaign_id: str) -> None:
        campaign = self._definitions.campaigns[campaign_id]
        await self._transact(lambda tx: self._campaigns.align(tx, campaign_id, campaign, self._definitions.settings))

    async def _take_turns(self) -> bool:
        """All steps in one transaction: each is made for one of its own and leaves nothing to the next."""
        is_full = False

        async def work(tx: AsyncConnection) -> Sequence[Outgoing]:
            nonlocal is_full
            turns = [await step(tx) for step in self._steps]
            outgoing = [record for turn in turns for record in turn.outgoing]
            is_full = any(turn.is_full for turn in turns) or bool(outgoing)
            return outgoing

        self._is_awake = False
        await self._transact(work)
        self._is_awake |= is_full
        return is_full

    async def _consume(
        self,
        topic: Topic,
        most: int,
        decode: Callable[[Any], Any],
        handle: Callable[[AsyncConnection, Batch[Any]], Awaitable[Sequence[Outgoing]]],
    ) -> bool:
        """One batch of a topic; whether there was any."""
        records = self._polled("scheduler", topic, self._chance.randrange(1, most + 1))
        values = [(record, decode(record)) for record in records]
        received = [_received(record, value) for record, value in values if value is not None]
        if received:
            batch: Batch[Any] = Batch(received, [])
            await self._transact(lambda tx: handle(tx, batch))
            if topic is QUALIFIED_USERS_BULK:
                await self._audiences.after_commit()
        return bool(records)

    def _wake(self) -> None:
        self._is_awake = True

    async def _settle(self, tx: AsyncConnection, batch: Batch[Any]) -> Sequence[Outgoing]:
        self._taken_in = [record.value for record in batch.records]
        return await settlements.handle(tx, batch)

    async def _transact(self, work: Work) -> None:
        """With what can happen to a transaction and to what it has to say."""
        if self._chance.random() < self._mishaps.rolled_back:
            try:
                async with self._database.begin() as tx:
                    await self._outbox.add(tx, await work(tx))
                    raise RolledBack
            except RolledBack:
                self._taken_in = []
        is_stored = self._chance.random() < self._mishaps.outbox
        async with self._database.begin() as tx:
            outgoing = await work(tx)
            pending = await self._outbox.add(tx, outgoing) if is_stored else None
        self.story.published(outgoing, self.now)
        self.story.log += [Told(self.now, row) for row in self._taken_in]
        self._taken_in = []
        if pending is None:
            await self._bus.publish(outgoing)
        elif self._chance.random() < self._mishaps.dies:
            self._left_behind = True
        else:
            await self._outbox.publish(pending)

    async def _let_others_work(self) -> bool:
        """The engine answers, the dispatcher sends; whether they said anything."""
        before = self._bus.published
        for record in self._polled("engine", AUDIENCE_REQUESTS):
            envelope = envelope_of(record.headers)
            answers = self.engine.answer(envelope.type, envelope.id, record.value, self.now)
            self._chance.shuffle(answers)
            await self._bus.publish(answers)
        for topic in (SEND_JOBS, SEND_JOBS_BULK):
            for record in self._polled("dispatcher", topic):
                self.dispatcher.take(codec.decode(record.value, SendJob))
        await self._bus.publish(self.dispatcher.turn(self.now))
        return self._bus.published > before

    def _polled(self, group: str, topic: Topic, most: int = EVERYTHING) -> list[Record]:
        return self._bus.poll(group, topic.full_name(PREFIX), most)


async def not_over(database: Database) -> list[str]:
    """What the tables still hold at the end of all things."""
    async with database.begin() as tx:
        found = [(table, (await tx.execute(text(sql))).scalar_one()) for table, sql in _OPEN.items()]
    return [f"not over at the end: {n} {table}" for table, n in found if n]


def _received(record: Record, value: Any) -> Received[Any]:
    return Received(value, record.topic, record.partition, record.offset, record.key, record.headers)
