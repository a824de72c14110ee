"""Audiences of the segment-engine: snapshots behind their barrier, pages, settlements, the message log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from postrider.contracts.audience import (
    PAGE,
    REFUSED,
    SNAPSHOT_REQUESTED,
    SNAPSHOTTED,
    UNEXPANDED_SETTLED,
    ZONE_REQUESTED,
    AudiencePage,
    AudienceRefused,
    AudienceSnapshotted,
    BestTime,
    SnapshotRequested,
    UnexpandedSettled,
    ZoneRequested,
)
from postrider.contracts.definitions import SEGMENT_TYPE, SegmentDefinition
from postrider.contracts.delivery_events import (
    FUNNEL_MOVED,
    MESSAGE_CHANGED,
    AttemptSummary,
    FunnelMoved,
    MessageChanged,
)
from postrider.contracts.ids import message_id, run_id
from postrider.contracts.suppressions import SUPPRESSION_CHANGED, SuppressionChanged
from postrider.contracts.topics import (
    AUDIENCE_REQUESTS,
    DELIVERY_EVENTS,
    QUALIFIED_USERS_BULK,
    SEGMENT_DEFINITIONS,
    SUPPRESSIONS,
)
from postrider.phones import phone_hash
from segment_engine.event_store.chdb_store import ChdbStore
from segment_engine.event_store.port import AudienceMember
from segment_engine.loops.page_streams import PAGES_AT_ONCE
from tests.support.eventually import eventually
from tests.support.segment_engine import Engine, engine, identify, live_campaign, track

pytestmark = pytest.mark.integration
CAMPAIGN = "cmp_1"
RUN = run_id(CAMPAIGN, "once")
BOUGHT = {"did": {"event": "Bought"}}


@pytest.fixture
async def made(
    kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str, tmp_path: Path
) -> AsyncIterator[Engine]:
    async with engine(kafka, await fresh_database(), topic_prefix, tmp_path / "store") as made:
        yield made


async def request(made: Engine, run: str = RUN, **rule: Any) -> None:
    rule = rule or {"rule": BOUGHT}
    asked = SnapshotRequested(run, CAMPAIGN, "once", 7, datetime.now(UTC), **rule)
    await made.tell(AUDIENCE_REQUESTS, run, SNAPSHOT_REQUESTED, asked)


async def ask_zone(made: Engine, zone: str = "UTC", page_size: int = 10) -> None:
    asked = ZoneRequested(RUN, CAMPAIGN, "once", zone, 1, ["first_name"], page_size)
    await made.tell(AUDIENCE_REQUESTS, RUN, ZONE_REQUESTED, asked)


async def snapshots(made: Engine) -> list[AudienceSnapshotted]:
    return await made.published(QUALIFIED_USERS_BULK, SNAPSHOTTED, AudienceSnapshotted)


async def pages(made: Engine, zone: str = "UTC") -> list[AudiencePage]:
    """Those of a zone in order. A crash may publish a page again: then it is the same."""
    found: dict[int, AudiencePage] = {}
    for page in await made.published(QUALIFIED_USERS_BULK, PAGE, AudiencePage):
        if page.zone == zone:
            assert found.setdefault(page.page, page) == page
    return [found[number] for number in sorted(found)]


async def whole(made: Engine, zone: str = "UTC") -> list[AudiencePage]:
    """The pages of a zone once its last is there."""
    found = await pages(made, zone)
    return found if found and found[-1].last else []


def people(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [
        message
        for n in range(start, start + count)
        for message in (
            identify(f"u-{n}", f"i-{n}", phone=f"+1555{2000000 + n}", first_name=f"N{n}", timezone="UTC"),
            track(f"u-{n}", f"m-{n}", "Bought"),
        )
    ]


async def fixed(made: Engine, count: int) -> None:
    await made.send(*people(count))
    await request(made)
    (snapshot,) = await eventually(lambda: snapshots(made))
    assert (snapshot.total, snapshot.reachable, snapshot.zones) == (count, count, {"UTC": count})


async def messages(http: httpx.AsyncClient, query: str = "") -> list[dict[str, Any]]:
    response = await http.get("/internal/messages" + query)
    assert response.status_code == 200, response.text
    items: list[dict[str, Any]] = response.json()["items"]
    return items


async def test_a_snapshot_has_everybody_who_acted_before_it_was_asked_for(made: Engine) -> None:
    async with made.running():
        for turn in range(5):
            await made.send(*people(20, start=20 * turn))
            await request(made, run_id(CAMPAIGN, str(turn)))
        found = await eventually(lambda: _count(made, 5), 30)
    totals = {snapshot.run_id: snapshot.total for snapshot in found}
    for turn in range(5):
        assert totals[run_id(CAMPAIGN, str(turn))] >= 20 * (turn + 1)


async def _count(made: Engine, count: int) -> list[AudienceSnapshotted]:
    found = await snapshots(made)
    return found if len(found) >= count else []


async def test_whom_to_leave_out_and_the_best_time_are_part_of_the_question(made: Engine) -> None:
    async with made.running():
        await made.send(*people(5))
        await request(made, rule=BOUGHT, reach_percent=0.0, best_time=BestTime("Never Done", "09:30"))
        (answer,) = await eventually(lambda: snapshots(made))
    assert (answer.total, answer.reachable, answer.zones) == (5, 0, {"UTC#0930": 5})


async def test_a_repeated_request_changes_nothing(made: Engine) -> None:
    async with made.running():
        await fixed(made, 25)
        await made.send(*people(10, start=25))
        await request(made)
        await ask_zone(made)
        await ask_zone(made)
        found = await eventually(lambda: whole(made))
        await request(made, run_id(CAMPAIGN, "later"))
        await eventually(lambda: _count(made, 2))
    assert [len(page.users) for page in found] == [10, 10, 5]
    assert [user.rank for page in found for user in page.users] == list(range(25))
    assert {user.user_id for page in found for user in page.users} == {f"u-{n}" for n in range(25)}
    assert {user.profile["first_name"] for page in found for user in page.users} == {f"N{n}" for n in range(25)}
    assert len([s for s in await snapshots(made) if s.run_id == RUN]) == 1
    assert len(await pages(made)) == 3


async def test_a_zone_without_people_has_one_empty_last_page(made: Engine) -> None:
    async with made.running():
        await fixed(made, 10)
        await ask_zone(made, "Asia/Tokyo")
        (page,) = await eventually(lambda: whole(made, "Asia/Tokyo"))
        assert (page.page, page.last, page.users) == (0, True, [])
        await ask_zone(made)
        (page,) = await eventually(lambda: whole(made))
        assert (page.last, len(page.users)) == (True, 10)


async def test_contacts_are_read_when_the_page_is_made_and_the_order_is_the_snapshots(made: Engine) -> None:
    hashed = phone_hash("+15552000003", made.settings.phone_hash_key_bytes)
    async with made.running() as http:
        await fixed(made, 6)
        await made.tell(
            SUPPRESSIONS, hashed, SUPPRESSION_CHANGED,
            SuppressionChanged(hashed, True, 1, "opted_out", "test", datetime.now(UTC)),
        )  # fmt: skip
        await made.send(
            identify("u-0", "j-0", phone="+15553000000", timezone="Asia/Tokyo"),
            identify("u-1", "j-1", phone="bad"),
            identify("u-2", "j-2", sms_consent=False),
        )
        async with made.database.begin() as tx:
            await tx.execute(text("UPDATE profiles SET deleted = true, version = version + 1 WHERE user_id = 'u-4'"))
        assert (await http.post("/internal/estimate", json={"rule": {"all": []}})).status_code == 200
        await ask_zone(made)
        (page,) = await eventually(lambda: whole(made))
    verdicts = {user.user_id: (user.verdict, user.reason, user.phone) for user in page.users}
    assert verdicts == {
        "u-0": ("", "", "+15553000000"),
        "u-1": ("unreachable", "no_valid_phone", ""),
        "u-2": ("unreachable", "no_consent", "+15552000002"),
        "u-3": ("suppressed", "opted_out", "+15552000003"),
        "u-4": ("cancelled", "erased", ""),
        "u-5": ("", "", "+15552000005"),
    }


async def test_page_streams_go_on_where_a_crash_left_them(made: Engine) -> None:
    calls = []

    class Crashing(ChdbStore):
        async def page(self, run_id: str, zone: str, after_rank: int, limit: int) -> list[AudienceMember]:
            calls.append(after_rank)
            if len(calls) == 2:
                raise Killed
            return await super().page(run_id, zone, after_rank, limit)

    async with made.running():
        await fixed(made, 57)
    async with made.failing(Killed, Crashing):
        await ask_zone(made)
    async with made.running():
        found = await eventually(lambda: whole(made))
    assert calls == [-1, 10 * PAGES_AT_ONCE - 1]
    assert [user.rank for page in found for user in page.users] == list(range(57))
    assert [page.page for page in found] == list(range(6))


class Killed(Exception):
    pass


async def test_a_stopped_campaign_gets_no_more_pages(made: Engine) -> None:
    async with made.running():
        await fixed(made, 10)
        await made.define(live_campaign("x", campaign_id=CAMPAIGN, kind="one_time", status="stopped"))
        await ask_zone(made)
        await eventually(lambda: _states(made, ["stopped"]))
    assert await pages(made) == []


async def _states(made: Engine, wanted: Sequence[str]) -> bool:
    async with made.database.begin() as tx:
        return list((await tx.execute(text("SELECT state FROM page_streams"))).scalars()) == wanted


async def test_a_segment_is_the_one_saved_now_and_an_unknown_one_is_refused(made: Engine) -> None:
    async with made.running():
        await made.send(*people(3))
        segment = SegmentDefinition("seg_1", 1, "Buyers", BOUGHT)
        await made.tell(SEGMENT_DEFINITIONS, "seg_1", SEGMENT_TYPE, segment)
        await request(made, segment_id="seg_1")
        await request(made, run_id(CAMPAIGN, "none"), segment_id="seg_none")
        assert [s.total for s in await eventually(lambda: snapshots(made))] == [3]
        (refused,) = await eventually(lambda: made.published(QUALIFIED_USERS_BULK, REFUSED, AudienceRefused))
        assert (refused.run_id, refused.reason) == (run_id(CAMPAIGN, "none"), "segment_unknown")


async def test_people_who_were_never_expanded_have_a_row_in_the_message_log(made: Engine) -> None:
    async with made.running() as http:
        await fixed(made, 12)
        settled = UnexpandedSettled(RUN, CAMPAIGN, "once", {"UTC": 10}, "cancelled", "stopped", datetime.now(UTC))
        await made.tell(AUDIENCE_REQUESTS, RUN, UNEXPANDED_SETTLED, settled)
        rows = await eventually(lambda: messages(http, f"?run_id={RUN}"))
        assert [(row["status"], row["reason"]) for row in rows] == [("cancelled", "stopped")] * 2
        assert {row["id"] for row in rows} < {message_id(CAMPAIGN, "once", f"u-{n}") for n in range(12)}


async def test_the_message_log_has_the_newest_state_of_each_message(made: Engine) -> None:
    now = datetime(2026, 12, 1, 9, 0, 0, 123456, UTC)

    def change(seq: int, status: str, user: str = "u-1") -> MessageChanged:
        attempts = [AttemptSummary(1, "prv_1", "accepted", now)]
        return MessageChanged(
            message_id(CAMPAIGN, "once", user), CAMPAIGN, RUN, "once", user, status, seq, now, now,
            phone="+15552000001", body="Hi ✓", parts=1, provider_id="prv_1", attempts=attempts,
        )  # fmt: skip

    async with made.running() as http:
        await made.tell(DELIVERY_EVENTS, "u-1", MESSAGE_CHANGED, change(2, "delivered"))
        await made.tell(DELIVERY_EVENTS, "u-1", MESSAGE_CHANGED, change(1, "sent"))
        await made.tell(DELIVERY_EVENTS, CAMPAIGN, FUNNEL_MOVED, FunnelMoved(CAMPAIGN, "pending", 3))
        await made.tell(DELIVERY_EVENTS, "u-2", MESSAGE_CHANGED, change(1, "rejected", "u-2"))
        await eventually(lambda: _logged(http, 2))
        (row,) = await messages(http, "?user_id=u-1")
        assert (row["status"], row["body"], row["parts"]) == ("delivered", "Hi ✓", 1)
        assert row["updated_at"] == "2026-12-01T09:00:00.123456Z"
        assert row["attempts"][0]["outcome"] == "accepted"
        assert [r["user_id"] for r in await messages(http, "?status=rejected")] == ["u-2"]
        first = (await http.get("/internal/messages?limit=1")).json()
        second = (await http.get("/internal/messages", params={"limit": 1, "cursor": first["next_cursor"]})).json()
        assert first["items"][0]["id"] != second["items"][0]["id"]


async def _logged(http: httpx.AsyncClient, count: int) -> bool:
    return len(await messages(http)) == count
