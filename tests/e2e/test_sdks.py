"""What existing systems send with, as its makers publish it: SDKs, with nothing but host and key changed, and producers
of librdkafka.

Python's run in an environment of their own (`make setup-sdks`), Node's and kcat only in `make sdk-node`.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest

from postrider.contracts.topics import USER_EVENTS
from postrider.local.client import ApiClient
from postrider.local.home import workspace
from postrider.local.services import CAMPAIGN_API
from postrider.local.suite import Suite
from tests.standins.flaky_proxy import FlakyProxy
from tests.support.eventually import eventually

pytestmark = pytest.mark.e2e

EVENTS = 250
"""More than one batch of either SDK."""

SEGMENT = """
import sys
import segment.analytics as analytics
host, key, user, gzip = sys.argv[1:]
failed = []
analytics.host, analytics.write_key, analytics.gzip = host, key, gzip == "gzip"
analytics.on_error = lambda error, items: failed.append(error)
analytics.identify(user, {"phone": "+1 202 555 0177", "first_name": "Ada", "plan": "free", "city": "Pune"})
analytics.identify(user, {"plan": None, "city": "Mumbai"})
for n in range(EVENTS):
    analytics.track(user, "Sdk " + user, {"amount": n})
analytics.track(anonymous_id="a-1", event="Sdk " + user)
analytics.page(user, "Home")
analytics.group(user, "g-1")
analytics.alias("a-1", user)
analytics.shutdown()
print(len(failed))
"""

RUDDERSTACK = """
import sys
import rudderstack.analytics as analytics
host, key, user, gzip = sys.argv[1:]
failed = []
analytics.dataPlaneUrl, analytics.write_key, analytics.gzip = host, key, gzip == "gzip"
analytics.on_error = lambda error, items: failed.append(error)
analytics.identify(user, {"phone": "+1 202 555 0178", "first_name": "Ada", "plan": "free", "city": "Pune"})
analytics.identify(user, {"plan": None, "city": "Mumbai"})
for n in range(EVENTS):
    analytics.track(user, "Sdk " + user, {"amount": n})
analytics.track(anonymous_id="a-1", event="Sdk " + user)
analytics.page(user, "Home")
analytics.group(user, "g-1")
analytics.alias("a-1", user)
analytics.shutdown()
print(len(failed))
"""

SEGMENT_NODE = """
const { Analytics } = require('@segment/analytics-node')
const [host, writeKey, userId] = process.argv.slice(2)
const analytics = new Analytics({ writeKey, host })
let failed = 0
analytics.on('error', () => { failed += 1 })
analytics.identify({ userId, traits: { phone: '+1 202 555 0179', first_name: 'Ada', plan: 'free', city: 'Pune' } })
analytics.identify({ userId, traits: { plan: null, city: 'Mumbai' } })
for (let n = 0; n < EVENTS; n++) analytics.track({ userId, event: 'Sdk ' + userId, properties: { amount: n } })
analytics.track({ anonymousId: 'a-1', event: 'Sdk ' + userId })
analytics.page({ userId, name: 'Home' })
analytics.group({ userId, groupId: 'g-1' })
analytics.alias({ userId, previousId: 'a-1' })
analytics.closeAndFlush().then(() => console.log(failed))
"""

RUDDERSTACK_NODE = """
const RudderAnalytics = require('@rudderstack/rudder-sdk-node')
const [host, writeKey, userId] = process.argv.slice(2)
const analytics = new RudderAnalytics(writeKey, { dataPlaneUrl: host, flushInterval: 500 })
const traits = { phone: '+1 202 555 0180', first_name: 'Ada', plan: 'free', city: 'Pune' }
analytics.identify({ userId, traits })
analytics.identify({ userId, traits: { plan: null, city: 'Mumbai' } })
for (let n = 0; n < EVENTS; n++) analytics.track({ userId, event: 'Sdk ' + userId, properties: { amount: n } })
analytics.track({ anonymousId: 'a-1', event: 'Sdk ' + userId })
analytics.page({ userId, name: 'Home' })
analytics.group({ userId, groupId: 'g-1' })
analytics.alias({ userId, previousId: 'a-1' })
analytics.flush().then(() => setTimeout(() => { console.log(0); process.exit(0) }, 1500))
"""

LIBRDKAFKA = """
import json
import sys
from confluent_kafka import Producer
servers, topic, user = sys.argv[1:]
failed = []
producer = Producer({"bootstrap.servers": servers})
def send(message):
    told = lambda error, _: failed.append(error) if error else None
    producer.produce(topic, json.dumps(message).encode(), user.encode(), callback=told)
    producer.poll(0)
