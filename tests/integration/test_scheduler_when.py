"""Schedules, pauses, limits, caps and quiet hours on real Kafka and Postgres, by the database's clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial

import httpx
import msgspec
import pytest
from sqlalchemy import text

from postrider.contracts import ids
from postrider.contracts.audience import AudiencePage, AudienceSnapshotted, PageUser, SnapshotRequested, ZoneRequested
from postrider.contracts.definitions import (
    SETTINGS_KEY,
    SETTINGS_TYPE,
    AccountSettings,
    CampaignDefinition,
    FrequencyCap,
    Limits,
    QuietHours,
    QuietWindow,
    Recurrence,
    Trigger,
    What,
    When,
    Who,
)
from postrider.contracts.delivery_events import (
    MESSAGE_CHANGED,
    RUN_CHANGED,
    AttemptSummary,
    MessageChanged,
    RunChanged,
)
from postrider.contracts.qualified import QUALIFIED, QualifiedUser
from postrider.contracts.topics import (
    ACCOUNT_SETTINGS,
    DELIVERY_EVENTS,
    QUALIFIED_USERS,
    SEND_JOBS,
    SEND_JOBS_BULK,
)
from tests.support.eventually import eventually
from tests.support.scheduler_stage import TOKEN, Engine, Stage, make_stage

pytestmark = pytest.mark.integration

NIGHT = QuietHours([QuietWindow(["mon", "tue", "wed", "thu", "fri", "sat", "sun"], "08:00", "10:00")])
PHONE = "+4915112345678"


@pytest.fixture
async def stage(kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str) -> AsyncIterator[Stage]:
    async with make_stage(kafka, fresh_database, topic_prefix) as stage:
        yield stage


@dataclass
class Ranked(Engine):
    """As the real one: ranks are of the whole run. All in zone UTC."""

    people: int = 10
    audience: dict[str, list[str]] = field(default_factory=dict)
    asked: list[SnapshotRequested] = field(default_factory=list)

    def snapshot(self, request: SnapshotRequested) -> AudienceSnapshotted:
        self.asked.append(request)
        return AudienceSnapshotted(
            request.run_id, request.campaign_id, request.occurrence, self.people, self.people, {"UTC": self.people}
        )

    def pages(self, request: ZoneRequested) -> list[AudiencePage]:
        users = [PageUser(f"u{rank}", rank, phone=PHONE, country="DE") for rank in range(self.people)]
        names = (request.run_id, request.campaign_id, request.occurrence, request.zone)
        return [AudiencePage(*names, 0, True, request.what_version, users)]


def defined(
    id: str,
    kind: str = "recurring",
    when: When | None = None,
    status: str = "scheduled",
    version: int = 1,
    **who: object,
) -> CampaignDefinition:
    daily = When(recurrence=Recurrence("FREQ=DAILY", ["09:00"]), send_by_seconds=3600)
    whose = Who(trigger=Trigger(event="E")) if kind == "live_action" else Who(rule={"all": []})
    return CampaignDefinition(
        campaign_id=id,
        version=version,
        status=status,
        kind=kind,
        name=f"Campaign {id}",
        message_class="transactional",
        when=when or daily,
        who=msgspec.structs.replace(whose, **who),
        what_version=1,
        whats={"1": What("Hi")},
        scheduled_at=START,
        owner_email="owner@example.com",
    )


START = datetime(2026, 12, 1, 8, tzinfo=UTC)
"""What the database's clock is set to at first; a time without any law."""


async def at(stage: Stage, moment: datetime) -> None:
    await stage.shift_clock(moment - datetime.now(UTC))


def nine(day: int) -> datetime:
    return datetime(2026, 12, day, 9, tzinfo=UTC)


async def states(stage: Stage) -> dict[str, list[str]]:
    """Occurrence → states of its run, in the order told."""
    found: dict[str, list[str]] = {}
    for changed in await stage.told(RUN_CHANGED, RunChanged):
        found.setdefault(changed.occurrence, []).append(changed.state)
    return found


async def is_state(stage: Stage, occurrence: str, state: str) -> bool:
    return state in (await states(stage)).get(occurrence, [])


async def settings(stage: Stage, value: AccountSettings) -> None:
    await stage.send(ACCOUNT_SETTINGS, SETTINGS_KEY, SETTINGS_TYPE, value)


async def job_keys(stage: Stage) -> Counter[tuple[str, str]]:
    """(campaign, occurrence) → people who have a job."""
    jobs = await stage.jobs(SEND_JOBS_BULK)
    assert all(len(copies) == 1 for copies in jobs.values())
    return Counter((copies[0].campaign_id, copies[0].occurrence) for copies in jobs.values())


