"""Campaigns end to end: all four services as processes, spoken to by HTTP and Kafka alone."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import uuid
from typing import Any

import httpx
import pytest

from demo.story import adds_up
from postrider.contracts.envelope import Outgoing
from postrider.contracts.topics import USER_EVENTS
from postrider.kafka.clients import KafkaConfig
from postrider.kafka.publisher import Publisher
from postrider.local.client import ApiClient
from postrider.local.services import DISPATCHER, SERVICES
from postrider.local.suite import Suite
from tests.support.eventually import eventually

pytestmark = pytest.mark.e2e


def new() -> str:
    return uuid.uuid4().hex[:10]


async def sandbox_group(api: ApiClient, *settings: dict[str, Any]) -> tuple[str, list[str]]:
    """A group of sandbox providers with these settings, by priority."""
    providers = [
        (await api.post("/v1/providers", {"name": f"p-{new()}", "kind": "sandbox", "settings": each}))["id"]
        for each in settings
    ]
    group = await api.post("/v1/provider-groups", {"name": f"g-{new()}", "provider_ids": providers})
    return group["id"], providers


def live(group: str, event: str, body: str = "Thanks for {{ Event.amount }}", **more: Any) -> dict[str, Any]:
    return {
        "name": f"c-{new()}", "kind": "live_action", "message_class": "transactional", "when": {},
        "who": {"trigger": {"event": event}}, "what": {"body": body, "provider_group_id": group}, **more,
    }  # fmt: skip


def one_time(group: str, rule: dict[str, Any], body: str, **when: Any) -> dict[str, Any]:
    return {
        "name": f"c-{new()}", "kind": "one_time", "message_class": "transactional",
        "when": {"at": "now", "time_zone": "account", **when},
        "who": {"rule": rule}, "what": {"body": body, "provider_group_id": group},
    }  # fmt: skip


def person(user: str, number: int, **traits: Any) -> dict[str, Any]:
    traits = {"phone": f"+1202555{number:04}", **traits}
    return {"type": "identify", "userId": user, "messageId": new(), "traits": traits}


def did(user: str, event: str, message: str | None = None, **properties: Any) -> dict[str, Any]:
    return {"type": "track", "userId": user, "messageId": message or new(), "event": event, "properties": properties}


async def scheduled(api: ApiClient, campaign: dict[str, Any]) -> str:
    created = await api.post("/v1/campaigns", campaign)
    await api.post(f"/v1/campaigns/{created['id']}/schedule")
    return str(created["id"])


async def funnel(api: ApiClient, campaign: str) -> dict[str, int]:
    counts: dict[str, int] = (await api.get(f"/v1/campaigns/{campaign}/report"))["funnel"]
    assert adds_up(counts), counts
    return counts


async def inbox(api: ApiClient, campaign: str) -> list[dict[str, Any]]:
    return [text for text in await api.items("/v1/sandbox/inbox") if text["campaign_id"] == campaign]


async def test_a_live_event_becomes_one_text_however_often_it_comes(api: ApiClient) -> None:
    group, _ = await sandbox_group(api, {"receipt": "delivered"})
    event = f"E-{new()}"
    campaign = await scheduled(api, live(group, event))
    user, message = new(), new()
    await api.batch([person(user, 1), did(user, event, message, amount=59.9)])
    for _ in range(3):
        await api.batch([did(user, event, message, amount=59.9)])

    async def delivered() -> bool:
        return (await funnel(api, campaign))["delivered"] == 1

    await eventually(delivered, 30)
    await asyncio.sleep(1)
    (text,) = await inbox(api, campaign)
    assert text["body"] == "Thanks for 59.9"
    assert text["to"] == "+12025550001"
    assert (await funnel(api, campaign))["qualified"] == 1


async def test_failover_on_a_definite_rejection_and_the_log_tells_it(api: ApiClient) -> None:
    group, (refusing, accepting) = await sandbox_group(api, {"outcome": "rejected_provider"}, {"outcome": "accept"})
    event = f"E-{new()}"
    campaign = await scheduled(api, live(group, event))
    user = new()
    await api.batch([person(user, 2), did(user, event, amount=1)])

    async def logged() -> list[dict[str, Any]]:
        log = await api.items(f"/v1/campaigns/{campaign}/messages")
        return [row for row in log if row["status"] == "awaiting_receipt" or row["status"] == "delivered"]

    (row,) = await eventually(logged, 30)
    tries = [(refusing, "rejected_provider"), (accepting, "accepted")]
    assert [(attempt["provider_id"], attempt["outcome"]) for attempt in row["attempts"]] == tries
    assert all(attempt["started_at"] and attempt["ended_at"] for attempt in row["attempts"])

    # Tried by hand, it goes the same way, to whoever is named, and the report knows nothing of it.
    before = await funnel(api, campaign)
    values = {"to": "+12025550199", "user_id": user, "event": {"amount": 7}}
    tried = await api.post(f"/v1/campaigns/{campaign}/test-send", values)
    assert tried["body"] == "Thanks for 7" and tried["status"] in ("awaiting_receipt", "delivered")
    assert [(attempt["provider_id"], attempt["outcome"]) for attempt in tried["attempts"]] == tries
    verified = await api.post(f"/v1/providers/{accepting}/verify", {})
    assert verified["ok"] is True and verified["checked"] is True

    async def marked() -> bool:
        log = await api.items(f"/v1/campaigns/{campaign}/messages")
        assert {each["id"]: (each["test"], each["status"]) for each in log} == {
            row["id"]: (False, "delivered"), tried["id"]: (True, "delivered"),
        }  # fmt: skip
        return True

    await eventually(marked, 30)
    assert (await funnel(api, campaign))["qualified"] == before["qualified"] == 1
    text = next(text for text in await api.items("/v1/sandbox/inbox") if text["to"] == values["to"])
    assert (text["body"], text["campaign_id"]) == ("Thanks for 7", campaign)


async def test_a_scheduled_run_accounts_for_everybody(api: ApiClient) -> None:
    group, _ = await sandbox_group(api, {"receipt": "none"})
    event, tag = f"E-{new()}", new()
    people = [person(f"{tag}-{n}", 100 + n, first_name=f"N{n}") for n in range(1, 41)]
    people.append(person(f"{tag}-50", 101, first_name="Twin"))  # the phone of number 1
    people.append(person(f"{tag}-51", 151, first_name="No", sms_consent=False))
    people.append(person(f"{tag}-52", 152, phone=None, first_name="Nophone"))
    people.append(person(f"{tag}-53", 153))  # no name: the body has no default
    await api.batch(people)
    await api.batch([did(each["userId"], event, amount=10) for each in people], historic=True)
    rule = {"all": [{"did": {"event": event, "count": {"op": "gte", "value": 1}}}]}
    estimate = await api.post("/v1/segments/estimate", {"rule": rule})
    assert (estimate["qualified"], estimate["reachable"]) == (44, 41)
    campaign = await scheduled(api, one_time(group, rule, "Hi {{ Profile.first_name }}"))
    await api.until_campaign(campaign, 60, "completed")
    counts = await funnel(api, campaign)
    assert {name: n for name, n in counts.items() if n} == {
        "qualified": 44, "accepted": 40, "awaiting_receipt": 40, "unreachable": 2, "duplicate_phone": 1,
        "personalisation_failed": 1,
    }  # fmt: skip

    async def whole_log() -> list[dict[str, Any]]:
        log = await api.items(f"/v1/campaigns/{campaign}/messages", limit=10)
        return log if len(log) == 44 and not [row for row in log if row["status"] == "pending"] else []

    log = await eventually(whole_log, 20)
    by_user = {row["user_id"]: row for row in log}
    assert len(by_user) == 44
    assert by_user[f"{tag}-50"]["status"] == "duplicate_phone"
    assert sorted(text["body"] for text in await inbox(api, campaign)) == sorted(f"Hi N{n}" for n in range(1, 41))


async def test_stop_by_text_suppresses_at_once(api: ApiClient, suite: Suite, service_token: str) -> None:
    group, (provider,) = await sandbox_group(api, {})
    event, user = f"E-{new()}", new()
    campaign = await scheduled(api, live(group, event, "Hi"))
    await api.batch([person(user, 4000), did(user, event)])

    async def got() -> bool:
        return len(await inbox(api, campaign)) == 1

    await eventually(got, 30)
    async with httpx.AsyncClient(base_url=suite.url(DISPATCHER), trust_env=False) as phone:
        answer = await phone.post(
            "/internal/sandbox/reply",
            json={"from": "+12025554000", "provider_id": provider, "body": " stop "},
            headers={"Authorization": f"Bearer {service_token}"},
        )
    assert answer.status_code < 300, answer.text
    await api.batch([did(user, event)])

    async def suppressed() -> bool:
        return (await funnel(api, campaign))["suppressed"] == 1

    await eventually(suppressed, 30)
    assert len(await inbox(api, campaign)) == 1


async def test_a_record_nobody_can_read_does_not_stop_the_next(api: ApiClient, suite: Suite) -> None:
    group, _ = await sandbox_group(api, {})
    event, user = f"E-{new()}", new()
    campaign = await scheduled(api, live(group, event, "Hi"))
    assert suite.addresses is not None
    publisher = Publisher(KafkaConfig(suite.addresses.bootstrap_servers))
    good = [person(user, 4001), did(user, event)]
    poison: list[bytes | None] = [
        b"not json", None, b"\xff\xfe", b'{"type":"track"}', b"[" * 5000,
        json.dumps({"type": "track", "userId": user, "event": event, "properties": {"a": "x" * 600}}).encode(),
        b'{"type":"track","userId":"u","event":"E","properties":{"a":1e400}}',
    ]  # fmt: skip
    values = [*poison, *(json.dumps(message).encode() for message in good)]
    try:
        await publisher.publish([Outgoing(USER_EVENTS.full_name(), user.encode(), value) for value in values])
    finally:
        await publisher.stop()

    async def got() -> bool:
        return len(await inbox(api, campaign)) == 1

    await eventually(got, 30)


async def test_every_service_answers_its_probes(suite: Suite) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        for service in SERVICES:
            for path in ("/livez", "/readyz", "/metrics"):
                answer = await client.get(suite.url(service) + path)
                assert answer.status_code == 200, (service.name, path, answer.text)


async def test_logs_carry_no_phone_and_no_text(api: ApiClient, suite: Suite) -> None:
    group, _ = await sandbox_group(api, {"outcome": "rejected_content"}, {})
    event, user = f"E-{new()}", new()
    campaign = await scheduled(api, live(group, event, "Secretword {{ Profile.first_name }}"))
    await api.batch([person(user, 4777, first_name="Zebulon"), did(user, event)])

    async def over() -> bool:
        counts = await funnel(api, campaign)
        return counts["qualified"] == 1 and counts["pending"] == 0

    await eventually(over, 30)
    for log in suite.home.logs.glob("*.log"):
        content = log.read_text(errors="replace")
        for secret in ("2025554777", "Zebulon", "Secretword"):
            assert secret not in content, f"{secret} is in {log.name}"


async def test_z_a_service_that_is_told_to_stop_drains_and_is_started_again(api: ApiClient, suite: Suite) -> None:
    for service in SERVICES:
        pid = suite.pids()[service.name]
        os.kill(pid, signal.SIGTERM)

        def replaced(name: str = service.name, old: int = pid) -> bool:
            return suite.pids().get(name, old) != old

        await eventually(replaced, 60)
    await suite.until_ready()
    group, _ = await sandbox_group(api, {})
    event, user = f"E-{new()}", new()
    campaign = await scheduled(api, live(group, event, "Hi again"))
    await api.batch([person(user, 4002), did(user, event)])

    async def got() -> bool:
        return len(await inbox(api, campaign)) == 1

    await eventually(got, 30)
