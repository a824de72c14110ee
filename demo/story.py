"""The story, scene by scene, over HTTP and Kafka alone; each scene prints what it shows and checks what it claims.

A scene that finds something other than promised raises `StoryFailed`, and the demonstration exits with 1.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import msgspec

from demo import people
from postrider.contracts.envelope import Outgoing
from postrider.contracts.topics import USER_EVENTS
from postrider.kafka.clients import KafkaConfig
from postrider.kafka.publisher import Publisher
from postrider.local.client import ApiClient

BATCH = 1000
SECONDS_AHEAD = 12
LOYAL_RULE: dict[str, Any] = {
    "all": [
        {
            "did": {
                "event": "Purchase",
                "count": {"op": "gte", "value": 2},
                "aggregate": {"property": "price", "fn": "sum", "op": "gt", "value": 100},
            }
        }
    ]
}
LOYAL_BODY = 'Hi {{ Profile.first_name | default: "there" }}, 20% off your next order today. Reply STOP to opt out.'
LIVE_BODY = "Thank you! Your order over ${{ Event.price }} ships tomorrow."


class StoryFailed(Exception):
    """What was promised is not what happened."""


def expect(holds: bool, promise: str) -> None:
    if not holds:
        raise StoryFailed(promise)


@dataclass
class Stage:
    """Where the story plays. `dispatcher_url` and `service_token` are for the sandbox's "phone" that answers."""

    api: ApiClient
    kafka_servers: str
    dispatcher_url: str
    service_token: str
    say: Callable[[str], None]
    started: float = field(default_factory=time.monotonic)

    def scene(self, title: str) -> None:
        self.say(f"\n── {title}  ({time.monotonic() - self.started:.0f} s)")


async def play(stage: Stage) -> None:
    """All scenes. Raises StoryFailed."""
    rows = people.purchases()
    expected = people.who_bought_twice_for_more_than(100, rows)
    providers = await set_the_stage(stage)
    await bring_in_history(stage, rows)
    campaign = await text_the_loyal(stage, expected)
    live = await thank_for_purchases(stage)
    await one_says_stop(stage, live)
    await show(stage, campaign, live, providers)


async def set_the_stage(stage: Stage) -> dict[str, str]:
    stage.scene("Two providers: A refuses every text with a definite error, B delivers; a group with A first")
    api = stage.api
    await api.settings(account_time_zone="America/New_York", default_country="US")
    names: dict[str, str] = {}
    for name, settings in (
        ("A", {"outcome": "rejected_provider"}),
        ("B", {"outcome": "accept", "receipt": "delivered"}),
    ):
        provider = await api.post("/v1/providers", {"name": name, "kind": "sandbox", "settings": settings})
        names[provider["id"]] = name
        stage.say(f"provider {name}: {provider['id']}  {settings}")
    group = await api.post(
        "/v1/provider-groups", {"name": "Everybody", "provider_ids": list(names), "is_default": True}
    )
    stage.say(f"group: {group['id']}")
    return names


async def bring_in_history(stage: Stage, rows: list[people.Purchase]) -> None:
    customers = sorted({row.customer for row in rows})
    stage.scene(f"History: {len(rows):,} purchases of {len(customers):,} people, half over HTTP, half through Kafka")
    messages = [people.identify(customer) for customer in customers] + [people.track(row) for row in rows]
    over_http, through_kafka = messages[::2], messages[1::2]
    began = time.monotonic()
    await asyncio.gather(_over_http(stage, over_http), _through_kafka(stage, through_kafka))
    seconds = time.monotonic() - began
    stage.say(f"accepted: {len(messages):,} messages in {seconds:.1f} s; the last ones again, as a client that retries")
    await stage.api.batch(over_http[-BATCH:], historic=True)


async def _over_http(stage: Stage, messages: list[dict[str, Any]]) -> None:
    for batch in people.batches(messages, BATCH):
        await stage.api.batch(batch, historic=True)


async def _through_kafka(stage: Stage, messages: list[dict[str, Any]]) -> None:
    publisher = Publisher(KafkaConfig(stage.kafka_servers, client_id="demo"))
    await publisher.start()
    try:
        for batch in people.batches(messages, 5 * BATCH):
            await publisher.publish([_record({**message, "historic": True}) for message in batch])
    finally:
        await publisher.stop()


def _record(message: dict[str, Any]) -> Outgoing:
    return Outgoing(USER_EVENTS.full_name(), message["userId"].encode(), msgspec.json.encode(message))


