"""Bad records on compacted topics: no reader dies of them or forgets what was good, and the good one comes back to the
log, so that compaction does not leave the bad one alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgspec
import pytest

from postrider.clock import SystemClock
from postrider.contracts import codec
from postrider.contracts.definitions import (
    CAMPAIGN_TYPE,
    GROUP_TYPE,
    PROVIDER_TYPE,
    SETTINGS_TYPE,
    AccountSettings,
    CampaignDefinition,
    ProviderGroupDefinition,
    What,
    When,
    Who,
)
from postrider.contracts.envelope import Outgoing, headers_of
from postrider.contracts.topics import (
    ACCOUNT_SETTINGS,
    CAMPAIGN_DEFINITIONS,
    PROVIDER_DEFINITIONS,
    SEGMENT_DEFINITIONS,
    Topic,
)
from postrider.kafka.clients import KafkaConfig
from postrider.kafka.definitions import DefinitionsReader
from postrider.kafka.publisher import Publisher
from postrider.kafka.topics import create_topics
from tests.support.campaign_api import running
from tests.support.eventually import eventually
from tests.support.parts import create_database, drop_database

pytestmark = pytest.mark.integration

TOPICS = [CAMPAIGN_DEFINITIONS, SEGMENT_DEFINITIONS, PROVIDER_DEFINITIONS, ACCOUNT_SETTINGS]
GOOD = CampaignDefinition(
    "cmp_1", 3, "running", "live_action", "n", "promotional", When(), Who(), 1, {"1": What("Hi")}
)  # fmt: skip
SETTINGS = AccountSettings(2, "Europe/Paris")


@pytest.fixture
async def config(kafka: str, topic_prefix: str) -> KafkaConfig:
    config = KafkaConfig(kafka, topic_prefix + ".")
    await create_topics(config)
    return config


@asynccontextmanager
async def publishing(config: KafkaConfig) -> AsyncIterator[Publisher]:
    publisher = Publisher(config)
    await publisher.start()
    yield publisher
    await publisher.stop()


def record(config: KafkaConfig, topic: Topic, key: str | None, value: bytes | None, type: str = "") -> Outgoing:
    headers = headers_of("x", type, "stranger", SystemClock().now()) if type else ()
    return Outgoing(topic.full_name(config.topic_prefix), None if key is None else key.encode(), value, headers)


def changed(definition: msgspec.Struct, **changes: Any) -> bytes:
    return json.dumps(msgspec.to_builtins(definition) | changes).encode()


async def test_a_reader_keeps_what_was_good_and_goes_on(config: KafkaConfig) -> None:
    campaign = (CAMPAIGN_DEFINITIONS, "cmp_1")
    group = ProviderGroupDefinition("cmp_1", 9, "not a campaign", ["prv_1"])
    poison = [
        record(config, *campaign, None),
        record(config, *campaign, b"\xff not JSON", CAMPAIGN_TYPE),
        record(config, *campaign, b"[" * 10_000 + b"]" * 10_000, CAMPAIGN_TYPE),
        record(config, *campaign, changed(GOOD, version=9, status="stopped"), "campaign.redefined"),
        record(config, *campaign, changed(GOOD, version=9, status="stopped")),
        record(config, *campaign, changed(GOOD, version=9, whats={}), CAMPAIGN_TYPE),
        record(config, *campaign, changed(GOOD, version=2**70), CAMPAIGN_TYPE),
        record(config, *campaign, changed(GOOD, version=2, status="stopped"), CAMPAIGN_TYPE),
        record(config, *campaign, changed(GOOD, version=9, scheduled_at="2026-01-01T00:00:00"), CAMPAIGN_TYPE),
        record(config, CAMPAIGN_DEFINITIONS, "cmp_2", changed(GOOD, version=9, status="stopped"), CAMPAIGN_TYPE),
        record(config, CAMPAIGN_DEFINITIONS, "\x00", changed(GOOD, campaign_id="\x00"), CAMPAIGN_TYPE),
        record(config, SEGMENT_DEFINITIONS, "cmp_1", changed(GOOD, version=9, status="stopped"), CAMPAIGN_TYPE),
        record(config, SEGMENT_DEFINITIONS, "cmp_1", None),
        record(config, PROVIDER_DEFINITIONS, "cmp_1", b"{}", PROVIDER_TYPE),
        record(config, PROVIDER_DEFINITIONS, "cmp_1", codec.encode(group), GROUP_TYPE),
        record(config, ACCOUNT_SETTINGS, "account", changed(SETTINGS, version=9, account_time_zone="Mars/Phobos"),
               SETTINGS_TYPE),
        record(config, ACCOUNT_SETTINGS, "other", changed(SETTINGS, version=9, require_consent=True), SETTINGS_TYPE),
        record(config, ACCOUNT_SETTINGS, "account", None),
    ]  # fmt: skip
    heard: list[str] = []
    reader = DefinitionsReader(config, TOPICS, on_unreadable=heard.append)
    stop = asyncio.Event()
    async with publishing(config) as publisher:
        await publisher.publish(
            [
                record(config, *campaign, codec.encode(GOOD), CAMPAIGN_TYPE),
                record(config, ACCOUNT_SETTINGS, "account", codec.encode(SETTINGS), SETTINGS_TYPE),
                *poison,
            ]
        )
        reading = asyncio.create_task(reader.run(stop))
        await asyncio.wait_for(reader.wait_until_read(), 20)
        assert reader.campaigns == {"cmp_1": GOOD}
        assert reader.settings == SETTINGS
        assert reader.groups == {"cmp_1": group}
        assert {"cmp_1", "cmp_2", "account", "other"} <= set(heard)

        await publisher.publish([record(config, *campaign, changed(GOOD, version=4, status="paused"), CAMPAIGN_TYPE)])
        await asyncio.wait_for(reader.wait_until_confirmed(), 10)
        assert reader.campaigns["cmp_1"].status == "paused"
        assert not reading.done()
    stop.set()
    await asyncio.wait_for(reading, 15)


async def test_what_a_stranger_wrote_over_is_published_again(kafka: str, database: str, topic_prefix: str) -> None:
    url = await create_database(database)
    config = KafkaConfig(kafka, topic_prefix + ".")
    async with running(kafka, url, topic_prefix) as api:
        created = await api.client.post("/v1/providers", json={"name": "S", "kind": "sandbox", "settings": {}})
        provider_id = str(created.json()["id"])

        async def last(topic: Topic, key: str) -> bytes | None:
            records = await api.read_topic(topic)
            values: list[bytes | None] = [record.value for record in records if record.key == key.encode()]
            assert values
            return values[-1]

        good = {
            where: await eventually(partial(last, *where))
            for where in ((PROVIDER_DEFINITIONS, provider_id), (ACCOUNT_SETTINGS, "account"))
        }
        for value in (None, b"garbage"):
            async with publishing(config) as publisher:
                await publisher.publish(
                    [
                        *(record(config, topic, key, value) for topic, key in good),
                        record(config, PROVIDER_DEFINITIONS, "nobody's", value),
                        record(config, PROVIDER_DEFINITIONS, "\x00", value),
                        record(config, PROVIDER_DEFINITIONS, "x" * 100_000, value),
                    ]
                )

            async def is_back() -> bool:
                return all([await last(*where) == was for where, was in good.items()])

            await eventually(is_back, 30)
        assert (await api.client.get(f"/v1/providers/{provider_id}")).status_code == 200
    await drop_database(url)


async def test_a_strangers_version_is_outrun(kafka: str, database: str, topic_prefix: str) -> None:
    """Else every change, a stop too, would be older than what everybody has."""
    url = await create_database(database)
    config = KafkaConfig(kafka, topic_prefix + ".")
    async with running(kafka, url, topic_prefix) as api:
        created = await api.client.post("/v1/providers", json={"name": "S", "kind": "sandbox", "settings": {}})
        provider_id = str(created.json()["id"])
        reader = DefinitionsReader(config, TOPICS)
        stop = asyncio.Event()
        reading = asyncio.create_task(reader.run(stop))
        await asyncio.wait_for(reader.wait_until_read(), 20)
        good = reader.providers[provider_id]
        forged = changed(good, version=77, status="archived", name="mine now")
        async with publishing(config) as publisher:
            await publisher.publish([record(config, PROVIDER_DEFINITIONS, provider_id, forged, PROVIDER_TYPE)])
        await eventually(lambda: reader.providers[provider_id].version == 78, 30)
        assert reader.providers[provider_id] == msgspec.structs.replace(good, version=78)
        answer = await api.client.get(f"/v1/providers/{provider_id}")
        assert (answer.json()["version"], answer.headers["etag"]) == (78, '"78"')
        stop.set()
        await asyncio.wait_for(reading, 15)
    await drop_database(url)