send({"type": "identify", "messageId": "i-1", "userId": user, "traits": {"phone": "+12025550182"}})
for n in range(EVENTS):
    for _ in range(1 + n % 2):
        send({"type": "track", "messageId": f"m-{n}", "userId": user, "event": "Sdk " + user, "properties": {"n": n}})
producer.flush(60)
print(len(failed))
"""


async def run(*program: str, folder: Path) -> str:
    """What the program prints; it must end well."""
    process = await asyncio.create_subprocess_exec(
        *program, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=folder
    )
    output, errors = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, errors.decode()[-4_000:]
    return output.decode().strip()


async def key_for(api: ApiClient) -> str:
    made = await api.post("/v1/api-keys", {"name": f"sdk {uuid.uuid4().hex[:8]}", "scopes": ["events:write"]})
    return str(made["key"])


async def ignored(suite: Suite) -> dict[str, float]:
    async with httpx.AsyncClient(base_url=suite.url(CAMPAIGN_API), trust_env=False) as http:
        lines = (await http.get("/metrics")).text.splitlines()
    name = "postrider_campaign_api_events_ignored_total{reason="
    return {
        line.removeprefix(name).split('"')[1]: float(line.rpartition(" ")[2]) for line in lines if line.startswith(name)
    }


async def sends(
    suite: Suite, api: ApiClient, program: list[str], *more: str, script: list[str], folder: Path
) -> FlakyProxy:
    """Runs an SDK through a bad network, and checks what came of what it sent."""
    user = f"sdk-{uuid.uuid4().hex[:8]}"
    before = await ignored(suite)
    proxy = FlakyProxy(suite.url(CAMPAIGN_API), script=script)
    async with proxy.serving() as host:
        assert await run(*program, host, await key_for(api), user, *more, folder=folder) == "0"
    assert proxy.script == [], "the SDK did not send again"
    assert {status for status, _ in proxy.answers} == {200}
    assert sum(json.loads(body)["accepted"] for _, body in proxy.answers) <= EVENTS + 2
    assert all(json.loads(body)["errors"] == [] for _, body in proxy.answers)
    rule = {"did": {"event": f"Sdk {user}", "count": {"op": "eq", "value": EVENTS}}}
    found = await api.post("/v1/segments/estimate", {"rule": rule})
    assert found["qualified"] == 1, "an event is lost or counts twice"
    profile = await api.get(f"/v1/profiles/{user}")
    assert {name: profile["traits"].get(name) for name in ("first_name", "plan", "city")} == {
        "first_name": "Ada", "plan": None, "city": "Mumbai",
    }  # fmt: skip
    assert profile["phone"].startswith("+1202555")
    after = await ignored(suite)
    assert {reason: after[reason] - before.get(reason, 0) >= 1 for reason in ("anonymous", "type_page")} == {
        "anonymous": True, "type_page": True,
    }  # fmt: skip
    return proxy


def python_with_sdks(code: str) -> list[str]:
    interpreter = workspace() / ".venv-sdks" / "bin" / "python"
    assert interpreter.exists(), "the SDKs are not installed: make setup-sdks"
    return [str(interpreter), "-c", code.replace("EVENTS", str(EVENTS))]


@pytest.mark.parametrize("gzip", ["gzip", "plain"])
@pytest.mark.parametrize("code", [SEGMENT, RUDDERSTACK], ids=["segment", "rudderstack"])
async def test_python_sdks_lose_and_double_nothing(
    suite: Suite, api: ApiClient, code: str, gzip: str, tmp_path: Path
) -> None:
    program = python_with_sdks(code)
    proxy = await sends(suite, api, program, gzip, script=["refuse", "lose"], folder=tmp_path)
    assert set(proxy.gzipped) == {gzip == "gzip"}


async def test_a_plain_librdkafka_producer_puts_events_where_they_count_once(
    suite: Suite, api: ApiClient, tmp_path: Path
) -> None:
    """Its own partitioner, which is not Kafka's: what it misplaces is forwarded."""
    assert suite.addresses is not None
    servers = suite.addresses.bootstrap_servers
    for _ in range(4):
        user = f"rdk-{uuid.uuid4().hex[:8]}"
        program = python_with_sdks(LIBRDKAFKA)
        assert await run(*program, servers, USER_EVENTS.full_name(), user, folder=tmp_path) == "0"
        rule = {"did": {"event": f"Sdk {user}", "count": {"op": "eq", "value": EVENTS}}}
        found = await api.post("/v1/segments/estimate", {"rule": rule})
        assert (found["qualified"], found["reachable"]) == (1, 1)