async def text_the_loyal(stage: Stage, expected: set[str]) -> str:
    stage.scene('A campaign to everybody with ≥ 2 purchases and more than 100 dollars in all, at "9 o\'clock" locally')
    api = stage.api
    segment = await api.post("/v1/segments", {"name": "Loyal", "rule": LOYAL_RULE})
    estimate = await api.post("/v1/segments/estimate", {"rule": LOYAL_RULE})
    stage.say(f"estimate: {estimate['qualified']:,} qualify, {estimate['reachable']:,} can be reached by SMS")
    stage.say(f"a plain program over the file: {len(expected):,}")
    expect(estimate["qualified"] == len(expected), "the estimate is what a plain program over the file finds")
    at = (datetime.now(ZoneInfo(people.WESTERNMOST)) + timedelta(seconds=SECONDS_AHEAD)).replace(microsecond=0)
    campaign = await api.post(
        "/v1/campaigns",
        {
            "name": "Loyal customers",
            "kind": "one_time",
            "message_class": "transactional",
            "when": {"at": at.strftime("%Y-%m-%dT%H:%M:%S"), "time_zone": "user", "passed_zone": "send_now"},
            "who": {"segment_id": segment["id"]},
            "what": {"body": LOYAL_BODY},
        },
    )
    await api.post(f"/v1/campaigns/{campaign['id']}/schedule")
    stage.say(
        f"scheduled for {at:%H:%M:%S} in each person's zone: now for the zones where that has passed, "
        f"in {SECONDS_AHEAD} s for {people.WESTERNMOST}"
    )
    await _progress(stage, campaign["id"])
    messages = await api.items(f"/v1/campaigns/{campaign['id']}/messages")
    expect({message["user_id"] for message in messages} == expected, "the message log names exactly those people")
    return str(campaign["id"])


async def _progress(stage: Stage, campaign_id: str, patience_seconds: float = 240) -> None:
    deadline = time.monotonic() + patience_seconds
    shown = ""
    while True:
        campaign = await stage.api.get(f"/v1/campaigns/{campaign_id}")
        funnel = (await stage.api.get(f"/v1/campaigns/{campaign_id}/report"))["funnel"]
        line = f"{campaign['status']}: qualified {funnel['qualified']:,}, pending {funnel['pending']:,}"
        line += f", accepted {funnel['accepted']:,}"
        if line != shown:
            stage.say(line)
            shown = line
        if campaign["status"] == "completed":
            return
        expect(time.monotonic() < deadline, f"the campaign completes within {patience_seconds:.0f} s ({shown})")
        await asyncio.sleep(1)


async def thank_for_purchases(stage: Stage) -> str:
    stage.scene("A live campaign: whoever buys for more than 50 dollars is thanked at once")
    api = stage.api
    campaign = await api.post(
        "/v1/campaigns",
        {
            "name": "Thank you",
            "kind": "live_action",
            "message_class": "transactional",
            "when": {},
            "who": {
                "trigger": {"event": "Purchase", "where": [{"property": "price", "op": "gt", "value": 50}]},
            },
            "what": {"body": LIVE_BODY},
        },
    )
    await api.post(f"/v1/campaigns/{campaign['id']}/schedule")
    await _buy(stage, [(1, 75.5), (2, 12.0), (3, 50.0), (4, 50.01)], "first")
    await _until_accepted(stage, campaign["id"], 2)
    await _buy(stage, [(1, 75.5), (4, 50.01)], "first")  # the same events again: same messageIds
    await _inbox_has(stage, campaign["id"], 2)
    stage.say("four bought, two of them for more than 50 dollars; the events came twice, the texts did not")
    return str(campaign["id"])


async def _buy(stage: Stage, purchases: list[tuple[int, float]], when: str) -> None:
    messages = [
        {
            "type": "track",
            "messageId": f"live-{when}-{customer}",
            "userId": people.user_id(customer),
            "event": "Purchase",
            "properties": {"price": price, "quantity": 1},
        }
        for customer, price in purchases
    ]
    await stage.api.batch(messages)


async def _until_accepted(stage: Stage, campaign_id: str, count: int) -> None:
    for _ in range(300):
        funnel = (await stage.api.get(f"/v1/campaigns/{campaign_id}/report"))["funnel"]
        if funnel["accepted"] >= count and funnel["pending"] == 0:
            return
        await asyncio.sleep(0.1)
    raise StoryFailed(f"{count} live texts within 30 s")