async def test_a_recurring_campaign_fires_each_day_and_what_downtime_missed_is_one(stage: Stage) -> None:
    await at(stage, START)
    async with stage.engine(Ranked()):
        async with stage.scheduler():
            await stage.define(defined("cmp_1"))
            await eventually(lambda: is_state(stage, "2026-12-01T09:00:00", "planned"), 40)
            await at(stage, nine(1))
            await eventually(lambda: is_state(stage, "2026-12-01T09:00:00", "expanded"), 40)
            await eventually(lambda: is_state(stage, "2026-12-02T09:00:00", "planned"), 20)
            assert not await is_state(stage, "2026-12-02T09:00:00", "requested")
        await at(stage, nine(5) + timedelta(minutes=30))  # nobody was there for four days
        async with stage.scheduler():
            await eventually(lambda: is_state(stage, "2026-12-05T09:00:00", "expanded"), 40)
            await eventually(lambda: is_state(stage, "2026-12-06T09:00:00", "planned"), 20)
    found = await states(stage)
    assert [found[f"2026-12-0{day}T09:00:00"][-1] for day in (2, 3, 4)] == ["expired"] * 3
    assert await job_keys(stage) == {("cmp_1", "2026-12-01T09:00:00"): 10, ("cmp_1", "2026-12-05T09:00:00"): 10}


async def test_an_edit_takes_occurrences_away_and_brings_others(stage: Stage) -> None:
    await at(stage, START)
    later = When(recurrence=Recurrence("FREQ=DAILY", ["11:00"]), send_by_seconds=3600)
    async with stage.engine(Ranked()), stage.scheduler():
        await stage.define(defined("cmp_1"))
        await eventually(lambda: is_state(stage, "2026-12-01T09:00:00", "planned"), 40)
        await stage.define(defined("cmp_1", when=later, version=2))
        await eventually(lambda: is_state(stage, "2026-12-01T11:00:00", "planned"), 20)
        await stage.define(defined("cmp_1", version=3))
        await eventually(lambda: is_state(stage, "2026-12-01T11:00:00", "removed"), 20)
        twice = When(recurrence=Recurrence("FREQ=DAILY", ["08:30", "09:00"]), send_by_seconds=3600, changed_at=START)
        await stage.define(defined("cmp_1", when=twice, version=4))
        await eventually(lambda: is_state(stage, "2026-12-01T08:30:00", "planned"), 20)
        await at(stage, nine(1) - timedelta(minutes=30))
        await eventually(lambda: is_state(stage, "2026-12-01T08:30:00", "expanded"), 40)
        await at(stage, nine(1))
        await eventually(lambda: is_state(stage, "2026-12-01T09:00:00", "expanded"), 40)
    assert (await states(stage))["2026-12-01T09:00:00"][:3] == ["planned", "removed", "planned"]
    assert await job_keys(stage) == {("cmp_1", "2026-12-01T08:30:00"): 10, ("cmp_1", "2026-12-01T09:00:00"): 10}


async def test_a_pause_holds_what_comes_due_until_its_deadline(stage: Stage) -> None:
    await at(stage, START)
    async with stage.engine(Ranked()), stage.scheduler():
        await stage.define(defined("cmp_1"))
        await eventually(lambda: is_state(stage, "2026-12-01T09:00:00", "planned"), 40)
        await at(stage, nine(1) - timedelta(seconds=30))
        await eventually(lambda: is_state(stage, "2026-12-01T09:00:00", "running"), 40)
        await stage.define(defined("cmp_1", status="paused", version=2))
        await eventually(lambda: is_paused(stage), 20)
        await at(stage, nine(1) + timedelta(minutes=20))
        await eventually(lambda: is_told(stage), 20)
        assert not await job_keys(stage)
        await stage.define(defined("cmp_1", status="running", version=3))
        await eventually(lambda: is_state(stage, "2026-12-01T09:00:00", "expanded"), 40)
        assert await job_keys(stage) == {("cmp_1", "2026-12-01T09:00:00"): 10}
        await at(stage, nine(2) - timedelta(seconds=30))
        await eventually(lambda: is_state(stage, "2026-12-02T09:00:00", "running"), 40)
        await stage.define(defined("cmp_1", status="paused", version=4))
        await eventually(lambda: is_paused(stage), 20)
        await at(stage, nine(2) + timedelta(hours=1))
        await eventually(lambda: is_state(stage, "2026-12-02T09:00:00", "expired"), 40)
    assert (await stage.funnel()) == {"pending": 10, "expired": 10, "limited": 10}


