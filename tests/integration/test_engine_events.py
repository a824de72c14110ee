"""User events through the two groups of the segment-engine, on real Kafka, Postgres and chDB."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from sqlalchemy import text

from postrider.contracts.definitions import AccountSettings, Trigger, Who
from postrider.contracts.envelope import Outgoing
from postrider.contracts.qualified import QUALIFIED, QualifiedUser
from postrider.contracts.suppressions import SUPPRESSION_CHANGED, SuppressionChanged
from postrider.contracts.topics import QUALIFIED_USERS, SUPPRESSIONS, USER_EVENTS
from postrider.contracts.user_events import MAX_RECORD_BYTES
from postrider.phones import phone_hash
from postrider.runtime import CannotStart
from segment_engine.event_store.chdb_store import ChdbStore
from tests.support.eventually import eventually
from tests.support.segment_engine import Engine, engine, identify, live_campaign, track

pytestmark = pytest.mark.integration


@pytest.fixture
async def made(
    kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str, tmp_path: Path
) -> AsyncIterator[Engine]:
    async with engine(kafka, await fresh_database(), topic_prefix, tmp_path / "store") as made:
        yield made


def did(event: str, count: int) -> dict[str, Any]:
    return {"rule": {"did": {"event": event, "count": {"op": "eq", "value": count}}}}


async def estimate(http: httpx.AsyncClient, body: dict[str, Any]) -> dict[str, Any]:
    response = await http.post("/internal/estimate", json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def qualified(made: Engine) -> list[QualifiedUser]:
    return await made.published(QUALIFIED_USERS, QUALIFIED, QualifiedUser)


async def test_an_event_counts_once_however_often_it_comes(made: Engine) -> None:
    async with made.running() as http:
        await made.send(*[track("u-1", "m-1", "Bought")] * 3, track("u-2", "m-1", "Bought"))
        await made.send(track("u-1", "m-1", "Bought"), track("u-1", "m-2", "Bought"))
        assert (await estimate(http, did("Bought", 2)))["qualified"] == 1
        assert (await estimate(http, did("Bought", 1)))["qualified"] == 1
    async with made.running() as http:
        await made.send(track("u-1", "m-2", "Bought"), track("u-2", "m-1", "Bought"))
        assert (await estimate(http, did("Bought", 2)))["qualified"] == 1
        assert (await estimate(http, did("Bought", 1)))["qualified"] == 1


async def test_a_repeat_is_known_whatever_day_it_is_filed_under(made: Engine) -> None:
    now = datetime.now(UTC)
    ages = [0, 1, 29, 31, 36, 40, 400, -2, -9]
    stamped = [
        {**track("u-1", f"m{age}", "Bought"), "timestamp": (now - timedelta(days=age)).isoformat()} for age in ages
    ]
    async with made.running() as http:
        await made.send(*stamped)
        assert (await estimate(http, did("Bought", len(ages))))["qualified"] == 1
        await made.send(*stamped)
        assert (await estimate(http, did("Bought", len(ages))))["qualified"] == 1


async def test_an_event_without_message_id_counts_each_time(made: Engine) -> None:
    async with made.running() as http:
        await made.send(*[{"type": "track", "userId": "u-1", "event": "Bought"}] * 3)
        assert (await estimate(http, did("Bought", 3)))["qualified"] == 1


async def test_a_record_in_a_wrong_partition_is_forwarded_and_counts_once(made: Engine) -> None:
    wrong = (made.partition_of("u-1") + 1) % USER_EVENTS.partitions
    async with made.running() as http:
        await made.define(live_campaign("Bought"))
        await made.send(identify("u-1", "i-1", phone="+15550100001"), track("u-1", "m-1", "Bought"), partition=wrong)
        await made.send({"type": "track", "userId": "u-1", "event": "Bought"}, partition=wrong)
        assert (await estimate(http, did("Bought", 2)))["reachable"] == 1
        assert {user.phone for user in await eventually(lambda: qualified(made))} == {"+15550100001"}
    records = await made.records(USER_EVENTS)
    assert len([record for record in records if record.partition == made.partition_of("u-1")]) == 3
    assert len(records) == 6


async def test_the_largest_record_without_a_name_is_forwarded_as_it_is(made: Engine) -> None:
    """A byte more, and it could not be read again: the barrier would wait for it for ever."""
    body: dict[str, Any] = {"type": "track", "userId": "u-1", "event": "Bought", "properties": {}}
    body["properties"] = {f"p{n}": "x" * 500 for n in range(64)}
    body["properties"]["rest"] = ""
    body["properties"]["rest"] = "x" * (MAX_RECORD_BYTES - len(msgspec.json.encode(body)))
    assert len(msgspec.json.encode(body)) == MAX_RECORD_BYTES
    async with made.running() as http:
        await made.send(body, partition=(made.partition_of("u-1") + 1) % USER_EVENTS.partitions)
        assert (await estimate(http, did("Bought", 1)))["qualified"] == 1


async def test_an_identify_just_before_a_track_gives_the_phone(made: Engine) -> None:
    async with made.running():
        await made.define_settings(AccountSettings(version=1, default_country="US", account_time_zone="Asia/Kolkata"))
        await made.send(identify("u-1", "i-1", phone="+15550100001", first_name="Ann", city="Pune"))
        await made.define(live_campaign("Bought", who=Who(trigger=Trigger("Bought", [gt("amount", 50)]))))
        await made.send(
            identify("u-1", "i-2", phone="(555) 010-0002"),
            track("u-1", "m-1", "Bought", amount=51, currency="USD"),
            track("u-1", "m-2", "Bought", amount=50),
            {**track("u-1", "m-3", "Bought", amount=60), "historic": True},
            {**track("u-1", "m-4", "Bought", amount=60), "timestamp": "2020-01-01T00:00:00Z"},
        )
        (user,) = await eventually(lambda: qualified(made))
    assert user.occurrence == "m-1"
    assert user.phone == "+15550100002"
    assert user.verdict == ""
    assert user.zone == "Asia/Kolkata"
    assert user.profile == {"first_name": "Ann"}
    assert user.event == {"amount": 51}


def gt(name: str, value: float) -> dict[str, Any]:
    return {"property": name, "op": "gt", "value": value}


async def test_a_campaign_sees_what_comes_after_it_was_scheduled_and_nothing_before(made: Engine) -> None:
    async with made.running():
        for number in range(5):
            event = f"E{number}"
            await made.send(track("u-1", f"before-{number}", event))
            await asyncio.sleep(0.002)  # the broker's clock counts milliseconds
            await made.define(live_campaign(event, campaign_id=f"cmp_{number}"))
            await made.send(track("u-1", f"after-{number}", event))
        await eventually(lambda: _count(made, 5))
        assert sorted(user.occurrence for user in await qualified(made)) == [f"after-{n}" for n in range(5)]


async def _count(made: Engine, count: int) -> bool:
    return len(await qualified(made)) >= count


async def test_who_cannot_be_texted_qualifies_with_the_reason(made: Engine) -> None:
    hashed = phone_hash("+15550100003", made.settings.phone_hash_key_bytes)
    async with made.running() as http:
        await made.define(live_campaign("Bought"))
        await made.tell(
            SUPPRESSIONS, hashed, SUPPRESSION_CHANGED,
            SuppressionChanged(hashed, True, 1, "opted_out", "test", datetime.now(UTC)),
        )  # fmt: skip
        await made.send(
            identify("u-1", "i-1", phone="nonsense"),
            identify("u-2", "i-2", phone="+15550100002", sms_consent=False),
            identify("u-3", "i-3", phone="+15550100003"),
        )
        everybody: dict[str, Any] = {"rule": {"all": []}}
        counts = await estimate(http, everybody)
        assert (counts["unreachable"], counts["suppressed"], counts["reachable"]) == (2, 1, 0)
        await made.send(*(track(f"u-{n}", f"m-{n}", "Bought") for n in (1, 2, 3, 4)))
        await eventually(lambda: _count(made, 4))
        found = {user.user_id: (user.verdict, user.reason) for user in await qualified(made)}
    assert found == {
        "u-1": ("unreachable", "no_valid_phone"),
        "u-2": ("unreachable", "no_consent"),
        "u-3": ("suppressed", "opted_out"),
        "u-4": ("unreachable", "no_valid_phone"),
    }


async def test_traits_merge_and_a_late_repeat_of_an_identify_changes_nothing(made: Engine) -> None:
    async with made.running() as http:
        await made.send(
            identify("u/1 ?", "i-1", city="Pune", plan="free", timezone="Asia/Kolkata"),
            identify("u/1 ?", "i-2", city="Mumbai", plan=None, timezone="Nowhere"),
            identify("u/1 ?", "i-1", city="Pune", plan="free", timezone="Asia/Kolkata"),
        )
        await estimate(http, {"rule": {"all": []}})
        profile = (await http.get("/internal/profiles/u%2F1%20%3F")).json()
        assert profile["traits"] == {"city": "Mumbai", "timezone": "Nowhere"}
        assert profile["time_zone"] is None
        city = {"rule": {"attribute": {"name": "city", "op": "eq", "value": "Mumbai"}}}
        assert (await estimate(http, city))["qualified"] == 1
        assert (await http.get("/internal/profiles/nobody")).status_code == 404


async def test_what_cannot_be_read_is_put_aside_and_the_rest_goes_on(made: Engine) -> None:
    topic = USER_EVENTS.full_name(made.config.topic_prefix)
    async with made.running() as http:
        await made.publisher.publish(
            [Outgoing(topic, b"k", value) for value in (b"{", b"[]", b'{"type":"track"}', b"x" * 40_000)]
        )
        await made.publisher.publish([Outgoing(topic, None, b'{"type":"page","userId":"u-1"}')])
        await made.send(track("u-1", "m-1", "Bought"))
        assert (await estimate(http, did("Bought", 1)))["qualified"] == 1


async def test_a_log_that_ends_in_the_marker_of_a_foreign_transaction_holds_nobody_up(made: Engine) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=made.config.bootstrap_servers, transactional_id="foreign")
    topic = USER_EVENTS.full_name(made.config.topic_prefix)
    async with made.running() as http:
        try:
            await producer.start()
            async with producer.transaction():
                value = msgspec.json.encode(track("u-1", "m-1", "Bought"))
                await producer.send(topic, value, b"u-1", made.partition_of("u-1"))
        finally:
            await producer.stop()
        assert (await estimate(http, did("Bought", 1)))["qualified"] == 1


async def test_a_crash_between_the_store_and_the_commit_doubles_nothing(
    made: Engine,
) -> None:
    """The process dies after the event store has the rows; the successor replays exactly the planned range."""
    await made.send(*(track("u-1", f"a-{number}", "Bought") for number in range(50)))
    tokens: list[str] = []
    crashing = [True]

    class Crashing(ChdbStore):
        async def insert_events(self, rows: Any, token: str) -> None:
            await super().insert_events(rows, token)
            tokens.append(token)
            if crashing:
                raise Killed

    async with made.failing(Killed, Crashing):
        await made.send(*(track("u-1", f"b-{number}", "Bought") for number in range(50)))
    first = tokens.copy()
    assert len(first) == 1
    crashing.clear()
    async with made.running(Crashing) as http:
        assert (await estimate(http, did("Bought", 100)))["qualified"] == 1
    assert tokens[1] == first[0]
    async with made.database.begin() as tx:
        assert (await tx.execute(text("SELECT count(*) FROM event_dedup"))).scalar_one() == 100


class Killed(Exception):
    pass


async def test_a_second_owner_of_the_store_is_refused_with_a_message(made: Engine) -> None:
    async with made.running():
        with pytest.raises(CannotStart, match="one owner"):
            async with made.running():
                raise AssertionError("started")


async def test_internal_calls_need_the_service_token_and_mean_something(made: Engine) -> None:
    async with made.running() as http:
        refused = await http.get("/internal/messages", headers={"Authorization": "Bearer wrong"})
        assert refused.status_code == 401
        assert refused.headers["content-type"] == "application/problem+json"
        bodies: list[dict[str, Any]] = [{}, {"segment_id": "s"}, {"rule": {"any": []}}, {"rule": {"all": []}, "x": 1}]
        for body in bodies:
            assert (await http.post("/internal/estimate", json=body)).status_code == 422, body
        assert (await http.get("/internal/messages?cursor=nonsense")).status_code == 422
        assert (await http.get("/livez")).status_code == 200
        assert (await http.get("/readyz")).status_code == 200
        assert "postrider_segment_engine_events_read_total" in (await http.get("/metrics")).text
