"""Provider groups through the API: routes by country, what is published, and everything that would leave a campaign
under way without a provider.
"""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from postrider.contracts import codec
from postrider.contracts.definitions import ProviderGroupDefinition, Route
from postrider.contracts.topics import PROVIDER_DEFINITIONS
from tests.support.campaign_api import Running

pytestmark = pytest.mark.integration

ANY_VERSION = {"If-Match": "*"}
SCHEDULED: dict[str, Any] = {
    "name": "Sale", "kind": "one_time", "when": {"at": "2099-12-01T09:00:00"}, "who": {"rule": {"all": []}},
}  # fmt: skip


async def post(api: Running, path: str, body: dict[str, Any] | None = None, status: int = 201) -> dict[str, Any]:
    answer = await api.client.post(path, json=body)
    assert answer.status_code == status, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


async def sandbox(api: Running) -> str:
    return str((await post(api, "/v1/providers", {"name": "S", "kind": "sandbox", "settings": {}}))["id"])


async def group_of(api: Running, *ids: str, **more: Any) -> str:
    body = {"name": "Everybody", "provider_ids": list(ids), **more}
    return str((await post(api, "/v1/provider-groups", body))["id"])


async def scheduled(api: Running, **what: Any) -> str:
    id = str((await post(api, "/v1/campaigns", {**SCHEDULED, "what": {"body": "Hi", **what}}))["id"])
    await post(api, f"/v1/campaigns/{id}/schedule", status=200)
    return id


def refused(answer: httpx.Response, *named: str) -> None:
    """409 whose detail and errors name these."""
    assert answer.status_code == 409, answer.text
    for each in named:
        assert each in answer.json()["detail"]
        assert any(each in error["message"] for error in answer.json()["errors"])


async def test_routes_are_published_and_shown_with_what_each_member_takes(api: Running) -> None:
    first, second = await sandbox(api), await sandbox(api)
    msg91 = {"name": "M", "kind": "msg91", "settings": {}, "credentials": {"auth_key": "k"}}
    indian = (await post(api, "/v1/providers", msg91))["id"]
    routes = [{"country": "IN", "provider_ids": [indian, second]}]
    id = await group_of(api, first, routes=routes, failover_on_rate_limit=True)
    shown = (await api.client.get(f"/v1/provider-groups/{id}")).json()
    assert (shown["routes"], shown["failover_on_rate_limit"]) == (routes, True)
    assert {member: [field["name"] for field in takes] for member, takes in shown["what_fields"].items()} == {
        first: ["body", "fallback_body"],
        indian: ["template_id", "template_variables", "message_pairs"],
        second: ["body", "fallback_body"],
    }
    (listed,) = [each for each in (await api.client.get("/v1/provider-groups")).json()["items"] if each["id"] == id]
    assert listed == shown
    records = [each for each in await api.read_topic(PROVIDER_DEFINITIONS) if each.key == id.encode()]
    published = codec.decode(records[-1].value, ProviderGroupDefinition)
    assert published.routes == [Route("IN", [indian, second])] and published.failover_on_rate_limit

    # As read it may be sent back, also when a member has been edited since.
    stale = {**shown, "name": "Renamed", "what_fields": {}}
    etag = {"If-Match": f'"{shown["version"]}"'}
    assert (await api.client.put(f"/v1/provider-groups/{id}", json=stale, headers=etag)).status_code == 200
    refused_ = await api.client.delete(f"/v1/providers/{indian}")
    assert refused_.status_code == 409 and id in refused_.json()["detail"]


async def test_routes_that_mean_nothing_are_refused_with_pointers(api: Running) -> None:
    provider, gone = await sandbox(api), await sandbox(api)
    await post(api, f"/v1/providers/{gone}/archive", status=200)

    async def pointers(*routes: Any) -> list[str]:
        body = {"name": "G", "provider_ids": [provider], "routes": list(routes)}
        answer = await api.client.post("/v1/provider-groups", json=body)
        assert answer.status_code == 422, answer.text
        return [error["pointer"] for error in answer.json()["errors"]]

    to = [provider]
    assert await pointers({"country": "XX", "provider_ids": to}) == ["/routes/0/country"]
    assert await pointers({"country": "in", "provider_ids": to}) == ["/routes/0/country"]
    assert await pointers(*[{"country": "IN", "provider_ids": to}] * 2) == ["/routes/1/country"]
    assert await pointers({"country": "IN", "provider_ids": []}) == ["/routes/0/provider_ids"]
    assert await pointers({"country": "IN", "provider_ids": [provider] * 11}) == ["/routes/0/provider_ids"]
    assert await pointers({"country": "IN", "provider_ids": [provider, provider, "prv_no", gone]}) == [
        "/routes/0/provider_ids/1", "/routes/0/provider_ids/2", "/routes/0/provider_ids/3",
    ]  # fmt: skip
    assert await pointers({"country": "IN", "provider_ids": to, "weight": 1}) == ["/routes/0/weight"]


async def test_no_campaign_under_way_is_left_without_a_provider(api: Running) -> None:
    """By archiving, by an edit of the group, by a route, by a campaign that names its provider, by default."""
    own, routed, spare, alone = [await sandbox(api) for _ in range(4)]
    routes = [{"country": "IN", "provider_ids": [routed]}]
    group = await group_of(api, own, routes=routes)
    default = await group_of(api, own, is_default=True)
    by_group, by_default = await scheduled(api, provider_group_id=group), await scheduled(api)
    direct = await scheduled(api, provider_id=alone)

    refused(await api.client.post(f"/v1/providers/{own}/archive"), group, by_group, default, by_default)
    answer = await api.client.post(f"/v1/providers/{routed}/archive")
    refused(answer, group, by_group)
    assert "its route to IN" in answer.json()["errors"][0]["message"]
    refused(await api.client.post(f"/v1/providers/{alone}/archive"), direct)

    # With another one in each list they can go, and an edit may not leave them behind alone.
    both = {
        "name": "G", "provider_ids": [own, spare], "routes": [{"country": "IN", "provider_ids": [routed, spare]}],
    }  # fmt: skip
    path = f"/v1/provider-groups/{group}"
    assert (await api.client.put(path, json=both, headers=ANY_VERSION)).status_code == 200
    wider = {"name": "D", "provider_ids": [own, spare], "is_default": True}
    assert (await api.client.put(f"/v1/provider-groups/{default}", json=wider, headers=ANY_VERSION)).status_code == 200
    for each in (own, routed):
        await post(api, f"/v1/providers/{each}/archive", status=200)
    without = {**both, "routes": [{"country": "IN", "provider_ids": [routed]}]}
    refused(await api.client.put(path, json=without, headers=ANY_VERSION), group, by_group)
    refused(await api.client.put(path, json={**both, "provider_ids": [own]}, headers=ANY_VERSION), group, by_group)
    lone = {"name": "N", "provider_ids": [own, spare], "is_default": True}
    assert (await api.client.post("/v1/provider-groups", json=lone)).status_code == 422, "an archived one may not join"
    wider["is_default"] = False
    answer = await api.client.put(f"/v1/provider-groups/{default}", json=wider, headers=ANY_VERSION)
    assert answer.status_code == 409 and by_default in answer.json()["detail"]
    answer = await api.client.delete(f"/v1/provider-groups/{default}")
    assert answer.status_code == 409 and by_default in answer.json()["detail"]
    for each in (by_group, by_default, direct):
        await post(api, f"/v1/campaigns/{each}/stop", status=200)
    assert (await api.client.put(path, json=without, headers=ANY_VERSION)).status_code == 200
    await post(api, f"/v1/providers/{alone}/archive", status=200)