async def is_paused(stage: Stage) -> bool:
    async with stage.database.begin() as tx:
        return bool((await tx.execute(text("SELECT count(*) FROM runs WHERE paused"))).scalar_one())


async def is_told(stage: Stage) -> bool:
    """Some turns of the timers have passed: another campaign, which texts nobody, has run."""
    other = defined("cmp_other", kind="one_time", when=When(send_by_seconds=3600), limits=Limits(run=0))
    await stage.define(msgspec.structs.replace(other, scheduled_at=nine(1) + timedelta(minutes=20)))
    return await is_state(stage, "once", "expanded")


async def test_a_run_takes_its_limit_by_rank_and_the_total_what_is_left(stage: Stage) -> None:
    await at(stage, START)
    async with stage.engine(Ranked(people=10)), stage.scheduler():
        await stage.define(defined("cmp_1", limits=Limits(total=12, run=7)))
        await eventually(lambda: is_state(stage, "2026-12-01T09:00:00", "planned"), 40)
        for day in (1, 2, 3):
            await at(stage, nine(day))
            await eventually(partial(is_state, stage, f"2026-12-0{day}T09:00:00", "expanded"), 40)
    assert await job_keys(stage) == {("cmp_1", "2026-12-01T09:00:00"): 7, ("cmp_1", "2026-12-02T09:00:00"): 5}
    jobs = await stage.jobs(SEND_JOBS_BULK)
    texted = {copies[0].user_id for copies in jobs.values() if copies[0].occurrence == "2026-12-02T09:00:00"}
    assert texted == {f"u{rank}" for rank in range(5)}
    assert await stage.funnel() == {"pending": 12, "limited": 18}


async def test_too_many_people_stop_a_run_and_its_owner_gets_a_letter(stage: Stage) -> None:
    await at(stage, START)
    async with stage.engine(Ranked(people=10)), stage.scheduler():
        await stage.define(defined("cmp_1", safety_limit=9))
        await eventually(lambda: is_state(stage, "2026-12-01T09:00:00", "planned"), 40)
        await at(stage, nine(1))
        await eventually(lambda: is_state(stage, "2026-12-01T09:00:00", "stopped_by_safety_check"), 40)
    assert await stage.funnel() == {"cancelled": 10}
    assert await job_keys(stage) == {}
    async with stage.database.begin() as tx:
        (letter,) = (await tx.execute(text("SELECT recipient, subject, body, sent_at FROM letters"))).all()
    assert (letter.recipient, letter.subject, letter.sent_at) == ("owner@example.com", "Not sent: Campaign cmp_1", None)
    assert "10 people" in letter.body


async def test_caps_count_all_campaigns_and_a_text_not_sent_counts_no_more(stage: Stage) -> None:
    await at(stage, START)
    now = When(send_by_seconds=3600)
    async with stage.engine(Ranked(people=3)), stage.scheduler() as client:
        await settings(stage, AccountSettings(version=1, frequency_caps=[FrequencyCap(1, 1)]))
        await stage.define(defined("cmp_1", kind="one_time", when=now))
        await eventually(lambda: has_jobs(stage, "cmp_1", 3), 40)
        assert await capped_of(client) == 3
        assert await capped_of(client, ignore_frequency_caps=True) == 0
        assert await capped_of(client, ignore_frequency_caps=True, min_gap_seconds=60) == 3
        assert await capped_of(client, due_at="2026-12-03T08:00:00Z") == 0
        await stage.define(defined("cmp_2", kind="one_time", when=now))
        await eventually(lambda: is_counted(stage, "capped", 3), 40)
        await stage.define(defined("cmp_3", kind="one_time", when=now, ignore_frequency_caps=True))
        await eventually(lambda: has_jobs(stage, "cmp_3", 3), 40)
        for campaign_id in ("cmp_1", "cmp_3"):
            await settle(stage, campaign_id, "once", "u1", "rejected")
        await settle(stage, "cmp_1", "once", "u2", "sent")
        await eventually(lambda: has_ledger(stage, "u1", 0), 40)
        await stage.define(defined("cmp_4", kind="one_time", when=now))
        await eventually(lambda: has_jobs(stage, "cmp_4", 1), 40)
        await eventually(lambda: is_counted(stage, "capped", 5), 40)
    jobs = await stage.jobs(SEND_JOBS_BULK)
    assert [copies[0].user_id for copies in jobs.values() if copies[0].campaign_id == "cmp_4"] == ["u1"]


