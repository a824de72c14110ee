"""Runs that share a total take their part of it in the order of their occurrences, also when a downtime has made both
due at once: handlers on a real database, the clock stands still."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from postrider.contracts import codec
from postrider.contracts.audience import (
    SNAPSHOT_REQUESTED,
    AudienceRefused,
    AudienceSnapshotted,
    SnapshotRequested,
)
from postrider.contracts.definitions import AccountSettings, CampaignDefinition, Limits, What, When, Who
from postrider.contracts.delivery_events import RUN_CHANGED, RunChanged
from postrider.contracts.envelope import Outgoing, envelope_of
from postrider.kafka.batch import Batch, Received
from postrider.postgres.database import Database, open_database
from postrider.postgres.migrate import migrate
from postrider.postgres.outbox import Outbox
from scheduler.handlers.audiences import Answer, Audiences
from scheduler.handlers.campaigns import Campaigns
from scheduler.handlers.planning import Planner
from scheduler.handlers.timers import Timers
from scheduler.records import Records
from scheduler.store import run_rows

pytestmark = pytest.mark.integration

FIRST, SECOND = "2026-12-01T09:00:00", "2026-12-01T09:30:00"
NOW = datetime(2026, 12, 1, 9, 40, tzinfo=UTC)
"""A scheduler was away when both audiences were to be asked for; in California both are ahead."""


class Nowhere:
    async def start(self) -> None: ...
    async def publish(self, records: Sequence[Outgoing]) -> None: ...


@dataclass
class Office:
    database: Database
    campaigns: Campaigns
    timers: Timers
    audiences: Audiences

    async def define(self, total: int | None) -> None:
        campaign = CampaignDefinition(
            "cmp_1", 1, "scheduled", "multiple_dates", "n", "transactional",
            When(time_zone="user", dates=[FIRST, SECOND]), Who(limits=Limits(total=total)), 1,
            {"1": What("Hi")}, NOW - timedelta(hours=1),
        )  # fmt: skip
        async with self.database.begin() as tx:
            await self.campaigns.align(tx, "cmp_1", campaign, AccountSettings())

    async def asked(self) -> list[SnapshotRequested]:
        """Audiences that are asked for until there is nothing to do."""
        found: list[SnapshotRequested] = []
        while True:
            async with self.database.begin() as tx:
                outgoing = (await self.timers.request_audiences(tx)).outgoing
            if not outgoing:
                return found
            found += [
                codec.decode(record.value or b"", SnapshotRequested)
                for record in outgoing
                if envelope_of(record.headers).type == SNAPSHOT_REQUESTED
            ]

    async def answer(self, answer: Answer) -> list[tuple[str, str]]:
        """What is told of runs: (occurrence, state)."""
        async with self.database.begin() as tx:
            outgoing = await self.audiences.handle(tx, Batch([Received(answer, "t", 0, 0, None, ())], []))
        told = [record for record in outgoing if envelope_of(record.headers).type == RUN_CHANGED]
        changes = [codec.decode(record.value or b"", RunChanged) for record in told]
        return [(change.occurrence, change.state) for change in changes]

    async def cuts(self) -> dict[str, int | None]:
        async with self.database.begin() as tx:
            return {run.name.occurrence: run.cut for run in await run_rows.runs_of(tx, "cmp_1")}


@pytest.fixture
async def office(fresh_database: Callable[[], Awaitable[str]]) -> AsyncIterator[Office]:
    url = await fresh_database()
    await migrate(url, "scheduler", "scheduler")
    database = open_database(url, "scheduler")
    async with database.begin() as tx:
        await tx.execute(
            text(
                "CREATE OR REPLACE FUNCTION db_now() RETURNS timestamptz LANGUAGE sql STABLE AS "
                f"$$SELECT timestamptz '{NOW.isoformat()}'$$"
            )
        )
    records = Records(Outbox(database, Nowhere(), "scheduler", ""))
    planner = Planner(records, timedelta(minutes=1))
    try:
        yield Office(
            database,
            Campaigns(records, planner),
            Timers(records, planner, AccountSettings, 100),
            Audiences(records, planner, AccountSettings, lambda: None),
        )
    finally:
        await database.close()


def people(asked: SnapshotRequested, n: int) -> AudienceSnapshotted:
    return AudienceSnapshotted(asked.run_id, asked.campaign_id, asked.occurrence, n, n, {"America/Los_Angeles": n})


async def test_the_earlier_of_two_that_are_due_at_once_takes_its_part_of_the_total_first(office: Office) -> None:
    await office.define(total=5)
    (first,) = await office.asked()
    assert first.occurrence == FIRST
    assert await office.answer(people(first, 4)) == [(SECOND, "planned"), (FIRST, "running")]
    (second,) = await office.asked()
    assert second.occurrence == SECOND
    assert await office.answer(people(second, 4)) == [(SECOND, "running")]
    assert await office.cuts() == {FIRST: 4, SECOND: 1}


async def test_a_refused_audience_leaves_the_total_to_the_next(office: Office) -> None:
    """Of which is told before: a campaign whose runs have all failed is over."""
    await office.define(total=5)
    (first,) = await office.asked()
    refused = AudienceRefused(first.run_id, first.campaign_id, first.occurrence, "segment_unknown")
    assert await office.answer(refused) == [(SECOND, "planned"), (FIRST, "failed")]
    (second,) = await office.asked()
    await office.answer(people(second, 4))
    assert (await office.cuts())[SECOND] == 4


async def test_without_a_total_nobody_waits_for_an_audience(office: Office) -> None:
    await office.define(total=None)
    assert [asked.occurrence for asked in await office.asked()] == [FIRST, SECOND]
