"""The same on real Kafka and Postgres, with two schedulers as processes that are killed: fewer campaigns, fewer days.

The clock stands still (`db_now()` reads a row) until nothing is left to be done at that moment, then it jumps to the
next. What is decided at one moment by two processes has no order of its own: the oracle allows any.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import datetime, timedelta

from aiokafka import ConsumerRecord
from sqlalchemy import text

from postrider.contracts import codec
from postrider.contracts.definitions import SETTINGS_KEY, SETTINGS_TYPE, CampaignDefinition, What, When, Who
from postrider.contracts.delivery_events import MESSAGE_CHANGED, MessageChanged
from postrider.contracts.envelope import Outgoing, envelope_of
from postrider.contracts.send_jobs import SendJob
from postrider.contracts.topics import (
    ACCOUNT_SETTINGS,
    AUDIENCE_REQUESTS,
    DELIVERY_EVENTS,
    QUALIFIED_USERS,
    QUALIFIED_USERS_BULK,
    SEND_JOBS,
    SEND_JOBS_BULK,
    Topic,
)
from tests.simulation.dispatcher import PlayedDispatcher
from tests.simulation.engine import PlayedEngine
from tests.simulation.oracle import PAST
from tests.simulation.plans import Plan
from tests.simulation.stage import PAGE_SIZE, not_over
from tests.simulation.story import Story, Told
from tests.simulation.world import World
from tests.support.eventually import eventually
from tests.support.scheduler_stage import Stage

SENTINEL = "zzz_sentinel"
"""A campaign that is aligned after all others that were published before it: its run says so."""
MOMENT = timedelta(milliseconds=1)
PATIENCE_SECONDS = 90.0
SURELY_KILLED_AT = 5
"""The look at which one is killed in any case."""
GROUPS = {
    "scheduler": QUALIFIED_USERS,
    "scheduler-bulk": QUALIFIED_USERS_BULK,
    "scheduler-settlements": DELIVERY_EVENTS,
}
_CLOCK = """CREATE TABLE simulated_clock (at timestamptz NOT NULL);
INSERT INTO simulated_clock VALUES (clock_timestamp());
GRANT SELECT ON simulated_clock TO PUBLIC;
CREATE OR REPLACE FUNCTION db_now() RETURNS timestamptz LANGUAGE sql STABLE
AS 'SELECT at FROM scheduler.simulated_clock'"""
_UNDONE = text("""
SELECT (SELECT count(*) FROM runs WHERE state = 'requested' OR
            (state = 'planned' AND NOT paused AND request_at <= (SELECT db_now())))
     + (SELECT count(*) FROM zone_timers z JOIN runs r USING (run_id) WHERE r.state = 'running' AND (
            z.state = 'requested' OR (z.state = 'waiting'
                AND CASE WHEN r.paused THEN z.send_by ELSE z.due_at END <= (SELECT db_now()))))
     + (SELECT count(*) FROM runs r WHERE state = 'running' AND NOT EXISTS (SELECT 1 FROM zone_timers z
            WHERE z.run_id = r.run_id AND z.state IN ('waiting', 'requested')))
""")
_NEXT = text("""
SELECT least((SELECT min(request_at) FROM runs WHERE state = 'planned' AND NOT paused AND campaign_id <> :sentinel),
    (SELECT min(CASE WHEN r.paused THEN z.send_by ELSE z.due_at END) FROM zone_timers z JOIN runs r USING (run_id)
     WHERE z.state = 'waiting' AND r.state = 'running'))