async def _inbox_has(stage: Stage, campaign_id: str, count: int) -> list[dict[str, Any]]:
    texts = [text for text in await _inbox(stage) if text["campaign_id"] == campaign_id]
    expect(len(texts) == count, f"{count} texts of the live campaign on phones, not {len(texts)}")
    return texts


async def _inbox(stage: Stage, **filters: Any) -> list[dict[str, Any]]:
    return await stage.api.items("/v1/sandbox/inbox", **filters)


async def one_says_stop(stage: Stage, live: str) -> None:
    stage.scene("A person answers STOP, and then buys again")
    number = people.phone(1)
    (text,) = [text for text in await _inbox(stage, phone=number) if text["campaign_id"] == live]
    async with httpx.AsyncClient(base_url=stage.dispatcher_url, trust_env=False) as phone:
        answer = await phone.post(
            "/internal/sandbox/reply",
            json={"from": number, "provider_id": text["provider_id"], "body": "STOP"},
            headers={"Authorization": f"Bearer {stage.service_token}"},
        )
    expect(answer.status_code < 300, f"the reply is taken ({answer.status_code} {answer.text[:200]})")
    await _buy(stage, [(1, 80.0), (5, 90.0)], "second")
    await _until_accepted(stage, live, 3)
    for _ in range(100):
        funnel = (await stage.api.get(f"/v1/campaigns/{live}/report"))["funnel"]
        if funnel["suppressed"]:
            break
        await asyncio.sleep(0.1)
    expect(funnel["suppressed"] == 1, "the person who said STOP is recorded as suppressed")
    texts = [text for text in await _inbox(stage, phone=number) if text["campaign_id"] == live]
    expect(len(texts) == 1, "no text after STOP")
    stage.say("suppressed: their next purchase is counted, and not answered")


async def show(stage: Stage, campaign: str, live: str, providers: dict[str, str]) -> None:
    stage.scene("Texts as the phones got them")
    api = stage.api
    inbox = await _inbox(stage)
    for id, count in ((campaign, 5), (live, 3)):
        for text in [text for text in inbox if text["campaign_id"] == id][:count]:
            stage.say(f"  {text['to']}  [{text['parts']} part]  {text['body']}")
    messages = await api.items(f"/v1/campaigns/{campaign}/messages")
    stage.scene("Failover")
    tried = next(message for message in messages if len(message["attempts"]) > 1)
    for attempt in tried["attempts"]:
        stage.say(f"  attempt {attempt['attempt']}: provider {providers[attempt['provider_id']]}: {attempt['outcome']}")
    report = await api.get(f"/v1/campaigns/{campaign}/report")
    by_provider = {entry["provider_id"]: entry for entry in report["by_provider"]}
    accepted = {providers[id]: entry["accepted"] for id, entry in by_provider.items() if id in providers}
    stage.say(f"  accepted by provider: {accepted}")
    stage.scene("Not sent, and why")
    reasons: dict[tuple[str, str], list[str]] = {}
    for message in messages:
        if message["status"] not in ("awaiting_receipt", "sent", "delivered", "undelivered"):
            reasons.setdefault((message["status"], message["reason"]), []).append(message["user_id"])
    for (status, reason), users in sorted(reasons.items()):
        stage.say(f"  {status} ({reason}): {len(users)}, for example {users[0]}")
    stage.scene("The funnel adds up")
    for id in (campaign, live):
        funnel = (await api.get(f"/v1/campaigns/{id}/report"))["funnel"]
        parts = {name: n for name, n in funnel.items() if n and name != "qualified"}
        stage.say("  " + ", ".join(f"{name} {n:,}" for name, n in {"qualified": funnel["qualified"], **parts}.items()))
        expect(adds_up(funnel), f"the funnel adds up: {funnel}")
    sent = [text for text in inbox if text["campaign_id"] == campaign]
    expect(len({text["user_id"] for text in sent}) == len(sent), "nobody was texted twice")
    expect(len(sent) == report["funnel"]["accepted"], "every accepted text is on a phone, and no other")


def adds_up(funnel: dict[str, int]) -> bool:
    """qualified is the sum of all that can have become of a person, accepted of all that can have become of a text."""
    accepted = sum(funnel[name] for name in ("awaiting_receipt", "sent", "delivered", "undelivered"))
    rest = (
        "pending", "in_doubt", "unknown", "control", "not_in_reach", "limited", "capped", "quiet_hours", "unreachable",
        "duplicate_phone", "suppressed", "aborted", "personalisation_failed", "rejected", "expired", "cancelled",
    )  # fmt: skip
    return funnel["accepted"] == accepted and funnel["qualified"] == accepted + sum(funnel[name] for name in rest)