async def test_a_builder_is_offered_what_was_sent_and_a_person_can_be_forgotten(api: ApiClient) -> None:
    user, event = f"u-{uuid.uuid4().hex[:8]}", f"Seen {uuid.uuid4().hex[:8]}"
    await api.batch(
        [
            {"type": "identify", "userId": user, "traits": {"phone": "+12025550181", "shoe_size": 42}},
            {"type": "track", "userId": user, "event": event, "properties": {"amount": 9.5, "color": "red"}},
        ]
    )

    async def seen() -> dict[str, Any]:
        items: list[dict[str, Any]] = (await api.get("/v1/catalog/events", prefix=event.lower()))["items"]
        return items[0] if items else {}

    found = await eventually(seen, 20)
    assert {item["name"]: (item["types"], item["examples"]) for item in found["properties"]} == {
        "amount": (["number"], [9.5]), "color": (["text"], ["red"]),
    }  # fmt: skip
    shoes = (await api.get("/v1/catalog/attributes", prefix="shoe_"))["items"]
    assert [item["name"] for item in shoes] == ["shoe_size"]
    rule = {"did": {"event": event}}
    estimated = await api.post(
        "/v1/segments/estimate", {"rule": rule, "what": {"body": "Size {{ Profile.shoe_size }}"}}
    )
    assert (estimated["reachable"], estimated["parts"]["max"], estimated["cost"]) == (1, 1, None)
    await api.call("DELETE", f"/v1/profiles/{user}")
    assert (await api.post("/v1/segments/estimate", {"rule": rule}))["qualified"] == 0


@pytest.mark.sdk_node
@pytest.mark.parametrize("code", [SEGMENT_NODE, RUDDERSTACK_NODE], ids=["segment", "rudderstack"])
async def test_node_sdks_lose_and_double_nothing(suite: Suite, api: ApiClient, code: str, tmp_path: Path) -> None:
    modules = workspace() / ".local" / "sdk-node" / "node_modules"
    (tmp_path / "node_modules").symlink_to(modules)
    script = tmp_path / "send.js"
    script.write_text(code.replace("EVENTS", str(EVENTS)))
    await sends(suite, api, ["node", str(script)], script=["refuse", "lose"], folder=tmp_path)


@pytest.mark.sdk_node
async def test_kcat_publishes_as_the_docs_print_it(suite: Suite, api: ApiClient, tmp_path: Path) -> None:
    printed = next(
        line for line in (workspace() / "docs" / "api.md").read_text("utf-8").splitlines() if "| kcat" in line
    )
    assert suite.addresses is not None
    user = f"u-{uuid.uuid4().hex[:8]}"
    command = printed.replace("127.0.0.1:9092", suite.addresses.bootstrap_servers).replace("u-42", user)
    await run("sh", "-c", command, folder=tmp_path)
    where = [{"property": "cart_id", "op": "eq", "value": "c-9"}, {"property": "amount", "op": "eq", "value": 59.9}]
    rule = {"did": {"event": "Added to Cart", "where": where, "window": {"after": "2026-01-01"}}}
    assert (await api.post("/v1/segments/estimate", {"rule": rule}))["qualified"] >= 1
    assert (await api.get(f"/v1/profiles/{user}"))["traits"] == {}
