"""Templates of providers through the API: what a provider takes, what is refused and where, edits that would break
campaigns under way, what is published, the preview.
"""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from postrider.contracts.topics import CAMPAIGN_DEFINITIONS
from tests.support.campaign_api import Running

pytestmark = pytest.mark.integration

TEMPLATE: dict[str, Any] = {"template_id": "promo", "template_variables": ["{{ Profile.name }}"]}
GATEWAY: dict[str, Any] = {
    "url": "https://gw.example/send",
    "headers": {"X-Route": "$$route"},
    "form": {"to": "$$To", "text": "$$Body"},
}


async def post(api: Running, path: str, body: dict[str, Any] | None = None, status: int = 201) -> dict[str, Any]:
    answer = await api.client.post(path, json=body)
    assert answer.status_code == status, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


async def msg91(api: Running) -> str:
    body = {"name": "MSG91", "kind": "msg91", "settings": {}, "credentials": {"auth_key": "k"}}
    return str((await post(api, "/v1/providers", body))["id"])


async def sandbox(api: Running) -> str:
    return str((await post(api, "/v1/providers", {"name": "S", "kind": "sandbox", "settings": {}}))["id"])


def campaign(**what: Any) -> dict[str, Any]:
    return {"name": "N", "kind": "one_time", "when": {"at": "now"}, "who": {"rule": {"all": []}}, "what": what}


def pointers(answer: httpx.Response) -> set[str]:
    assert answer.status_code == 422, answer.text
    return {error["pointer"] for error in answer.json()["errors"]}


async def test_a_provider_says_what_it_takes(api: Running) -> None:
    body = {"name": "G", "kind": "generic", "settings": {**GATEWAY, "campaign_pairs": {"message": True}}}
    made = await post(api, "/v1/providers", body)
    fields = {field["name"]: field for field in made["what_fields"]}
    assert set(fields) == {"body", "fallback_body", "message_pairs", "header_pairs"}
    assert fields["header_pairs"]["names"] == ["route"] and fields["header_pairs"]["required"]
    assert fields["message_pairs"]["may_add"] and set(fields["message_pairs"]["taken"]) == {"to", "text"}
    again = await api.client.put(f"/v1/providers/{made['id']}", json=made, headers={"If-Match": "*"})
    assert again.status_code == 200, "read-only fields may be sent back as read"


async def test_each_provider_is_given_what_it_takes(api: Running) -> None:
    templates, texts = await msg91(api), await sandbox(api)
    group = await post(api, "/v1/provider-groups", {"name": "Unlike", "provider_ids": [templates, texts]})
    to = {"provider_group_id": group["id"]}
    refused = await api.client.post("/v1/campaigns", json=campaign(**to, body="Hi"))
    assert pointers(refused) == {"/what/body", "/what/template_id"}
    wrong = {templates: {**TEMPLATE, "template_variables": ["{{ x"]}}
    refused = await api.client.post("/v1/campaigns", json=campaign(**to, body="Hi", by_provider=wrong))
    assert pointers(refused) == {f"/what/by_provider/{templates}/template_variables/0"}
    made = await post(api, "/v1/campaigns", campaign(**to, body="Hi @Profile.a", by_provider={templates: TEMPLATE}))
    assert made["what"]["by_provider"][templates]["template_id"] == "promo"

    preview = await post(api, f"/v1/campaigns/{made['id']}/preview", {"profile": {"name": "Ada"}}, 200)
    assert (preview["provider_id"], preview["body"]) == (templates, None)
    assert (preview["template_id"], preview["template_variables"]) == ("promo", ["Ada"])

    await post(api, f"/v1/campaigns/{made['id']}/schedule", status=200)
    records = [each for each in await api.read_topic(CAMPAIGN_DEFINITIONS) if each.key == made["id"].encode()]
    what = json.loads(records[-1].value)["whats"]["1"]
    assert what["references"] == {"profile": ["a", "name"], "event": []}
    assert what["by_provider"] == {templates: TEMPLATE}


async def test_a_change_that_would_break_a_campaign_under_way_is_refused(api: Running) -> None:
    body: dict[str, Any] = {"name": "G", "kind": "generic", "settings": GATEWAY}
    gateway = (await post(api, "/v1/providers", body))["id"]
    group = await post(api, "/v1/provider-groups", {"name": "Alone", "provider_ids": [gateway]})
    what = {"provider_group_id": group["id"], "body": "Hi", "header_pairs": {"route": "7"}}
    made = await post(api, "/v1/campaigns", campaign(**what) | {"when": {"at": "2099-12-01T09:00:00"}})
    more = {**body, "settings": {**GATEWAY, "headers": {"X-Route": "$$route", "X-Key": "$$key"}}}
    any_version = {"If-Match": "*"}
    assert (await api.client.put(f"/v1/providers/{gateway}", json=more, headers=any_version)).status_code == 200
    assert (await api.client.put(f"/v1/providers/{gateway}", json=body, headers=any_version)).status_code == 200
    await post(api, f"/v1/campaigns/{made['id']}/schedule", status=200)

    refused = await api.client.put(f"/v1/providers/{gateway}", json=more, headers=any_version)
    assert refused.status_code == 409
    assert made["id"] in refused.json()["detail"] and "/what/header_pairs/key" in refused.json()["detail"]
    wider = {"name": "Alone", "provider_ids": [gateway, await msg91(api)]}
    refused = await api.client.put(f"/v1/provider-groups/{group['id']}", json=wider, headers=any_version)
    assert refused.status_code == 409 and made["id"] in refused.json()["detail"]
