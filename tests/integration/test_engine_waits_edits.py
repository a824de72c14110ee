"""What is armed follows edits, the person's zone and erasure, and is decided once however often an event comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import text

from postrider.contracts.definitions import (
    SEGMENT_TYPE,
    AccountSettings,
    CampaignDefinition,
    SegmentDefinition,
    Trigger,
    When,
    Who,
)
from postrider.contracts.topics import SEGMENT_DEFINITIONS
from tests.support.eventually import eventually
from tests.support.segment_engine import Engine, engine, identify, live_campaign, track
from tests.support.waits import armed, hours, inaction, names, now, on_date, qualified, waits

pytestmark = pytest.mark.integration
SOON = timedelta(seconds=5)
HOUR = timedelta(hours=1)


@pytest.fixture
async def made(
    kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str, tmp_path: Path
) -> AsyncIterator[Engine]:
    async with engine(kafka, await fresh_database(), topic_prefix, tmp_path / "store") as made:
        yield made


def edited(campaign: CampaignDefinition, version: int, **trigger: object) -> CampaignDefinition:
    before = campaign.who.trigger
    assert before is not None
    who = msgspec.structs.replace(campaign.who, trigger=msgspec.structs.replace(before, **trigger))
    return msgspec.structs.replace(campaign, version=version, who=who)


async def define_segment(made: Engine, version: int, plan: str) -> None:
    rule = {"attribute": {"name": "plan", "op": "eq", "value": plan}}
    await made.tell(SEGMENT_DEFINITIONS, "seg_1", SEGMENT_TYPE, SegmentDefinition("seg_1", version, "Plan", rule))


async def test_another_offset_moves_dates_and_another_event_arms_its_own(made: Engine) -> None:
    day = timedelta(days=1)
    async with made.running():
        by_event = on_date("cmp_event", event="Trip", date_property="leaves", offset_seconds=3_600)
        by_trait = on_date("cmp_trait", date_attribute="renews", offset_seconds=3_600)
        await made.define(by_event)
        await made.define(by_trait)
        soon, tomorrow = now() + SOON, now() + day
        await made.send(
            track("u-1", "m-1", "Trip", leaves=soon.isoformat()),
            track("u-1", "m-2", "Journey", leaves=tomorrow.isoformat()),
            identify("u-2", "i-1", renews=soon.isoformat(), ends=tomorrow.isoformat()),
        )
        await eventually(lambda: armed(made, 2))
        await made.define(edited(by_event, 2, offset_seconds=0))
        await made.define(edited(by_trait, 2, offset_seconds=0))
        assert await names(made, 2) == ["u-1", "u-2"]
        assert {user.due_at for user in await qualified(made)} == {soon}
        # What another trigger made goes, and the new one arms from history and profiles.
        await made.define(edited(by_event, 3, event="Journey"))
        await made.define(edited(by_trait, 3, date_attribute="ends"))
        await eventually(lambda: armed(made, 2))
        assert [(user, key) for user, key, is_armed in await waits(made) if is_armed] == [
            ("u-1", "m-2"), ("u-2", "ends"),
        ]  # fmt: skip


async def test_a_pause_arms_and_fires_on_and_a_stop_ends_it(made: Engine) -> None:
    """What fires meanwhile is held where texts are queued, and its deadline runs on."""
    async with made.running():
        campaign = inaction(within=3_600)
        await made.define(campaign)
        await made.send(track("u-1", "m-1", "Cart"))
        await eventually(lambda: armed(made, 1))
        paused = msgspec.structs.replace(edited(campaign, 2, within_seconds=1), status="paused")
        await made.define(paused)
        await made.send(track("u-2", "m-2", "Cart"), track("u-3", "m-3", "Cart"), track("u-3", "m-4", "Bought"))
        assert await names(made, 2) == ["u-1", "u-2"]
        await made.define(msgspec.structs.replace(edited(campaign, 3, within_seconds=3_600), status="running"))
        await made.send(track("u-4", "m-5", "Cart"))
        await eventually(lambda: armed(made, 1))
        await made.define(msgspec.structs.replace(campaign, version=4, status="stopped"))
        await eventually(lambda: armed(made, 0))
        await made.send(track("u-5", "m-6", "Cart"))
        await asyncio.sleep(2)
        assert (await names(made, 2), await waits(made)) == (["u-1", "u-2"], [])


async def test_a_filter_that_was_edited_decides_and_a_segment_it_names_too(made: Engine) -> None:
    async with made.running():
        await define_segment(made, 1, "gold")
        campaign = inaction(within=3_600)
        await made.define(campaign)
        people = [("u-1", "gold"), ("u-2", "tin"), ("u-3", "lead")]
        await made.send(*(identify(user, f"i-{user}", plan=plan) for user, plan in people))
        await made.send(*(track(user, f"m-{user}", "Cart") for user, _ in people))
        await eventually(lambda: armed(made, 3))
        not_lead = {"not": {"attribute": {"name": "plan", "op": "eq", "value": "lead"}}}
        filtered = msgspec.structs.replace(campaign, who=msgspec.structs.replace(campaign.who, filter=not_lead))
        await made.define(edited(filtered, 2, within_seconds=1))
        assert await names(made, 2) == ["u-1", "u-2"]
        await eventually(lambda: armed(made, 0))
        by_segment = live_campaign("Act", who=Who(trigger=Trigger("Act"), filter={"in_segment": "seg_1"}))
        await made.define(by_segment)
        await made.send(track("u-1", "a-1", "Act"), track("u-2", "a-2", "Act"))
        assert [user.occurrence for user in await eventually(lambda: qualified(made, 3))].count("a-1") == 1
        await eventually(lambda: armed(made, 0))
        await define_segment(made, 2, "tin")
        await made.send(track("u-1", "a-3", "Act"), track("u-2", "a-4", "Act"))
        found = {user.occurrence for user in await eventually(lambda: qualified(made, 4))}
        assert found == {"m-u-1", "m-u-2", "a-1", "a-4"}


async def test_a_repeat_asks_no_filter_again_and_a_repeat_without_a_time_is_no_younger_event(made: Engine) -> None:
    twice = {"did": {"event": "Act", "count": {"op": "gte", "value": 2}}}
    async with made.running():
        await made.define(live_campaign("Act", who=Who(trigger=Trigger("Act"), filter=twice)))
        await made.define(inaction(when=When(send_by_seconds=1)))
        first = {**track("u-1", "m-1", "Act"), "timestamp": now().isoformat()}
        cart = track("u-2", "c-1", "Cart")
        await made.send(first, cart, track("u-2", "b-1", "Bought"))
        await eventually(lambda: armed(made, 0))
        await asyncio.sleep(2)
        async with made.database.begin() as tx:  # as the sweep does every minute
            swept = await tx.execute(text("DELETE FROM waits WHERE keep_until < db_now()"))
            assert swept.rowcount == 1
        await made.send(first, cart, identify("u-2", "i-1", city="Pune"))
        await made.send(track("u-1", "m-2", "Act"))
        await eventually(lambda: qualified(made, 1))
        await made.send(first)
        await asyncio.sleep(2)
        assert [(user.user_id, user.occurrence) for user in await qualified(made)] == [("u-1", "m-2")]
        assert await armed(made, 0)


async def test_a_zone_told_by_a_phone_that_is_read_later_moves_the_timer(made: Engine) -> None:
    day = (now() + timedelta(days=40)).date().isoformat()
    async with made.running():
        await made.define_settings(AccountSettings(version=1, account_time_zone="Etc/UTC"))
        await made.define(on_date("cmp_trip", event="Trip", date_property="day", at_local_time="10:00"))
        await made.define(on_date("cmp_trait", date_attribute="renews", at_local_time="10:00"))
        await made.send(identify("u-1", "i-1", phone="098765 43210", renews=day), track("u-1", "m-1", "Trip", day=day))
        await eventually(lambda: armed(made, 2))
        assert await hours(made) == {"cmp_trip": 10, "cmp_trait": 10}
        india = AccountSettings(version=2, account_time_zone="Etc/UTC", default_country="IN")
        await made.define_settings(india)

        async def moved_to(hour: int) -> bool:
            assert await hours(made) == {"cmp_trip": hour, "cmp_trait": hour}
            return True

        await eventually(lambda: moved_to(4))
        await made.send(identify("u-1", "i-2", phone="+447700900123"))
        await eventually(lambda: moved_to(10))
        await made.define_settings(msgspec.structs.replace(india, version=3, account_time_zone="Asia/Tokyo"))
        await made.send(identify("u-1", "i-3", phone=None))
        await eventually(lambda: moved_to(1))


async def test_an_erased_person_keeps_no_wait_of_any_campaign(made: Engine) -> None:
    async with made.running() as http:
        for id in ("cmp_1", "cmp_2"):
            await made.define(inaction(id, within=3_600, same_property="cart"))
        await made.define(live_campaign("", campaign_id="cmp_date", kind="live_date",
                                        who=Who(trigger=Trigger(date_attribute="renews"))))  # fmt: skip
        renews = (now() + HOUR).isoformat()
        await made.send(identify("u-1", "i-1", renews=renews), identify("u-2", "i-2", renews=renews))
        await made.send(*(track(user, f"{user}-{n}", "Cart", cart=n) for user in ("u-1", "u-2") for n in range(3)))
        await eventually(lambda: armed(made, 14))
        assert (await http.delete("/internal/profile", params={"user_id": "u-1"})).status_code == 204
        assert {user for user, _, _ in await waits(made)} == {"u-2"}
        async with made.database.begin() as tx:  # what a batch commits that was being read in that moment
            await tx.execute(
                text("INSERT INTO waits SELECT campaign_id, 'u-1', key, partition, made_by, due_at, keep_until, state"
                     " FROM waits WHERE user_id = 'u-2'")
            )  # fmt: skip
    async with made.running():

        async def forgotten() -> bool:
            assert {user for user, _, _ in await waits(made)} == {"u-2"}
            return True

        await eventually(forgotten)


async def test_each_event_of_a_delayed_action_is_due_by_the_delay_as_it_is_now(made: Engine) -> None:
    def delayed(seconds: int, version: int) -> CampaignDefinition:
        return live_campaign("Cart", version=version, when=When(send_by_seconds=900, delay_seconds=seconds))

    async with made.running():
        await made.define(delayed(3_600, 1))
        await made.send(track("u-1", "m-1", "Cart"), track("u-1", "m-2", "Cart"), track("u-1", "m-1", "Cart"))
        await eventually(lambda: armed(made, 2))
        assert await qualified(made) == []
        await made.define(delayed(1, 2))
        await eventually(lambda: qualified(made, 2))
        await made.send(track("u-1", "m-1", "Cart"), track("u-2", "m-3", "Cart"))
        found = {user.occurrence: user for user in await eventually(lambda: qualified(made, 3))}
        assert set(found) == {"m-1", "m-2", "m-3"}
        assert all(user.received_at >= user.due_at for user in found.values())
        assert len(await qualified(made)) == 3
