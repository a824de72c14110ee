"""Snapshots that leave people out by share, and those that give each person the slot of their best time."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from postrider.rules import parse_rule
from postrider.scheduling.shares import account_control_seed, campaign_control_seed, is_in_share, reach_seed
from postrider.zones import load_zone
from segment_engine.domain.columns import EventRow, ProfileRow, microseconds, profile_row, split
from segment_engine.event_store.port import AudienceMember, BestTimes, EvaluationContext, LeftOut
from segment_engine.event_store.sql_store import SqlEventStore
from tests.support.event_stores import FAR_APART, opened

NOW = datetime(2026, 4, 20, 12, tzinfo=UTC)
"""The clocks of New York and Paris have changed in the half year before, Lord Howe's by half an hour."""
EVERYBODY = parse_rule({"all": []})
CONTEXT = EvaluationContext(NOW, "Europe/Paris")
ZONES = ("America/New_York", "Europe/Paris", "Australia/Lord_Howe", "Africa/Casablanca", "Asia/Kathmandu", "")


@pytest_asyncio.fixture(params=FAR_APART)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqlEventStore]:
    async with opened(request.param, tmp_path) as store:
        yield store


def person(user_id: str, phone: str, **known: Any) -> ProfileRow:
    return profile_row(user_id, 1, {}, phone=phone, phone_hash=f"h{phone}", phone_country="US", **known)


async def members(store: SqlEventStore, run_id: str, zone: str) -> list[AudienceMember]:
    return await store.page(run_id, zone, -1, 100_000)


async def test_shares_are_left_out_before_ranks_are_given(store: SqlEventStore) -> None:
    people = [f"u{n}é" for n in range(2_000)]
    await store.upsert_profiles([person(user, f"+1{n}") for n, user in enumerate(people)])
    left_out = LeftOut(account_control=5, campaign_control=12.5, reach=40)
    snapshot = await store.snapshot("run_1", "cmp_1", "once", 7, EVERYBODY, CONTEXT, left_out)
    found = {member.user_id: member.verdict for member in await members(store, "run_1", "Europe/Paris")}
    assert found == {user: expected(user) for user in people}
    assert snapshot.total == 2_000
    assert snapshot.reachable == Counter(found.values())[""]
    texted = [member.rank for member in await members(store, "run_1", "Europe/Paris") if not member.verdict]
    assert texted == list(range(snapshot.reachable))


def expected(user: str) -> str:
    if is_in_share(account_control_seed(), user, 5):
        return "control:account"
    if is_in_share(campaign_control_seed("cmp_1"), user, 12.5):
        return "control:campaign"
    return "" if is_in_share(reach_seed("run_1"), user, 40) else "not_in_reach"


async def test_who_cannot_be_texted_is_that_and_not_control(store: SqlEventStore) -> None:
    await store.upsert_profiles([person("a", ""), person("b", "+1")])
    await store.snapshot("run_1", "cmp_1", "once", 7, EVERYBODY, CONTEXT, LeftOut(account_control=100))
    found = {member.user_id: member.verdict for member in await members(store, "run_1", "Europe/Paris")}
    assert found == {"a": "unreachable", "b": "control:account"}


