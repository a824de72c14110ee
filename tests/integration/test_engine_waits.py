"""Timers of live campaigns through the whole segment-engine, on real Kafka, Postgres and chDB."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from postrider.contracts.definitions import AccountSettings, References, Trigger, What, Who
from postrider.contracts.topics import USER_EVENTS
from tests.support.eventually import eventually
from tests.support.segment_engine import Engine, engine, identify, live_campaign, track
from tests.support.waits import (
    armed,
    at,
    exists,
    hours,
    inaction,
    move_clock,
    names,
    now,
    on_date,
    qualified,
    waits,
)

pytestmark = pytest.mark.integration


@pytest.fixture
async def made(
    kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str, tmp_path: Path
) -> AsyncIterator[Engine]:
    async with engine(kafka, await fresh_database(), topic_prefix, tmp_path / "store") as made:
        yield made


async def test_who_did_not_act_in_time_qualifies_once_and_nobody_else(made: Engine) -> None:
    began = now()
    async with made.running():
        await made.define(inaction(same_property="cart"))
        await made.send(
            identify("late", "i-1", phone="+15550100001", first_name="Ann"),
            track("late", "m-1", "Cart", cart="c-1", amount=5),
            track("late", "m-1", "Cart", cart="c-1", amount=5),
            track("acted", "m-2", "Cart", cart="c-1"),
            track("other-cart", "m-3", "Cart", cart="c-1"),
            track("no-cart", "m-4", "Cart", amount=5),
            {**track("imported", "m-5", "Cart", cart="c-1"), "historic": True},
            at(track("old", "m-6", "Cart", cart="c-1"), began - timedelta(hours=1)),
            at(track("before", "m-8", "Bought", cart=7), began + timedelta(seconds=1)),
            at(track("before", "m-7", "Cart", cart=7.0), began + timedelta(seconds=1)),
            track("by-type", "m-9", "Cart", cart="7"),
        )
        await made.send(
            track("acted", "m-10", "Bought", cart="c-1"),
            track("other-cart", "m-11", "Bought", cart="c-2"),
            track("by-type", "m-12", "Bought", cart=7),
        )
        assert await names(made, 3) == ["by-type", "late", "other-cart"]
        await asyncio.sleep(1.2)
        found = {user.user_id: user for user in await qualified(made)}
        assert len(found) == len(await qualified(made)) == 3
        late = found["late"]
        assert (late.campaign_id, late.occurrence, late.phone) == ("cmp_in", "m-1", "+15550100001")
        assert (late.profile, late.event, late.verdict) == ({"first_name": "Ann"}, {"amount": 5}, "")
        assert timedelta(seconds=1) <= late.due_at - began < timedelta(seconds=10)
        assert late.received_at >= late.due_at
        assert await armed(made, 0)


async def test_a_timer_outlives_kill_and_restart_and_an_hour_of_lag_fires_nobody_who_acted(made: Engine) -> None:
    async with made.running():
        await made.define(inaction(within=2))
        await made.send(track("u-1", "m-1", "Cart"), track("u-2", "m-2", "Cart"))
        await eventually(lambda: armed(made, 2))
    bought = now()
    await made.send(track("u-2", "m-3", "Bought"))
    for number in range(3_000):
        await made.send(*(track(f"x-{number}-{n}", f"x-{n}", "Noise") for n in range(1)))
        if number >= 100:
            break
    # Everything is due long since when the process comes back: the clock of the database is an hour ahead.
    await move_clock(made, timedelta(hours=1))
    await made.send(at(track("u-3", "m-4", "Cart"), bought), at(track("u-3", "m-5", "Bought"), bought))
    async with made.running():
        assert await names(made, 1) == ["u-1"]
        assert [user.occurrence for user in await qualified(made)] == ["m-1"]
        await asyncio.sleep(0.5)
        assert await names(made, 1) == ["u-1"]


async def test_an_act_in_a_wrong_partition_disarms_and_one_after_the_text_changes_nothing(made: Engine) -> None:
    wrong = (made.partition_of("u-1") + 1) % USER_EVENTS.partitions
    async with made.running():
        await made.define(inaction())
        began = now()
        await made.send(track("u-1", "m-1", "Cart"), track("u-2", "m-2", "Cart"))
        await made.send(track("u-1", "m-3", "Bought"), partition=wrong)
        assert await names(made, 1) == ["u-2"]
        await made.send(at(track("u-2", "m-4", "Bought"), began + timedelta(milliseconds=200)))
        await made.send(at(track("u-2", "m-2b", "Cart"), began + timedelta(milliseconds=300)))
        await asyncio.sleep(1.5)
        assert await names(made, 1) == ["u-2"]
        async with made.database.begin() as tx:
            assert (await tx.execute(text("SELECT count(*) FROM forwards"))).scalar_one() == 0


async def test_a_misplaced_record_that_was_given_up_holds_nothing_up_for_ever(made: Engine) -> None:
    async with made.running() as http:
        await made.define(inaction())
        async with made.database.begin() as tx:
            await tx.execute(text("INSERT INTO forwards (origin) VALUES ('events-0-1')"))
        await made.send(track("u-1", "m-1", "Cart"))
        assert await names(made, 1) == ["u-1"]
        async with made.database.begin() as tx:
            assert (await tx.execute(text("SELECT count(*) FROM forwards"))).scalar_one() == 0
        assert (await http.post("/internal/estimate", json={"rule": {"all": []}})).json()["qualified"] == 1


async def test_a_repeat_keeps_the_timer_or_restarts_it(made: Engine) -> None:
    async with made.running():
        await made.define(inaction("cmp_keep", within=2))
        await made.define(inaction("cmp_restart", within=2, repeat="restart"))
        began = now()
        await made.send(at(track("u-1", "m-2", "Cart"), began + timedelta(seconds=1)))
        await made.send(at(track("u-1", "m-1", "Cart"), began))
        found = {user.campaign_id: user for user in await eventually(lambda: qualified(made, 2))}
        assert found["cmp_keep"].occurrence == "m-1"
        assert found["cmp_keep"].due_at == began + timedelta(seconds=2)
        assert found["cmp_restart"].occurrence == "m-2"
        assert found["cmp_restart"].due_at == began + timedelta(seconds=3)
        assert len(await qualified(made)) == 2


async def test_edits_and_stops_reach_timers_that_are_armed(made: Engine) -> None:
    async with made.running():
        for id in ("cmp_sooner", "cmp_stop", "cmp_other", "cmp_text"):
            await made.define(inaction(id, within=3_600))
        await made.send(track("u-1", "m-1", "Cart", amount=5, size="L"), track("u-2", "m-2", "Cart"))
        await eventually(lambda: armed(made, 8))
        what = What("Hi", References(profile=["first_name"], event=["amount"]))
        newer = What("Hello", References(profile=["city"], event=["amount"]))
        unknown = What("Hello", References(event=["size"]))
        await made.send(identify("u-1", "i-1", city="Pune"))
        await made.define(inaction("cmp_sooner", within=1, version=2))
        await made.define(inaction("cmp_stop", within=1, version=2, status="stopped"))
        await made.define(inaction("cmp_other", within=1, version=2, where=[exists("size")]))
        whats = {"1": what, "2": newer, "3": unknown}
        await made.define(inaction("cmp_text", within=1, version=2, what_version=2, whats=whats))
        found = await eventually(lambda: qualified(made, 4))
        assert sorted((user.campaign_id, user.user_id) for user in found) == [
            ("cmp_sooner", "u-1"), ("cmp_sooner", "u-2"), ("cmp_text", "u-1"), ("cmp_text", "u-2"),
        ]  # fmt: skip
        texts = {user.user_id: user for user in found if user.campaign_id == "cmp_text"}
        assert (texts["u-1"].what_version, texts["u-1"].profile, texts["u-1"].event) == (
            2, {"city": "Pune"}, {"amount": 5},
        )  # fmt: skip
        await eventually(lambda: armed(made, 0))
        # Nothing that names a value not kept then: the text it was armed for.
        await made.define(inaction("cmp_sooner", version=3, status="stopped"))
        await made.define(inaction("cmp_other", version=3, status="stopped"))
        await made.define(inaction("cmp_text", within=3_600, version=3, what_version=2, whats=whats))
        await made.send(track("u-3", "m-3", "Cart", amount=6, size="M"))
        await eventually(lambda: armed(made, 1))
        await made.define(inaction("cmp_text", within=1, version=4, what_version=3, whats=whats))
        (last,) = [user for user in await eventually(lambda: qualified(made, 5)) if user.user_id == "u-3"]
        assert (last.campaign_id, last.what_version, last.event) == ("cmp_text", 2, {"amount": 6})


async def test_a_filter_sees_the_event_itself_and_what_was_before(made: Engine) -> None:
    second = {"did": {"event": "Cart", "count": {"op": "gte", "value": 2}}}
    async with made.running():
        filtered = live_campaign("Cart", who=Who(trigger=Trigger("Cart"), filter=second))
        await made.define(filtered)
        await made.define(inaction("cmp_in", filter={"not": second}))
        await made.send({**track("u-1", "m-0", "Cart"), "historic": True})
        await made.send(track("u-1", "m-1", "Cart", amount=5), track("u-2", "m-2", "Cart"))
        found = await eventually(lambda: qualified(made, 2))
        assert sorted((user.campaign_id, user.user_id) for user in found) == [("cmp_in", "u-2"), ("cmp_live", "u-1")]
        (user,) = [user for user in found if user.user_id == "u-1"]
        assert (user.occurrence, user.event) == ("m-1", {"amount": 5})
        await eventually(lambda: armed(made, 0))
        assert len(await qualified(made)) == 2


async def test_dates_of_people_arm_at_launch_and_follow_the_profile(made: Engine) -> None:
    async with made.running():
        soon, hour = now() + timedelta(seconds=5), timedelta(hours=1)
        await made.send(
            identify("launch", "i-1", renews=soon.isoformat(), phone="+15550100001"),
            identify("past", "i-2", renews=(soon - hour).isoformat()),
            identify("moved", "i-3", renews=soon.isoformat()),
            identify("gone", "i-4", renews=soon.isoformat()),
            identify("no-date", "i-5", renews=5),
            identify("nothing", "i-6", city="Pune"),
        )
        await made.define(on_date(date_attribute="renews"))
        await eventually(lambda: armed(made, 3))
        await made.send(
            identify("moved", "i-7", renews=(soon + hour).isoformat()),
            identify("gone", "i-8", renews=None),
            identify("new", "i-9", renews=soon.isoformat()),
            {**identify("imported", "i-10", renews=soon.isoformat()), "historic": True},
        )
        await eventually(lambda: armed(made, 3))
        found = await eventually(lambda: qualified(made, 2))
        assert sorted(user.user_id for user in found) == ["launch", "new"]
        assert {user.due_at for user in found} == {soon}
        assert {user.occurrence for user in found} == {"renews:" + soon.isoformat().replace("+00:00", "Z")}
        assert [user for user, _, is_armed in await waits(made) if is_armed] == ["moved"]


async def test_dates_of_events_arm_from_history_and_from_what_happens(made: Engine) -> None:
    soon = now() + timedelta(seconds=5)
    leaves = (soon + timedelta(days=1)).isoformat()
    async with made.running():
        await made.define(live_campaign("Nothing"))
        await made.send(
            {**track("before", "m-1", "Trip", leaves=leaves, to="Goa", amount=5), "historic": True},
            track("before", "m-2", "Trip", leaves="soon", to="Goa"),
            track("elsewhere", "m-3", "Trip", leaves=leaves, to="Rome"),
            track("over", "m-4", "Trip", leaves="2020-01-01", to="Goa"),
        )
        trigger: dict[str, Any] = {"event": "Trip", "date_property": "leaves", "offset_seconds": -86_400}
        where = [{"property": "to", "op": "eq", "value": "Goa"}]
        await made.define(on_date(**trigger, where=where))
        await eventually(lambda: armed(made, 1))
        await made.send(track("after", "m-5", "Trip", leaves=leaves, to="Goa", amount=6.5))
        found = await eventually(lambda: qualified(made, 2))
        assert [(u.user_id, u.event, u.due_at) for u in sorted(found, key=lambda u: u.user_id)] == [
            ("after", {"amount": 6.5}, soon), ("before", {"amount": 5}, soon),
        ]  # fmt: skip
        assert sorted(user.occurrence[:4] for user in found) == ["m-1:", "m-5:"]
        await eventually(lambda: armed(made, 0))


async def test_a_day_follows_the_recipients_zone_and_comes_again_next_year(made: Engine) -> None:
    day = now() + timedelta(days=40)
    born = day.replace(year=1992).date()
    async with made.running():
        await made.define_settings(AccountSettings(version=1, account_time_zone="Asia/Kolkata"))
        await made.define(on_date("cmp_year", date_attribute="born", yearly=True, at_local_time="09:00"))
        await made.define(on_date("cmp_trip", event="Trip", date_property="day", at_local_time="10:00"))
        await made.send(
            identify("u-1", "i-1", born=born.isoformat(), timezone="Asia/Tokyo"),
            track("u-1", "m-1", "Trip", day=day.date().isoformat()),
        )
        await eventually(lambda: armed(made, 2))
        assert await hours(made) == {"cmp_year": 0, "cmp_trip": 1}
        await made.send(identify("u-1", "i-2", timezone="Europe/London"))

        async def moved() -> bool:
            return await hours(made) != {"cmp_year": 0, "cmp_trip": 1}

        await eventually(moved)
        london = await hours(made)
        assert london in ({"cmp_year": 9, "cmp_trip": 10}, {"cmp_year": 8, "cmp_trip": 9})
    await move_clock(made, timedelta(days=42))
    async with made.running():
        found = {user.campaign_id: user for user in await eventually(lambda: qualified(made, 2))}
        assert found["cmp_year"].occurrence == f"born:{day.date().isoformat()}"
        assert found["cmp_trip"].occurrence == f"m-1:{day.date().isoformat()}"
        await eventually(lambda: armed(made, 1))
        async with made.database.begin() as tx:
            due = (await tx.execute(text("SELECT due_at FROM waits WHERE due_at IS NOT NULL"))).scalar_one()
        assert (due.year, due.month) == (day.year + 1, day.month)
