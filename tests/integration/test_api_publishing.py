"""campaign-api on real Kafka and Postgres: definitions, ingestion, the funnel and what follows from it."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text

from campaign_api.app import SCHEMA, SERVICE
from campaign_api.definitions import DefinitionPublisher, NotPublished, request
from campaign_api.domain.errors import NotReady
from campaign_api.store import definition_outbox, resources
from postrider.contracts.delivery_events import FUNNEL_MOVED, RUN_CHANGED, FunnelMoved, RunChanged
from postrider.contracts.envelope import Outgoing
from postrider.contracts.ids import new_id, run_id
from postrider.contracts.topics import CAMPAIGN_DEFINITIONS, DELIVERY_EVENTS, USER_EVENTS
from postrider.health import Health
from postrider.kafka.clients import KafkaConfig, partition_for
from postrider.kafka.publisher import Publisher
from postrider.postgres.database import Database, open_database, service_url
from postrider.postgres.migrate import migrate
from postrider.postgres.outbox import Outbox, PublishFailed
from tests.support.campaign_api import Running, running
from tests.support.eventually import eventually
from tests.support.parts import create_database, drop_database, topic_prefix

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
async def api(kafka: str, database: str) -> AsyncIterator[Running]:
    url = await create_database(database)
    async with running(kafka, url, topic_prefix()) as api:
        yield api
    await drop_database(url)


@pytest.fixture
async def campaign(api: Running) -> str:
    """A draft of kind one_time, by a sandbox provider of its own."""
    provider = await api.client.post("/v1/providers", json={"name": "S", "kind": "sandbox", "settings": {}})
    body = {
        "name": "Sale",
        "kind": "one_time",
        "when": {"at": "now"},
        "who": {"rule": {"all": []}},
        "what": {"body": "Hello {{ Profile.city | default: '' }}", "provider_id": provider.json()["id"]},
    }
    answer = await api.client.post("/v1/campaigns", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def definitions(api: Running, campaign_id: str) -> list[dict[str, Any]]:
    records = await api.read_topic(CAMPAIGN_DEFINITIONS)
    return [json.loads(record.value) for record in records if record.key == campaign_id.encode()]


async def act(api: Running, campaign_id: str, action: str) -> dict[str, Any]:
    answer = await api.client.post(f"/v1/campaigns/{campaign_id}/{action}")
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


async def test_a_draft_is_nobodys_business_and_a_schedule_and_a_stop_are_in_the_log_before_their_answers(
    api: Running, campaign: str
) -> None:
    assert await definitions(api, campaign) == []
    await act(api, campaign, "schedule")
    (scheduled,) = await definitions(api, campaign)
    assert (scheduled["status"], scheduled["what_version"]) == ("scheduled", 1)
    assert scheduled["whats"]["1"]["references"]["profile"] == ["city"]
    await act(api, campaign, "stop")
    assert (await definitions(api, campaign))[-1]["status"] == "stopped"
    for action in ("stop", "schedule"):
        assert (await api.client.post(f"/v1/campaigns/{campaign}/{action}")).status_code == 409


async def test_a_draft_that_is_given_up_stays_nobodys_business(api: Running, campaign: str) -> None:
    stopped = await act(api, campaign, "stop")
    assert (stopped["status"], stopped["scheduled_at"]) == ("stopped", None)
    for action in ("stop", "schedule"):
        assert (await api.client.post(f"/v1/campaigns/{campaign}/{action}")).status_code == 409
    async with api.services.database.begin() as tx:
        await definition_outbox.request_differing(tx)
        assert not await definition_outbox.is_waiting(tx, campaign)
    assert await definitions(api, campaign) == []


async def test_a_scheduled_campaign_may_be_edited_and_keeps_every_text(api: Running, campaign: str) -> None:
    shown = await act(api, campaign, "schedule")
    path, any_version = f"/v1/campaigns/{campaign}", {"If-Match": "*"}
    edited = shown | {"what": shown["what"] | {"body": "New"}}
    answer = await api.client.put(path, json=edited, headers=any_version)
    assert answer.status_code == 200, answer.text
    last = (await definitions(api, campaign))[-1]
    assert last["what_version"] == 2
    assert {version: what["body"] for version, what in last["whats"].items()} == {
        "1": shown["what"]["body"],
        "2": "New",
    }
    moved = answer.json() | {"when": shown["when"] | {"at": "2030-01-01T09:00:00"}}
    answer = await api.client.put(path, json=moved, headers=any_version)
    assert answer.status_code == 200, answer.text
    last = (await definitions(api, campaign))[-1]
    assert (last["when"]["at"], last["what_version"]) == ("2030-01-01T09:00:00", 2)
    live = {"kind": "live_action", "when": {}, "who": {"trigger": {"event": "E"}}}
    refused = await api.client.put(path, json=answer.json() | live, headers=any_version)
    assert refused.status_code == 409
    assert [error["pointer"] for error in refused.json()["errors"]] == ["/kind"]


async def test_a_batch_is_in_the_log_before_its_answer_and_a_bad_item_fails_nothing_else(api: Running) -> None:
    items = [
        {"type": "track", "userId": "u1", "messageId": "m1", "event": "Bought", "properties": {"n": 1}},
        {"type": "track", "userId": "u1"},
        {"type": "page", "userId": "u1"},
        {"type": "identify", "userId": "u2", "context": {"traits": {"a": 1}}, "traits": {"b": 2}},
        {"type": "track", "anonymousId": "a", "event": "Seen"},
    ]
    body = gzip.compress(json.dumps({"batch": items, "historic": True, "writeKey": "x"}).encode())
    answer = await api.client.post(
        "/v1/batch", content=body, headers={"Content-Type": "application/x-www-form-urlencoded"}
    )
    assert answer.status_code == 200, answer.text
    result = answer.json()
    assert (result["accepted"], result["ignored"]) == (2, 2)
    assert result["errors"] == [{"pointer": "/batch/1/event", "message": "is required and must be text"}]
    records = {record.key.decode(): record for record in await api.read_topic(USER_EVENTS)}
    assert records["u1"].partition == partition_for(b"u1", USER_EVENTS.partitions)
    bought, identified = (json.loads(records[user].value) for user in ("u1", "u2"))
    assert (bought["messageId"], bought["properties"], bought["historic"]) == ("m1", {"n": 1}, True)
    assert identified["traits"] == {"a": 1, "b": 2}
    assert identified["messageId"]


Event = tuple[str, FunnelMoved | RunChanged]


async def publish(api: Running, *events: Event) -> None:
    """Delivery events as scheduler and dispatcher write them, under the ids given."""
    config = KafkaConfig(api.kafka, api.prefix)
    publisher = Publisher(config)
    outbox = Outbox(api.services.database, publisher, "test", api.prefix)
    try:
        await publisher.publish(
            [
                outbox.outgoing(
                    DELIVERY_EVENTS,
                    event.campaign_id,
                    FUNNEL_MOVED if isinstance(event, FunnelMoved) else RUN_CHANGED,
                    event,
                    id,
                )
                for id, event in events
            ]
        )
    finally:
        await publisher.stop()


async def report(api: Running, campaign_id: str) -> dict[str, Any]:
    answer = await api.client.get(f"/v1/campaigns/{campaign_id}/report")
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    funnel = shown["funnel"]
    accepted = sum(funnel[status] for status in ("awaiting_receipt", "sent", "delivered", "undelivered"))
    assert funnel["accepted"] == accepted
    others = sum(funnel.values()) - funnel["qualified"] - accepted
    assert funnel["qualified"] == others
    for group in ("by_provider", "by_run", "by_variant"):
        for name, n in funnel.items():
            assert n == sum(row[name] for row in shown[group]), (group, name)
    return shown


async def test_the_funnel_counts_each_move_once_and_the_campaign_follows_its_run(api: Running, campaign: str) -> None:
    await act(api, campaign, "schedule")
    run = run_id(campaign, "once")
    now = datetime.now(UTC)

    def changed(state: str, **more: Any) -> RunChanged:
        return RunChanged(campaign, run, "once", state, now, **more)

    def moved(n: int, start: str, end: str, **more: Any) -> FunnelMoved:
        return FunnelMoved(campaign, end, n, run, from_status=start, **more)

    first: list[Event] = [
        (f"{campaign}-1", changed("running", total=10, reachable=8)),
        (f"{campaign}-2", moved(10, "", "pending")),
        (f"{campaign}-3", moved(2, "pending", "unreachable", reason="no_phone")),
        (f"{campaign}-4", moved(8, "pending", "in_doubt", provider_id="prv_a")),
    ]
    await publish(api, *first, *first[1:])

    async def is_running() -> bool:
        return bool((await report(api, campaign))["funnel"]["in_doubt"] == 8)

    await eventually(is_running)
    assert (await api.client.get(f"/v1/campaigns/{campaign}")).json()["status"] == "running"
    second: list[Event] = [
        (f"{campaign}-5", moved(8, "in_doubt", "awaiting_receipt", from_provider_id="prv_a", provider_id="prv_a")),
        (f"{campaign}-6", moved(5, "awaiting_receipt", "delivered", from_provider_id="prv_a", provider_id="prv_a")),
        (f"{campaign}-7", changed("expanded")),
    ]
    await publish(api, *second, *first, *second)

    async def is_completed() -> bool:
        return bool((await api.client.get(f"/v1/campaigns/{campaign}")).json()["status"] == "completed")

    await eventually(is_completed)
    shown = await report(api, campaign)
    counts = {name: n for name, n in shown["funnel"].items() if n}
    assert counts == {"qualified": 10, "unreachable": 2, "accepted": 8, "awaiting_receipt": 3, "delivered": 5}
    assert shown["by_reason"] == [{"status": "unreachable", "reason": "no_phone", "n": 2}]
    (by_run,) = shown["by_run"]
    assert (by_run["state"], by_run["total"], by_run["reachable"]) == ("expanded", 10, 8)

    async def others_know() -> bool:
        return bool((await definitions(api, campaign))[-1]["status"] == "completed")

    await eventually(others_know)


async def test_the_funnel_adds_up_while_it_is_written(api: Running, campaign: str) -> None:
    await act(api, campaign, "schedule")
    run = run_id(campaign, "once")
    writing = asyncio.create_task(
        publish(
            api,
            *(
                (f"{campaign}-{n}-{half}", move)
                for n in range(600)
                for half, move in enumerate(
                    [
                        FunnelMoved(campaign, "pending", 1, run),
                        FunnelMoved(campaign, "delivered", 1, run, from_status="pending", provider_id="prv_a"),
                    ]
                )
            ),
        )
    )

    async def all_delivered() -> bool:
        funnel = (await report(api, campaign))["funnel"]
        assert funnel["pending"] >= 0
        return bool(funnel["delivered"] == 600)

    await eventually(all_delivered)
    await writing


class Broker:
    """A publisher whose acknowledgements can be withheld."""

    def __init__(self) -> None:
        self.away = False
        self.published: list[dict[str, Any]] = []

    async def start(self) -> None:
        """Connected from the beginning."""

    async def publish(self, records: Sequence[Outgoing]) -> None:
        if self.away:
            raise PublishFailed("away")
        self.published += [json.loads(record.value or b"") for record in records]


@pytest.fixture
async def own_database(fresh_database: Callable[[], Awaitable[str]]) -> AsyncIterator[Database]:
    url = await fresh_database()
    await migrate(url, SERVICE, "campaign_api")
    database = open_database(service_url(url, SERVICE), SCHEMA)
    yield database
    await database.close()


async def test_what_the_broker_did_not_take_is_published_later_and_as_it_is_then(own_database: Database) -> None:
    broker, stop = Broker(), asyncio.Event()
    outbox = Outbox(own_database, broker, SERVICE, "x.")
    publisher = DefinitionPublisher(own_database, broker, outbox, Health().check("definitions"))
    id = new_id("segment")
    running_publisher = asyncio.create_task(publisher.run(stop))
    try:
        broker.away = True
        async with own_database.begin() as tx:
            saved = await resources.insert(tx, id, "segment", "active", {"name": "v1", "rule": {"all": []}}, {})
            await request(tx, [id])
        with pytest.raises(NotPublished):
            await publisher.published([id])
        async with own_database.begin() as tx:
            await resources.update(tx, replace(saved, body={"name": "v2", "rule": {"all": []}}))
            await request(tx, [id])
        broker.away = False
        await eventually(lambda: bool(broker.published))
        assert [(row["version"], row["name"]) for row in broker.published] == [(2, "v2")]
        await publisher.published([id])
        async with own_database.begin() as tx:
            (row,) = (
                await tx.execute(text("SELECT settled, again_at > db_now() AS later FROM definition_outbox"))
            ).all()
        assert (row.settled, row.later) == (True, True), "what ended in doubt is published once more"
        async with own_database.begin() as tx:
            await tx.execute(text("UPDATE definition_outbox SET again_at = db_now()"))
        await eventually(lambda: len(broker.published) == 2)
    finally:
        stop.set()
        await running_publisher


async def test_before_the_first_start_has_made_the_settings_they_are_not_ready(own_database: Database) -> None:
    async with own_database.begin() as tx:
        with pytest.raises(NotReady):
            await resources.get_settings(tx)


async def test_the_sweep_finds_what_no_row_asks_for(own_database: Database) -> None:
    broker = Broker()
    outbox = Outbox(own_database, broker, SERVICE, "x.")
    publisher = DefinitionPublisher(own_database, broker, outbox, Health().check("definitions"))
    async with own_database.begin() as tx:
        await resources.insert(tx, new_id("segment"), "segment", "active", {"name": "lost", "rule": {"all": []}}, {})
    stop = asyncio.Event()
    running_publisher = asyncio.create_task(publisher.run(stop))
    await eventually(lambda: [row["name"] for row in broker.published] == ["lost"])
    stop.set()
    await running_publisher
