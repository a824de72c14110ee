"""Limits and caps with scheduler processes that are killed, on real Kafka and Postgres: a run and a live campaign at
once for the same people, texts that fail, and a total that is used to the last slot."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from postrider.contracts.audience import AudiencePage, AudienceSnapshotted, PageUser, SnapshotRequested, ZoneRequested
from postrider.contracts.definitions import (
    SETTINGS_KEY,
    SETTINGS_TYPE,
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
from postrider.contracts.qualified import QUALIFIED, QualifiedUser
from postrider.contracts.send_jobs import SendJob
from postrider.contracts.topics import ACCOUNT_SETTINGS, DELIVERY_EVENTS, QUALIFIED_USERS, SEND_JOBS, SEND_JOBS_BULK
from tests.support.eventually import eventually
from tests.support.scheduler_stage import Engine, Stage, make_stage

pytestmark = pytest.mark.integration

PHONE = "+4915112345678"
PEOPLE = 240
RUN_LIMIT, TOTAL = 70, 50


@pytest.fixture
async def stage(kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str) -> AsyncIterator[Stage]:
    async with make_stage(kafka, fresh_database, topic_prefix) as stage:
        yield stage


@dataclass
class Crowd(Engine):
    """Everybody in zone UTC, by rank, ten on a page."""

    audience: dict[str, list[str]] = field(default_factory=dict)

    def snapshot(self, request: SnapshotRequested) -> AudienceSnapshotted:
        names = (request.run_id, request.campaign_id, request.occurrence)
        return AudienceSnapshotted(*names, PEOPLE, PEOPLE, {"UTC": PEOPLE})

    def pages(self, request: ZoneRequested) -> list[AudiencePage]:
        names = (request.run_id, request.campaign_id, request.occurrence, request.zone)
        users = [PageUser(f"u{rank}", rank, phone=PHONE, country="DE") for rank in range(PEOPLE)]
        last = PEOPLE // 10 - 1
        return [
            AudiencePage(*names, page, page == last, request.what_version, users[page * 10 :][:10])
            for page in range(last + 1)
        ]


def campaign(id: str, kind: str, who: Who) -> CampaignDefinition:
    return CampaignDefinition(
        id, 1, "running", kind, id, "transactional", When(send_by_seconds=3600), who, 1, {"1": What("Hi")},
        datetime.now(UTC),
    )  # fmt: skip


async def qualify(stage: Stage, *numbers: int) -> None:
    now = datetime.now(UTC)
    for number in numbers:
        user = f"u{number}"
        qualified = QualifiedUser("cmp_live", 1, 1, f"e-{user}", user, now, now, "UTC", phone=PHONE, country="DE")
        await stage.send(QUALIFIED_USERS, user, QUALIFIED, qualified, f"q-{user}")


async def fail(stage: Stage, jobs: list[SendJob]) -> None:
    """They were definitely not sent, and that is told twice."""
    for job in jobs * 2:
        attempt = AttemptSummary(1, "prv_1", "rejected", datetime.now(UTC))
        changed = MessageChanged(
            job.message_id, job.campaign_id, "", job.occurrence, job.user_id, "rejected", 2, datetime.now(UTC),
            job.due_at, attempts=[attempt],
        )  # fmt: skip
        await stage.send(DELIVERY_EVENTS, job.user_id, MESSAGE_CHANGED, changed, f"{job.message_id}:2")


async def live_jobs(stage: Stage, least: int = 0) -> list[SendJob]:
    jobs = [copies[0] for copies in (await stage.jobs(SEND_JOBS)).values()]
    assert len(jobs) >= least
    return jobs


async def is_told(stage: Stage, n: int) -> bool:
    return sum((await stage.funnel()).values()) == n


async def has_given_back(stage: Stage, n: int) -> bool:
    async with stage.database.begin() as tx:
        query = "SELECT coalesce(sum(given_back), 0) FROM limit_counters"
        return bool((await tx.exec_driver_sql(query)).scalar_one() == n)


async def test_kills_pass_no_limit_and_no_cap_and_waste_no_slot(stage: Stage) -> None:
    chance = random.Random(20261125)
    caps = AccountSettings(version=1, frequency_caps=[FrequencyCap(1, 1)])
    await stage.send(ACCOUNT_SETTINGS, SETTINGS_KEY, SETTINGS_TYPE, caps)
    await stage.define(campaign("cmp_live", "live_action", Who(trigger=Trigger("E"), limits=Limits(total=TOTAL))))
    async with stage.engine(Crowd({}, shuffled=True)):
        first, second = [await stage.scheduler_process(POSTRIDER_INSTANCE_ID=f"r{n}") for n in range(2)]
        await qualify(stage, *range(30))
        await eventually(lambda: live_jobs(stage, 1), 40)
        await stage.define(campaign("cmp_run", "one_time", Who(rule={"all": []}, limits=Limits(run=RUN_LIMIT))))
        await qualify(stage, *range(30, 120))
        await eventually(lambda: stage.jobs(SEND_JOBS_BULK), 40, 0.01)
        first.kill()
        await first.wait()
        third = await stage.scheduler_process(POSTRIDER_INSTANCE_ID="r2")
        failed = chance.sample(await live_jobs(stage), 5)
        await fail(stage, failed)
        await qualify(stage, *range(120, 180))
        await asyncio.sleep(chance.uniform(0, 1))
        second.kill()
        await second.wait()
        await eventually(lambda: is_told(stage, PEOPLE + 180), 60)
        await eventually(lambda: has_given_back(stage, 5), 40)
        await qualify(stage, *range(180, 300))  # most of these nobody has texted
        await eventually(lambda: is_told(stage, PEOPLE + 300), 60)
        third.terminate()
        await third.wait()
    live, run = await live_jobs(stage), [copies[0] for copies in (await stage.jobs(SEND_JOBS_BULK)).values()]
    gone = {job.message_id for job in failed}
    assert len([job for job in live if job.message_id not in gone]) == TOTAL
    texts = Counter(job.user_id for job in [*live, *run] if job.message_id not in gone)
    assert max(texts.values()) == 1
    ranks = {int(job.user_id[1:]) for job in run}
    assert ranks < set(range(RUN_LIMIT))
    rows = [row for row in await stage.message_rows() if row.seq == 0]
    assert {(row.campaign_id, row.reason) for row in rows if row.status == "limited"} == {
        ("cmp_live", "total"),
        ("cmp_run", "run"),
    }
    capped = {row.user_id for row in rows if row.status == "capped" and row.campaign_id == "cmp_run"}
    assert capped == {f"u{rank}" for rank in range(RUN_LIMIT)} - {job.user_id for job in run}
    assert len(rows) == PEOPLE + 300