async def capped_of(client: httpx.AsyncClient, **more: object) -> int:
    """Of three who had a text of cmp_1 and one who had none, as an estimate asks."""
    people = [{"user_id": f"u{n}", "zone": "UTC"} for n in range(4)]
    body = {"campaign_id": "cmp_1", "people": people, "send_by_seconds": 3600} | more
    assert (await client.post("/internal/capped", json=body)).status_code == 401
    answer = await client.post("/internal/capped", json=body, headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.json()["asked"] == 4
    return int(answer.json()["capped"])


async def has_jobs(stage: Stage, campaign_id: str, n: int) -> bool:
    return sum(n for (campaign, _), n in (await job_keys(stage)).items() if campaign == campaign_id) == n


async def is_counted(stage: Stage, status: str, n: int) -> bool:
    return (await stage.funnel()).get(status) == n


async def has_ledger(stage: Stage, user_id: str, n: int) -> bool:
    async with stage.database.begin() as tx:
        query = text("SELECT entries FROM cap_ledgers WHERE user_id = :user")
        entries = (await tx.execute(query, {"user": user_id})).scalar_one()
    return len(msgspec.msgpack.decode(entries)) == n


async def settle(stage: Stage, campaign_id: str, occurrence: str, user_id: str, status: str) -> None:
    """As the dispatcher tells it."""
    id = ids.message_id(campaign_id, occurrence, user_id)
    attempt = AttemptSummary(1, "prv_1", "accepted", START)
    changed = MessageChanged(
        id, campaign_id, "", occurrence, user_id, status, 5, START, START, PHONE, attempts=[attempt]
    )
    await stage.send(DELIVERY_EVENTS, user_id, MESSAGE_CHANGED, changed, f"{id}:5")


async def test_quiet_hours_delay_or_discard(stage: Stage) -> None:
    await at(stage, nine(1))
    now = When(send_by_seconds=3600)
    async with stage.engine(Ranked(people=2)), stage.scheduler():
        quiet = msgspec.structs.replace(now, quiet_hours=NIGHT)
        discard = msgspec.structs.replace(now, quiet_hours=QuietHours(NIGHT.windows, "discard"))
        for id, when in (("cmp_1", quiet), ("cmp_2", discard)):
            made = defined(id, kind="one_time", when=when)
            await stage.define(msgspec.structs.replace(made, scheduled_at=nine(1)))
        await eventually(lambda: has_jobs(stage, "cmp_1", 2), 40)
        await eventually(lambda: is_counted(stage, "quiet_hours", 2), 40)
    for copies in (await stage.jobs(SEND_JOBS_BULK)).values():
        job = copies[0]
        ten = nine(1) + timedelta(hours=1)
        assert (job.due_at, job.send_by) == (ten, ten + timedelta(hours=1))
        assert [(each.start, each.end) for each in job.allowed] == [(job.due_at, job.send_by)]


async def test_a_live_limit_gives_the_slot_of_a_text_not_sent_back(stage: Stage) -> None:
    await at(stage, START)
    quarter = When(send_by_seconds=900)
    live = defined("cmp_live", kind="live_action", when=quarter, status="running", limits=Limits(total=3))
    async with stage.scheduler():
        await stage.define(live)
        for number in range(5):
            await qualify(stage, f"u{number}")
        await eventually(lambda: is_counted(stage, "limited", 2), 40)
        texted = sorted(copies[0].user_id for copies in (await stage.jobs(SEND_JOBS)).values())
        assert len(texted) == 3
        await settle(stage, "cmp_live", f"e-{texted[0]}", texted[0], "expired")
        await settle(stage, "cmp_live", f"e-{texted[0]}", texted[0], "expired")
        await eventually(lambda: has_given_back(stage, 1), 40)
        for number in range(5, 8):
            await qualify(stage, f"u{number}")
        await eventually(lambda: is_counted(stage, "limited", 4), 40)
    assert len(await stage.jobs(SEND_JOBS)) == 4


async def qualify(stage: Stage, user_id: str) -> None:
    qualified = QualifiedUser("cmp_live", 1, 1, f"e-{user_id}", user_id, START, START, "UTC", phone=PHONE, country="DE")
    await stage.send(QUALIFIED_USERS, user_id, QUALIFIED, qualified, f"q-{user_id}")


async def has_given_back(stage: Stage, n: int) -> bool:
    async with stage.database.begin() as tx:
        found = (await tx.execute(text("SELECT coalesce(sum(given_back), 0) FROM limit_counters"))).scalar_one()
    return int(found) == n
