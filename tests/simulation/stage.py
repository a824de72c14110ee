"""Drives the scheduler's handlers through time: from one moment at which something is due to the next.

Real are the handlers, their transactions and Postgres. Played are the clock (`db_now()` reads a setting of the
transaction), the segment-engine (everybody can be texted) and the records between them, which are handed over at once.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from postrider.contracts import codec
from postrider.contracts.audience import (
    SNAPSHOT_REQUESTED,
    ZONE_REQUESTED,
    AudiencePage,
    AudienceSnapshotted,
    PageUser,
    SnapshotRequested,
    ZoneRequested,
)
from postrider.contracts.definitions import AccountSettings, CampaignDefinition
from postrider.contracts.delivery_events import FUNNEL_MOVED, FunnelMoved
from postrider.contracts.envelope import Outgoing, envelope_of
from postrider.contracts.send_jobs import SEND_JOB, SendJob
from postrider.kafka.loop import Batch, Received
from postrider.postgres.database import Database
from postrider.postgres.outbox import Outbox, RecordPublisher
from scheduler.handlers.audiences import Answer, Audiences
from scheduler.handlers.campaigns import Campaigns
from scheduler.handlers.planning import Planner
from scheduler.handlers.timers import Timers
from scheduler.records import Records
from scheduler.store import run_rows

LEAD = timedelta(seconds=60)
PAGE = 200
PHONE = "+4915112345678"
_CLOCK = """CREATE OR REPLACE FUNCTION db_now() RETURNS timestamptz LANGUAGE sql STABLE
AS 'SELECT CAST(current_setting(''simulation.now'') AS timestamptz)'"""


_WAITING = """SELECT coalesce(sum(users - expanded_users), 0) FROM zone_timers JOIN runs USING (run_id)
WHERE zone_timers.state = 'waiting' AND runs.state = 'running'"""


class Nowhere(RecordPublisher):
    """Nothing is published: records are handed over by the stage."""

    async def start(self) -> None:
        raise AssertionError("the stage hands records over itself")

    async def publish(self, records: Sequence[Outgoing]) -> None:
        raise AssertionError("the stage hands records over itself")


@dataclass
class Simulation:
    """`people`: user → zone. `jobs`: all that were emitted, in order; `funnel`: people by status."""

    database: Database
    people: dict[str, str]
    now: datetime
    settings: AccountSettings = field(default_factory=AccountSettings)
    jobs: list[SendJob] = field(default_factory=list)
    funnel: Counter[str] = field(default_factory=Counter)
    late: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        records = Records(Outbox(self.database, Nowhere(), "scheduler", "simulation."))
        planner = Planner(records, LEAD)
        self._campaigns = Campaigns(records, planner)
        self._audiences = Audiences(records, lambda: self.settings, lambda: None)
        timers = Timers(records, planner, lambda: self.settings, PAGE)
        self._steps = (
            timers.request_audiences,
            timers.fire_zones,
            timers.expire_held_zones,
            self._audiences.expand_parked,
            timers.finish_runs,
        )

    async def begin(self) -> None:
        async with self.database.begin() as tx:
            await tx.execute(text(_CLOCK))

    async def run(self, definitions: Sequence[tuple[datetime, CampaignDefinition]], until: datetime) -> None:
        """`definitions`: what is published when."""
        coming = deque(sorted(definitions, key=lambda planned: planned[0]))
        while self.now <= until:
            while coming and coming[0][0] <= self.now:
                campaign = coming.popleft()[1]
                async with self._transaction() as tx:
                    found = await self._campaigns.align(tx, campaign.campaign_id, campaign, self.settings)
                await self._hand_over(found)
            await self._work_off()
            async with self._transaction() as tx:
                seconds = await run_rows.seconds_to_next(tx)
            following = [] if seconds is None else [self.now + timedelta(seconds=max(seconds, 0.001))]
            following += [coming[0][0]] if coming else []
            if not following:
                return
            self.now = max(self.now, min(following))

    async def people_waiting(self) -> int:
        """In zones whose time has not come."""
        async with self._transaction() as tx:
            return int((await tx.execute(text(_WAITING))).scalar_one())

    async def _work_off(self) -> None:
        is_full = True
        while is_full:
            is_full = False
            for step in self._steps:
                async with self._transaction() as tx:
                    turn = await step(tx)
                await self._hand_over(turn.outgoing)
                is_full = is_full or turn.is_full or bool(turn.outgoing)

    async def _hand_over(self, records: Sequence[Outgoing]) -> None:
        answers: list[Answer] = []
        for record in records:
            match envelope_of(record.headers).type:
                case str(kind) if kind == SEND_JOB:
                    self.jobs.append(codec.decode(record.value, SendJob))
                case str(kind) if kind == FUNNEL_MOVED:
                    move = codec.decode(record.value, FunnelMoved)
                    self.funnel[move.to_status] += move.n
                    if move.from_status:
                        self.funnel[move.from_status] -= move.n
                case str(kind) if kind == SNAPSHOT_REQUESTED:
                    answers.append(self._snapshot(codec.decode(record.value, SnapshotRequested)))
                case str(kind) if kind == ZONE_REQUESTED:
                    answers += self._pages(codec.decode(record.value, ZoneRequested))
        for answer in answers:
            batch: Batch[Answer] = Batch([Received(answer, "bulk", 0, 0, None, ())], [])
            async with self._transaction() as tx:
                found = await self._audiences.handle(tx, batch)
            await self._hand_over(found)

    def _snapshot(self, request: SnapshotRequested) -> AudienceSnapshotted:
        zones = Counter(self.people.values())
        total = len(self.people)
        return AudienceSnapshotted(request.run_id, request.campaign_id, request.occurrence, total, total, dict(zones))

    def _pages(self, request: ZoneRequested) -> list[AudiencePage]:
        ranked = sorted(self.people, key=lambda user: hashlib.sha256(f"{request.run_id}{user}".encode()).digest())
        users = [
            PageUser(user, rank, phone=PHONE, country="DE")
            for rank, user in enumerate(ranked)
            if self.people[user] == request.zone
        ]
        chunks = [users[start : start + request.page_size] for start in range(0, len(users), request.page_size)]
        return [
            AudiencePage(
                request.run_id, request.campaign_id, request.occurrence, request.zone, number,
                number == len(chunks) - 1, request.what_version, chunk,
            )
            for number, chunk in enumerate(chunks)
        ]  # fmt: skip

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        async with self.database.begin() as tx:
            await tx.execute(text("SELECT set_config('simulation.now', :now, true)"), {"now": self.now.isoformat()})
            yield tx
