"""The segment-engine about people: estimates with real renders, the catalogue, erasing, phones read again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from postrider.contracts.definitions import AccountSettings
from postrider.contracts.delivery_events import MESSAGE_CHANGED, MessageChanged
from postrider.contracts.ids import message_id
from postrider.contracts.qualified import QUALIFIED, QualifiedUser
from postrider.contracts.suppressions import SUPPRESSION_CHANGED, SuppressionChanged
from postrider.contracts.topics import DELIVERY_EVENTS, QUALIFIED_USERS, SUPPRESSIONS
from postrider.phones import phone_hash
from segment_engine.adapters import erasure_table
from segment_engine.event_store.chdb_store import ChdbStore
from segment_engine.event_store.port import StoreUnavailable
from segment_engine.loops.erasures import Erasures
from tests.support.eventually import eventually
from tests.support.segment_engine import Engine, engine, identify, live_campaign, track

pytestmark = pytest.mark.integration
EVERYBODY: dict[str, Any] = {"all": []}


@pytest.fixture
async def made(
    kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str, tmp_path: Path
) -> AsyncIterator[Engine]:
    async with engine(kafka, await fresh_database(), topic_prefix, tmp_path / "store") as made:
        yield made


async def estimate(http: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await http.post("/internal/estimate", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def tried(body: str, **more: Any) -> dict[str, Any]:
    return {"body": body, "campaign": {"id": "cmp_1", "name": "Spring"}, **more}


async def test_texts_are_tried_on_real_profiles_as_the_dispatcher_renders_them(made: Engine) -> None:
    people = [identify(f"u-{n}", f"i-{n}", phone=f"+1555{2000000 + n}", first_name="A" * n) for n in range(1, 5)]
    async with made.running() as http:
        await made.send(*people, identify("u-5", "i-5", phone="+15552000005"), identify("u-6", "i-6", first_name="Z"))
        body = "{{ Campaign.name }}: Hi {{ Profile.first_name }}" + "x" * 140
        found = await estimate(http, rule=EVERYBODY, text=tried(body), seed="s")
        assert (found["qualified"], found["reachable"]) == (6, 5)
        assert found["by_reason"] == [{"status": "unreachable", "reason": "no_valid_phone", "n": 1}]
        assert found["by_country"] == [
            {"country": "US", "qualified": 5, "reachable": 5}, {"country": None, "qualified": 1, "reachable": 0},
        ]  # fmt: skip
        # 152 to 155 characters; the person without a first name fails.
        assert found["sample"] == {
            "size": 5,
            "rendered": 4,
            "failures": [{"status": "personalisation_failed", "reason": "missing_value", "n": 1}],
            "parts": {"min": 1, "max": 1, "total": 4},
        }
        # 159 to 162 characters, and 71 of UCS-2.
        longer = body + "y" * 7
        found = await estimate(http, rule=EVERYBODY, text=tried(longer, fallback_body="Hi " + "ы" * 68), seed="s")
        assert found["sample"]["parts"] == {"min": 1, "max": 2, "total": 8}
        found = await estimate(http, rule=EVERYBODY, text=tried(longer, max_parts=1), seed="s")
        assert found["sample"]["failures"] == [
            {"status": "personalisation_failed", "reason": "too_many_parts", "n": 2},
            {"status": "personalisation_failed", "reason": "missing_value", "n": 1},
        ]
        looping = "{% for i in (1..3) %}{{ Profile.first_name | default: 'you' }}{% endfor %}"
        found = await estimate(http, rule=EVERYBODY, text=tried(looping), seed="s")
        assert found["sample"] == {
            "size": 5, "rendered": 5, "failures": [], "parts": {"min": 1, "max": 1, "total": 5},
        }  # fmt: skip
        aborting = "{% if Profile.first_name == 'AA' %}{% abort 'not you' %}{% endif %}Hi"
        found = await estimate(http, rule=EVERYBODY, text=tried(aborting), seed="s")
        assert found["sample"]["failures"] == [{"status": "aborted", "reason": "not you", "n": 1}]
        template = {"template_id": "t", "template_variables": ["{{ Profile.first_name }}"]}
        found = await estimate(http, rule=EVERYBODY, text=tried("", **template), seed="s")
        assert (found["sample"]["rendered"], found["sample"]["parts"]["max"]) == (4, 1), "one lacks the name"
        refused = await http.post("/internal/estimate", json={"rule": EVERYBODY, "text": tried("{{ Profile")})
        assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/text/body")
        assert (await estimate(http, rule=EVERYBODY))["sample"] is None


async def test_a_live_estimate_is_about_who_acted_and_the_filter_now(made: Engine) -> None:
    async with made.running() as http:
        await made.send(
            *(identify(f"u-{n}", f"i-{n}", phone="+15552000001", city="Pune" if n else "Rome") for n in range(4)),
            *(track(f"u-{n}", f"m-{n}-{k}", "Bought", amount=60 + n) for n in range(3) for k in range(2)),
            track("u-3", "m-3", "Bought", amount=5),
        )
        trigger = {"event": "Bought", "where": [{"property": "amount", "op": "gt", "value": 50}], "days": 30}
        city = {"attribute": {"name": "city", "op": "eq", "value": "Pune"}}
        text_ = tried("{{ Event.amount }} {{ Profile.city }}", live=True)
        found = await estimate(http, trigger=trigger, filter=city, text=text_, seed="s")
        # A live campaign texts each of several profiles with one phone.
        assert (found["qualified"], found["reachable"], found["duplicate_phone"]) == (2, 2, 0)
        assert found["activity"] == {"days": 30, "events": 6, "people": 3, "filter_holds": 3}
        assert found["sample"]["rendered"] == 2
        found = await estimate(http, trigger=trigger | {"date_property": "departs_at"})
        assert (found["qualified"], found["activity"]["events"], found["activity"]["filter_holds"]) == (0, 0, None)
        found = await estimate(http, trigger={"date_attribute": "city"}, text=tried("Hi"))
        assert (found["qualified"], found["sample"]["rendered"]) == (4, 4)
        assert found["activity"] == {"days": None, "events": None, "people": None, "filter_holds": None}
        wrong = {"in_segment": "seg_00000000000000000000000000"}
        answer = await http.post("/internal/estimate", json={"trigger": trigger, "filter": wrong})
        assert answer.json()["errors"][0]["pointer"] == "/filter/in_segment"
        missing = {"all": [{"user_list": "lst_00000000000000000000000000"}]}
        answer = await http.post("/internal/estimate", json={"trigger": trigger, "filter": missing})
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/filter/all/0/user_list")


async def test_the_catalogue_shows_what_was_sent_a_moment_ago(made: Engine) -> None:
    async with made.running() as http:
        await made.send(
            identify("u-1", "i-1", city="Pune", phone="+15552000001"),
            track("u-1", "m-1", "Bought", amount=59.9, color="red"),
            track("u-1", "m-1", "Bought", amount=59.9, color="red"),
            track("u-1", "m-2", "Added", amount="60"),
        )
        await estimate(http, rule=EVERYBODY)
        events = (await http.get("/internal/catalog/events")).json()
        assert [(item["name"], item["count"]) for item in events["items"]] == [("Added", 1), ("Bought", 1)]
        (amount, color) = events["items"][1]["properties"]
        assert (amount["name"], amount["types"], amount["examples"]) == ("amount", ["number"], [59.9])
        assert (color["name"], color["types"], color["examples"]) == ("color", ["text"], ["red"])
        page = (await http.get("/internal/catalog/attributes", params={"limit": 1})).json()
        assert ([item["name"] for item in page["items"]], page["more"]) == (["city"], True)
        page = (await http.get("/internal/catalog/attributes", params={"prefix": "PH"})).json()
        assert [(item["name"], item["examples"]) for item in page["items"]] == [("phone", [])]


async def erased(http: httpx.AsyncClient, user_id: str) -> int:
    return (await http.delete("/internal/profile", params={"user_id": user_id})).status_code


def changed(user_id: str, seq: int, status: str, due_at: datetime) -> MessageChanged:
    return MessageChanged(
        message_id("cmp_1", "m-1", user_id), "cmp_1", "", "m-1", user_id, status, seq, due_at, due_at, "+15552000001",
        body="Dear Ada",
    )  # fmt: skip


async def logged(http: httpx.AsyncClient, user_id: str, status: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await http.get("/internal/messages", params={"user_id": user_id})).json()["items"]
    return items if items and items[0]["status"] == status else []


async def test_an_erased_person_is_gone_everywhere_and_starts_anew(made: Engine) -> None:
    user, before = "u/1 ..?&", datetime.now(UTC) - timedelta(seconds=1)
    acted = {"did": {"event": "Bought"}}
    received = {"messaged": {"campaign_id": "cmp_1", "status": "accepted"}}
    hashed = phone_hash("+15552000001", made.settings.phone_hash_key_bytes)
    async with made.running() as http:
        await made.define(live_campaign("Bought"))
        await made.tell(
            SUPPRESSIONS, hashed, SUPPRESSION_CHANGED,
            SuppressionChanged(hashed, True, 1, "opted_out", "test", before),
        )  # fmt: skip
        await made.send(identify(user, "i-1", phone="+15552000001", nick="Ada"), track(user, "m-1", "Bought", x="mine"))
        await made.send(identify("u-2", "i-2", phone="+15552000001"), track("u-2", "m-2", "Bought"))
        await made.tell(DELIVERY_EVENTS, user, MESSAGE_CHANGED, changed(user, 1, "sent", before))
        await eventually(lambda: logged(http, user, "sent"))
        profile = (await http.get("/internal/profile", params={"user_id": user})).json()
        assert (profile["traits"]["nick"], profile["suppressed"]) == ("Ada", "opted_out")
        async with made.database.begin() as tx:
            await tx.execute(
                text(
                    "INSERT INTO waits (campaign_id, user_id, key, partition, made_by, due_at, state) "
                    "SELECT c, u, '', 0, 1, now() + interval '1 day', '' "
                    "FROM unnest(CAST(:ids AS text[])) u, unnest(ARRAY['cmp_t', 'cmp_u']) c"
                ),
                {"ids": [user, "u-2"]},
            )
        assert await erased(http, "nobody") == 404
        # What was sent before the request goes too, read or not.
        await made.send(*(track(user, f"m-{n}", "Bought") for n in range(10, 60)))
        assert await erased(http, user) == 204
        assert await erased(http, user) == 404
        assert (await http.get("/internal/profile", params={"user_id": user})).status_code == 404
        async with made.database.begin() as tx:
            waits = (await tx.execute(text("SELECT user_id FROM waits WHERE key = ''"))).scalars().all()
            kept = (await tx.execute(text("SELECT * FROM profiles WHERE user_id = :id"), {"id": user})).mappings().one()
            left = (await tx.execute(text("SELECT count(*) FROM erasures"))).scalar_one()
        assert waits == ["u-2", "u-2"]
        assert (kept["traits"], kept["phone"], kept["country"], kept["deleted"], left) == ({}, None, None, True, 0)
        assert (await estimate(http, rule=acted))["qualified"] == 1
        assert (await estimate(http, rule=received))["qualified"] == 0
        (row,) = await logged(http, user, "sent")
        assert (row["phone"], row["body"], row["campaign_id"]) == (None, None, "cmp_1")
        # A receipt that comes later brings nothing back.
        await made.tell(DELIVERY_EVENTS, user, MESSAGE_CHANGED, changed(user, 2, "delivered", before))
        (row,) = await eventually(lambda: logged(http, user, "delivered"))
        assert (row["phone"], row["body"]) == (None, None)
        assert (await estimate(http, rule=received))["qualified"] == 0
        # A track alone makes the person known again, with nothing of before.
        await made.send(track(user, "m-99", "Bought"))
        assert (await estimate(http, rule=acted))["qualified"] == 2
        profile = (await http.get("/internal/profile", params={"user_id": user})).json()
        assert (profile["traits"], profile["phone"], profile["suppressed"]) == ({}, None, None)
        await made.send(identify(user, "i-9", phone="+15552000001"))
        assert (await estimate(http, rule=acted))["suppressed"] == 2
    published = await made.published(QUALIFIED_USERS, QUALIFIED, QualifiedUser)
    assert {found.occurrence for found in published if found.user_id == user} >= {"m-1", "m-99"}


class FullDisk(ChdbStore):
    """Cannot erase."""

    async def erase(
        self, user_id: str, version: int, *, until: datetime | None = None, texts: Sequence[str] = ()
    ) -> None:
        raise StoreUnavailable("the event store's disk is full")


async def test_an_erasure_that_was_begun_is_done_after_a_restart(made: Engine) -> None:
    async with made.running(FullDisk) as http:
        await made.send(identify("u-1", "i-1", phone="+15552000001"), track("u-1", "m-1", "Bought"))
        await estimate(http, rule=EVERYBODY)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(erased(http, "u-1"), 2)
        assert (await http.get("/internal/profile", params={"user_id": "u-1"})).status_code == 404
    async with made.running() as http:
        # Asked again while it is open, the answer waits for the same erasure.
        assert await erased(http, "u-1") in (204, 404)
        await eventually(lambda: _no_erasure(made))
        await made.send(identify("u-1", "i-2"))
        found = await estimate(http, rule={"did": {"event": "Bought"}})
        assert found["qualified"] == 0


async def _no_erasure(made: Engine) -> bool:
    async with made.database.begin() as tx:
        return bool((await tx.execute(text("SELECT count(*) FROM erasures"))).scalar_one() == 0)


async def test_a_new_default_country_reads_the_phones_nobody_understood(made: Engine) -> None:
    async with made.running() as http:
        await made.send(
            *(identify(f"u-{n}", f"i-{n}", phone=f"98765{n:05}") for n in range(1_100)),
            identify("abroad", "i-a", phone="+1 202 555 0142"),
            identify("bad", "i-b", phone="nonsense"),
            identify("none", "i-c", city="Pune"),
        )
        assert (await estimate(http, rule=EVERYBODY))["reachable"] == 1
        await made.define_settings(AccountSettings(version=1, default_country="IN"))
        found = await eventually(lambda: _reaching(http, 1_101), 20)
        assert found["unreachable"] == 2
        profile = (await http.get("/internal/profile", params={"user_id": "u-7"})).json()
        assert (profile["phone"], profile["phone_country"], profile["traits"]["phone"]) == (
            "+919876500007", "IN", "+919876500007",
        )  # fmt: skip
        # What was understood once means the same for ever.
        await made.define_settings(AccountSettings(version=2, default_country="FR"))
        await made.send(identify("fr", "i-d", phone="06 12 34 56 78"))
        await eventually(lambda: _reaching(http, 1_102), 20)
        profile = (await http.get("/internal/profile", params={"user_id": "u-7"})).json()
        assert profile["phone"] == "+919876500007"


async def _reaching(http: httpx.AsyncClient, people: int) -> dict[str, Any]:
    found = await estimate(http, rule=EVERYBODY)
    return found if found["reachable"] == people else {}


async def test_a_replica_hears_of_an_erasure_that_was_committed_behind_a_later_one(
    made: Engine, tmp_path: Path
) -> None:
    heard: set[str] = set()
    store = ChdbStore(tmp_path / "of-another")
    other, stop = Erasures(made.database, store, heard.add), asyncio.Event()
    async with made.running() as http:
        await made.send(*(identify(user, f"i-{user}", first_name="A") for user in ("first", "late", "soon")))
        assert (await estimate(http, rule=EVERYBODY))["qualified"] == 3
    await store.open()
    running = asyncio.create_task(other.run(stop))
    try:
        await erase(made, "first")
        await eventually(lambda: has_heard(heard, "first"), 10)
        async with made.database.begin() as tx:
            assert await erasure_table.begin(tx, "late")
            await erase(made, "soon")
            await eventually(lambda: has_heard(heard, "soon"), 10)
            assert "late" not in heard
        await eventually(lambda: has_heard(heard, "late"), 10)
    finally:
        stop.set()
        await running
        await store.close()


async def erase(made: Engine, user_id: str) -> None:
    async with made.database.begin() as tx:
        assert await erasure_table.begin(tx, user_id)


async def has_heard(heard: set[str], user_id: str) -> bool:
    return user_id in heard