""")
_ALIGNED = text("SELECT max(definition_version) FROM runs WHERE campaign_id = :sentinel")
_EXPANDED = text("""
SELECT (SELECT coalesce(sum(expanded_users), 0) FROM zone_timers) + (SELECT count(*) FROM live_sends)
""")
_PROGRESS = text("SELECT topic, partition, next_offset FROM consumer_progress WHERE consumer_group = :group")


class RealStage:
    """`kills`: of one process, at random; both are gone while the world says that the scheduler is down. `step`: the
    most minutes that the clock jumps over what is due."""

    def __init__(self, stage: Stage, world: World, plans: dict[str, Plan], seed: int, step: int, kills: float) -> None:
        self.world = world
        self.plans = plans
        self.story = Story()
        self.now = world.start
        prefix = stage.config.topic_prefix
        self.engine = PlayedEngine(world, plans, prefix)
        self.dispatcher = PlayedDispatcher(plans, prefix, seed)
        self.killed = 0
        self._stage = stage
        self._chance = random.Random(f"month {seed}")
        self._step = step
        self._kills = kills
        self._processes: list[asyncio.subprocess.Process | None] = [None, None]
        self._versions = sorted((version.at, plan.id) for plan in plans.values() for version in plan.versions)
        self._read: dict[tuple[str, str], int] = {}
        self._ends: dict[tuple[str, int], int] = {}
        self._settled: list[Told] = []
        self._sentinel = 0
        self._is_changed = True

    async def run(self, progress: Callable[[datetime, int], None]) -> None:
        async with self._stage.database.begin() as tx:
            for statement in _CLOCK.split(";\n"):
                await tx.execute(text(statement))
        await self._set_clock()
        settings = self.world.settings_at(self.world.start)
        await self._stage.send(ACCOUNT_SETTINGS, SETTINGS_KEY, SETTINGS_TYPE, settings, "settings")
        try:
            while True:
                await self._moment()
                progress(self.now, self.killed)
                following = await self._next()
                if following is None:
                    known = len(self.dispatcher.texts)
                    await eventually(self._is_told, PATIENCE_SECONDS)
                    if len(self.dispatcher.texts) == known:
                        break
                    following = self.now + MOMENT
                self.now = following
                await self._set_clock()
            await self._read_all()
        finally:
            for process in self._processes:
                if process is not None and process.returncode is None:
                    process.kill()
                    await process.wait()

    async def waiting(self) -> list[str]:
        return await not_over(self._stage.database)

    async def _moment(self) -> None:
        await self._publish_definitions()
        await self._stage.publisher.publish(self.engine.turn(self.now))
        if self.world.is_down(self.now):
            for number in range(len(self._processes)):
                await self._kill(number)
            return
        self.story.ticks.append(self.now)
        for number, process in enumerate(self._processes):
            if process is None:
                self._processes[number] = await self._start(number)
        if len(self.story.ticks) == SURELY_KILLED_AT or self._chance.random() < self._kills:
            number = self._chance.randrange(len(self._processes))
            await asyncio.sleep(self._chance.random())  # in the middle of something
            await self._kill(number)
            self._processes[number] = await self._start(number)
            self.killed += 1
        if self._is_changed:
            await self._wait_for_sentinel()
            self._is_changed = False
        await eventually(self._is_done, PATIENCE_SECONDS, 0.03)
        await self._take_jobs()
        said = self.dispatcher.turn(self.now)
        await self._stage.publisher.publish(said)
        self._settled += [Told(self.now, codec.decode(each.value or b"", MessageChanged)) for each in said]
        await eventually(self._is_read, PATIENCE_SECONDS)

    async def _next(self) -> datetime | None:
        """Whatever was due before a definition changes is done before it."""
        moments = [self.engine.next_at(), self.dispatcher.next_at()]
        moments += [end for begin, end in self.world.down if begin <= self.now < end]
        if not self.world.is_down(self.now):
            async with self._stage.database.begin() as tx:
                moments.append((await tx.execute(_NEXT, {"sentinel": SENTINEL})).scalar_one())
        due_at = min((at for at in moments if at is not None), default=None)
        changes_at = self._versions[0][0] if self._versions else None
        following = min((at for at in (due_at, changes_at) if at is not None), default=None)
        if following is None:
            return None
        following = max(following, self.now + timedelta(minutes=self._chance.randrange(1, self._step)))
        if changes_at is None or following < changes_at:
            return following
        is_more_due = due_at is not None and due_at < changes_at and self.now < changes_at - MOMENT
        return changes_at - MOMENT if is_more_due else changes_at

    # What the schedulers are given, and when they are done with it

    async def _publish_definitions(self) -> None:
        due = [id for at, id in self._versions if at <= self.now]
        self._versions = [(at, id) for at, id in self._versions if at > self.now]
        for id in dict.fromkeys(due):
            version = self.plans[id].version_at(self.now)
            assert version is not None
            await self._stage.define(version.definition)
            self._is_changed = True

    async def _wait_for_sentinel(self) -> None:
        self._sentinel += 1
        version = self._sentinel
        await self._stage.define(
            CampaignDefinition(
                SENTINEL, version, "scheduled", "one_time", "n", "transactional",
                When(at="2200-01-01T00:00:00", time_zone="UTC"), Who(rule={"all": []}), version,
                {str(version): What("Hi")}, self.world.start,
            )
        )  # fmt: skip

        async def is_aligned() -> bool:
            async with self._stage.database.begin() as tx:
                return bool((await tx.execute(_ALIGNED, {"sentinel": SENTINEL})).scalar_one() == version)

        await eventually(is_aligned, PATIENCE_SECONDS)

    async def _is_done(self) -> bool:
        for record in await self._new(AUDIENCE_REQUESTS, "engine"):
            envelope = envelope_of(record.headers)
            await self._stage.publisher.publish(self.engine.answer(envelope.type, envelope.id, record.value, self.now))
        async with self._stage.database.begin() as tx:
            undone = (await tx.execute(_UNDONE)).scalar_one()
        return not undone and await self._is_read()

    async def _is_read(self) -> bool:
        for group, topic in GROUPS.items():
            for record in await self._new(topic, group):
                self._ends[topic.name, record.partition] = record.offset + 1
            async with self._stage.database.begin() as tx:
                rows = await tx.execute(_PROGRESS, {"group": group})
                done = {row.partition: row.next_offset for row in rows}
            ends = {partition: end for (name, partition), end in self._ends.items() if name == topic.name}
            if any(done.get(partition, 0) < end for partition, end in ends.items()):
                return False
        return True

    async def _is_told(self) -> bool:
        """Of everybody whom the tables have expanded the topics hold a row of the log, and of each text a job."""
        rows, pending = set(), set()
        for record in await self._stage.records(DELIVERY_EVENTS):
            if envelope_of(record.headers).type == MESSAGE_CHANGED:
                row = codec.decode(record.value, MessageChanged)
                if row.seq == 0:
                    rows.add(row.message_id)
                    pending |= {row.message_id} if row.status == "pending" else set()
        await self._take_jobs()
        async with self._stage.database.begin() as tx:
            expanded = (await tx.execute(_EXPANDED)).scalar_one()
        return len(rows) == expanded and pending == self.dispatcher.texts.keys()

    async def _take_jobs(self) -> None:
        for topic in (SEND_JOBS, SEND_JOBS_BULK):
            for record in await self._new(topic, "dispatcher"):
                self.dispatcher.take(codec.decode(record.value, SendJob))

    async def _new(self, topic: Topic, reader: str) -> list[ConsumerRecord]:
        records = await self._stage.records(topic)
        begin, self._read[topic.name, reader] = self._read.get((topic.name, reader), 0), len(records)
        return records[begin:]

    async def _read_all(self) -> None:
        """The story as the topics tell it: what was published twice is the same twice."""
        seen: set[tuple[str, bytes]] = set()
        for topic in (DELIVERY_EVENTS, SEND_JOBS, SEND_JOBS_BULK):
            for record in await self._stage.records(topic):
                envelope = envelope_of(record.headers)
                if envelope.source != "dispatcher" and (envelope.id, record.value) not in seen:
                    seen.add((envelope.id, record.value))
                    self.story.published([Outgoing(topic.name, record.key, record.value, tuple(record.headers))], PAST)
        log = [Told(told.row.at, told.row) for told in self.story.log]
        # Of one moment those who got something first: then whoever was refused found everything taken.
        log.sort(key=lambda told: (told.at, told.row.status != "pending"))
        self.story.log = sorted([*log, *self._settled], key=lambda told: (told.at, told.row.seq > 0))

    # The clock and the processes

    async def _set_clock(self) -> None:
        async with self._stage.database.begin() as tx:
            await tx.execute(text("UPDATE simulated_clock SET at = :now"), {"now": self.now})

    async def _start(self, number: int) -> asyncio.subprocess.Process:
        return await self._stage.scheduler_process(
            POSTRIDER_INSTANCE_ID=f"r{number}",
            POSTRIDER_PAGE_SIZE=str(PAGE_SIZE),
            POSTRIDER_LOG_LEVEL="ERROR",
            POSTRIDER_LIVE_MEMORY_DAYS="90",  # by the simulated clock, which runs ahead
        )

    async def _kill(self, number: int) -> None:
        process, self._processes[number] = self._processes[number], None
        if process is not None:
            assert process.returncode is None, "a scheduler ended by itself"
            process.kill()
            await process.wait()
