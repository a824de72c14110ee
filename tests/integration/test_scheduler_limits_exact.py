"""Limits and caps with the handlers of eight schedulers at once on one Postgres, transactions that die, and texts that
fail: never passed, used to the last slot, and nobody waits for somebody who waits for them."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from postrider.contracts import codec
from postrider.contracts.audience import AudiencePage, PageUser
from postrider.contracts.definitions import (
    AccountSettings,
    CampaignDefinition,
    FrequencyCap,
    Limits,
    Trigger,
    What,
    When,
    Who,
)
from postrider.contracts.delivery_events import MESSAGE_CHANGED, AttemptSummary, MessageChanged
from postrider.contracts.envelope import Outgoing, envelope_of
from postrider.contracts.qualified import QualifiedUser
from postrider.contracts.send_jobs import SEND_JOB, SendJob
from postrider.kafka.batch import Batch, Received
from postrider.postgres.database import Database, open_database
from postrider.postgres.migrate import migrate
from postrider.postgres.outbox import Outbox
from scheduler.domain.limits import counting_day
from scheduler.domain.moves import Zone
from scheduler.domain.run_states import RunState, ZoneState
from scheduler.domain.runs import Run, new_run
from scheduler.handlers import settlements
from scheduler.handlers.audiences import Audiences
from scheduler.handlers.live import LiveQualifications
from scheduler.handlers.planning import Planner
from scheduler.records import Records
from scheduler.store import run_rows

pytestmark = pytest.mark.integration

SCHEDULERS = 8
PHONE = "+4915112345678"
BERLIN = "Europe/Berlin"
NOW = datetime(2026, 12, 1, 23, 30, tzinfo=UTC)
EVENING, MORNING = NOW - timedelta(minutes=45), NOW - timedelta(minutes=15)
"""Either side of midnight in Berlin."""

Handle = Callable[[AsyncConnection, Batch[Any]], Awaitable[Sequence[Outgoing]]]


class Died(Exception):
    """A process, before the commit."""


class Nowhere:
    """What was committed is what counts here."""

    async def start(self) -> None: ...
    async def publish(self, records: Sequence[Outgoing]) -> None: ...


@dataclass
class Known:
    """Definitions as they were read."""

    campaigns: dict[str, CampaignDefinition]
    settings: AccountSettings

    async def wait_until_confirmed(self) -> None: ...


@dataclass
class Office:
    """One Postgres, and all that was committed in it."""

    database: Database
    chance: random.Random
    jobs: dict[str, SendJob] = field(default_factory=dict)
    rows: dict[str, MessageChanged] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)

    @property
    def records(self) -> Records:
        return Records(Outbox(self.database, Nowhere(), "scheduler", ""))

    async def transact(self, handle: Handle, values: Sequence[Any], deaths: float = 0.2) -> bool:
        """One batch in one transaction; False: it died."""
        batch = Batch([Received(value, "t", 0, n, None, ()) for n, value in enumerate(values)], [])
        try:
            async with self.database.begin() as tx:
                outgoing = await handle(tx, batch)
                if self.chance.random() < deaths:
                    raise Died
        except Died:
            return False
        for record in outgoing:
            type = envelope_of(record.headers).type
            if type == SEND_JOB:
                job = codec.decode(record.value, SendJob)
                assert job.message_id not in self.jobs
                self.jobs[job.message_id] = job
            elif type == MESSAGE_CHANGED:
                row = codec.decode(record.value, MessageChanged)
                self.rows[row.message_id] = row
        return True

    def sent(self, campaign_id: str) -> list[SendJob]:
        return [job for id, job in self.jobs.items() if job.campaign_id == campaign_id and id not in self.failed]


@asynccontextmanager
async def opened_office(url: str, seed: int) -> AsyncIterator[Office]:
    await migrate(url, "scheduler", "scheduler")
    database = open_database(url, "scheduler", pool_size=SCHEDULERS + 4)
    async with database.begin() as tx:
        await tx.execute(
            text(
                "CREATE OR REPLACE FUNCTION db_now() RETURNS timestamptz LANGUAGE sql STABLE AS "
                f"$$SELECT timestamptz '{NOW.isoformat()}'$$"
            )
        )
    try:
        yield Office(database, random.Random(seed))
    finally:
        await database.close()


def campaign(id: str, limits: Limits, who: Who, when: When, kind: str) -> CampaignDefinition:
    return CampaignDefinition(
        id, 1, "running", kind, id, "transactional", when, replace_limits(who, limits), 1, {"1": What("Hi")}, NOW
    )  # fmt: skip


def replace_limits(who: Who, limits: Limits) -> Who:
    return Who(rule=who.rule, trigger=who.trigger, limits=limits)


def live(id: str, **limits: int) -> CampaignDefinition:
    return campaign(id, Limits(**limits), Who(trigger=Trigger("E")), When(send_by_seconds=7200), "live_action")


def qualified(campaign_id: str, number: int) -> QualifiedUser:
    due = MORNING if number % 2 else EVENING
    user = f"u{number}"
    return QualifiedUser(campaign_id, 1, 1, f"e-{user}", user, due, due, BERLIN, phone=PHONE, country="DE")


async def test_live_limits_are_never_passed_and_used_to_the_last_slot(
    fresh_database: Callable[[], Awaitable[str]],
) -> None:
    campaigns = {made.campaign_id: made for made in (live("cmp_total", total=60), live("cmp_both", total=70, daily=35))}
    known = Known(campaigns, AccountSettings(account_time_zone=BERLIN))
    async with opened_office(await fresh_database(), seed=1) as office:
        waiting = [qualified(id, number) for id in campaigns for number in range(300)]
        office.chance.shuffle(waiting)
        await asyncio.gather(
            *(trigger(office, known, waiting) for _ in range(SCHEDULERS)),
            *(settle(office, waiting, failures=0.4) for _ in range(2)),
            watch(office, waiting),
        )
        assert office.failed
        # Who comes when all is settled gets what was given back; the others are told why not.
        late = [qualified(id, number) for id in campaigns for number in range(300, 420)]
        await asyncio.gather(*(trigger(office, known, late) for _ in range(SCHEDULERS)))
        async with office.database.begin() as tx:
            slots = (await tx.execute(text("SELECT count(*) FROM limit_slots"))).scalar_one()
    assert len(office.sent("cmp_total")) == 60
    assert len(office.sent("cmp_both")) == 70
    days = Counter(counting_day(job.due_at, BERLIN).day for job in office.sent("cmp_both"))
    assert days == {1: 35, 2: 35}
    assert slots == 130
    assert len(office.rows) == 840
    reasons = Counter((row.campaign_id, row.reason) for row in office.rows.values() if row.status == "limited")
    assert set(reasons) == {("cmp_total", "total"), ("cmp_both", "total"), ("cmp_both", "daily")}


async def trigger(office: Office, known: Known, waiting: list[QualifiedUser]) -> None:
    handler = LiveQualifications(office.records, known)
    while waiting:
        batch = [waiting.pop() for _ in range(min(office.chance.randint(1, 12), len(waiting)))]
        if not await office.transact(handler.handle, batch):
            waiting += batch  # whoever takes over reads it again
        await asyncio.sleep(0.002)


async def settle(office: Office, waiting: Sequence[object], failures: float) -> None:
    """Tells what became of texts, now and then twice, until nobody comes any more and all are settled."""
    settled: set[str] = set()
    while waiting or settled < set(office.jobs):
        open = [id for id in office.jobs if id not in settled]
        batch = [told(office, office.jobs[id], failures) for id in office.chance.sample(open, min(9, len(open)))]
        if batch and await office.transact(settlements.handle, batch + batch[:2]):
            settled |= {change.message_id for change in batch}
            office.failed |= {change.message_id for change in batch if change.status == "rejected"}
        await asyncio.sleep(0.005)


def told(office: Office, job: SendJob, failures: float) -> MessageChanged:
    """The same each time it is told."""
    status = "rejected" if int(job.message_id, 16) % 100 < failures * 100 else "sent"
    attempt = AttemptSummary(1, "prv_1", "accepted", NOW)
    return MessageChanged(
        job.message_id, job.campaign_id, job.run_id, job.occurrence, job.user_id, status, 3, NOW, job.due_at,
        attempts=[attempt],
    )  # fmt: skip


async def watch(office: Office, waiting: Sequence[object]) -> None:
    """At every moment."""
    limits = {
        ("cmp_total", ""): 60,
        ("cmp_both", ""): 70,
        ("cmp_both", "2026-12-01"): 35,
        ("cmp_both", "2026-12-02"): 35,
    }
    while waiting:
        async with office.database.begin() as tx:
            rows = await tx.execute(text("SELECT campaign_id, day, taken - given_back AS held FROM limit_counters"))
            assert all(row.held <= limits[row.campaign_id, row.day] for row in rows)
        await asyncio.sleep(0.01)


ZONES = {BERLIN: EVENING, "UTC": EVENING, "Asia/Tokyo": MORNING, "America/New_York": MORNING}
PEOPLE = 60
"""Of a zone, on twelve pages."""


async def test_two_campaigns_at_once_for_the_same_people_keep_caps_and_the_daily_limit(
    fresh_database: Callable[[], Awaitable[str]],
) -> None:
    settings = AccountSettings(frequency_caps=[FrequencyCap(1, 1)], account_time_zone=BERLIN)
    when = When(at="2026-12-02T00:00:00", time_zone="user")
    who = Who(rule={"all": []})
    made = [
        campaign("cmp_a", Limits(daily=40), who, when, "one_time"),
        campaign("cmp_b", Limits(), who, when, "one_time"),
    ]
    async with opened_office(await fresh_database(), seed=2) as office:
        pages = []
        for definition in made:
            run = await started(office.database, definition)
            pages += [page for zone in ZONES for page in pages_of(office, run, zone)]
        office.chance.shuffle(pages)
        await asyncio.gather(*(expand(office, settings, pages) for _ in range(SCHEDULERS)))
        async with office.database.begin() as tx:
            zones = (await tx.execute(text("SELECT state, users - expanded_users AS left FROM zone_timers"))).all()
    assert [tuple(zone) for zone in zones] == [("expanded", 0)] * 8
    texts = Counter(job.user_id for job in office.jobs.values())
    assert texts == dict.fromkeys([f"{zone}-{n}" for zone in ZONES for n in range(PEOPLE)], 1)
    days = Counter(counting_day(job.due_at, BERLIN).isoformat() for job in office.sent("cmp_a"))
    limited = {counting_day(row.due_at, BERLIN).isoformat() for row in office.rows.values() if row.status == "limited"}
    assert all(days[day] == 40 if day in limited else days[day] <= 40 for day in ("2026-12-01", "2026-12-02"))
    assert limited
    assert {(row.status, row.reason) for row in office.rows.values()} == {
        ("pending", ""),
        ("limited", "daily"),
        ("capped", "1_per_1_days"),
    }


async def started(database: Database, definition: CampaignDefinition) -> Run:
    run = replace(new_run(definition, BERLIN, timedelta(0), NOW), state=RunState.RUNNING)
    zones = [Zone(name, PEOPLE, ZoneState.REQUESTED, due, due + timedelta(hours=4)) for name, due in ZONES.items()]
    async with database.begin() as tx:
        await run_rows.add_run(tx, run)
        await run_rows.add_zones(tx, run.name.run_id, zones)
    return run


def pages_of(office: Office, run: Run, zone: str) -> list[AudiencePage]:
    """The people of a zone in the run's own order."""
    numbers = list(range(PEOPLE))
    office.chance.shuffle(numbers)
    users = [PageUser(f"{zone}-{n}", rank, phone=PHONE, country="DE") for rank, n in enumerate(numbers)]
    name = run.name
    return [
        AudiencePage(name.run_id, name.campaign_id, name.occurrence, zone, page, page == 11, 1, users[page * 5 :][:5])
        for page in range(12)
    ]


async def expand(office: Office, settings: AccountSettings, pages: list[AudiencePage]) -> None:
    audiences = Audiences(office.records, Planner(office.records, timedelta(0)), lambda: settings, lambda: None)
    is_full = False

    async def parked(tx: AsyncConnection, _batch: Batch[Any]) -> Sequence[Outgoing]:
        nonlocal is_full
        turn = await audiences.expand_parked(tx)
        is_full = turn.is_full
        return turn.outgoing

    while pages or is_full:
        batch = [pages.pop() for _ in range(min(office.chance.randint(2, 4), len(pages)))]
        if not await office.transact(audiences.handle, batch):
            pages += batch
        await office.transact(parked, [])
        await asyncio.sleep(0.002)