@pytest.mark.parametrize("event", ["Opened", ""])
async def test_each_person_has_the_slot_of_their_most_active_two_hours(store: SqlEventStore, event: str) -> None:
    generator = random.Random(5)
    zones = {f"u{n}": ZONES[n % len(ZONES)] for n in range(60)}
    await store.upsert_profiles([person(user, f"+{n}", time_zone=zone) for n, (user, zone) in enumerate(zones.items())])
    rows, activity = [], {user: Counter[int]() for user in zones}
    for number in range(1_500):
        user = f"u{generator.randrange(55)}"
        at = NOW - timedelta(seconds=generator.randrange(200 * 86_400))
        name = generator.choice(["Opened", "Opened", "Bought"])
        rows.append(EventRow(user, name, microseconds(at), microseconds(NOW), f"m{number}", *split({})))
        if at >= NOW - timedelta(days=180) and event in ("", name):
            activity[user][at.astimezone(load_zone(zones[user] or "Europe/Paris")).hour // 2 * 2] += 1
    await store.insert_events(rows, "t")
    await store.snapshot("run_1", "cmp_1", "once", 7, EVERYBODY, CONTEXT, best_times=BestTimes(event, time(9, 30)))
    snapshot = await store.stored_snapshot("run_1")
    assert snapshot is not None
    found = {member.user_id: slot for slot in snapshot.zones for member in await members(store, "run_1", slot)}
    assert found == {user: slot_of(zones[user] or "Europe/Paris", activity[user]) for user in zones}


async def test_of_equal_hours_the_earlier_and_of_old_events_none(store: SqlEventStore) -> None:
    """On the person's own clock: 23:30 UTC is the next day's 05:15 in Kathmandu."""
    border = NOW - timedelta(days=180)
    late = datetime(2026, 4, 10, 23, 30, tzinfo=UTC)
    happened = {
        "tie": [late, late - timedelta(hours=10), late - timedelta(days=1, hours=10), late - timedelta(days=1)],
        "border": [border],
        "older": [border - timedelta(microseconds=1)],
        "abroad": [late],
    }
    await store.upsert_profiles(
        [
            person(user, f"+{n}", time_zone="Asia/Kathmandu" if user == "abroad" else "UTC")
            for n, user in enumerate(happened)
        ]
    )
    rows = [
        EventRow(user, "Opened", microseconds(at), microseconds(NOW), f"{user}{n}", *split({}))
        for user, moments in happened.items()
        for n, at in enumerate(moments)
    ]
    await store.insert_events(rows, "t")
    best = BestTimes("", time(9, 30))
    snapshot = await store.snapshot("run_1", "cmp_1", "once", 7, EVERYBODY, CONTEXT, best_times=best)
    found = {member.user_id: slot for slot in snapshot.zones for member in await members(store, "run_1", slot)}
    assert found == {"tie": "UTC#12", "border": "UTC#12", "older": "UTC#0930", "abroad": "Asia/Kathmandu#04"}


def slot_of(zone: str, activity: Counter[int]) -> str:
    if not activity:
        return f"{zone}#0930"
    most = max(activity.values())
    return f"{zone}#{min(hour for hour, times in activity.items() if times == most):02d}"


async def test_an_estimate_says_who_would_be_left_out_of_those_reachable(store: SqlEventStore) -> None:
    people = [f"u{n}" for n in range(1_000)]
    await store.upsert_profiles([person(user, f"+1{n}" if n else "") for n, user in enumerate(people)])
    shares = LeftOut(account_control=5, campaign_control=10, reach=50)
    found = await store.estimate(EVERYBODY, CONTEXT, campaign_id="cmp_1", left_out=shares)
    control = {
        user
        for user in people[1:]
        if is_in_share(account_control_seed(), user, 5) or is_in_share(campaign_control_seed("cmp_1"), user, 10)
    }
    missed = {user for user in people[1:] if user not in control and not is_in_share(reach_seed("cmp_1"), user, 50)}
    assert (found.qualified, found.reachable, found.unreachable) == (1_000, 999, 1)
    assert (found.control, found.not_in_reach) == (len(control), len(missed))
    assert (await store.estimate(EVERYBODY, CONTEXT)).control == 0
    some = await store.estimate(EVERYBODY, CONTEXT, campaign_id="cmp_1", left_out=shares, people_size=40, sample_size=9)
    assert len({user for user, _ in some.people}) == 40
    assert not {user for user, _ in some.people} & (control | missed | {"u0"})
    assert {zone for _, zone in some.people} == {"Europe/Paris"}
    assert len(some.sample) == 9
