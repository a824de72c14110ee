"""campaign-api on real Kafka and Postgres: versions, creations, references, credentials, problem documents."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import httpx
import nacl.public
import pytest
from fastapi import HTTPException

from postrider.contracts.topics import PROVIDER_DEFINITIONS, SEGMENT_DEFINITIONS
from tests.support.campaign_api import PRIVATE_KEY, REACH, Running

pytestmark = pytest.mark.integration

EVERYBODY: dict[str, Any] = {"all": []}


async def created(api: Running, path: str, body: dict[str, Any], **headers: str) -> dict[str, Any]:
    answer = await api.client.post(path, json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    assert answer.headers["etag"] == f'"{answer.json()["version"]}"'
    shown: dict[str, Any] = answer.json()
    return shown


async def sandbox(api: Running) -> str:
    provider = await created(api, "/v1/providers", {"name": "Sandbox", "kind": "sandbox", "settings": {}})
    return str(provider["id"])


async def group_of(api: Running, *providers: str, **more: Any) -> str:
    made = await created(api, "/v1/provider-groups", {"name": "Group", "provider_ids": list(providers), **more})
    return str(made["id"])


def one_time(**more: Any) -> dict[str, Any]:
    body = {
        "name": "Spring sale",
        "kind": "one_time",
        "when": {"at": "now"},
        "who": {"rule": EVERYBODY},
        "what": {"body": "Hi {{ Profile.first_name | default: 'there' }}"},
    }
    return body | more


def pointers(answer: httpx.Response, status: int) -> dict[str, str]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return {error["pointer"]: error["message"] for error in answer.json()["errors"]}


async def test_a_change_needs_the_version_that_was_read(api: Running) -> None:
    segment = await created(api, "/v1/segments", {"name": "All", "rule": EVERYBODY})
    path = f"/v1/segments/{segment['id']}"
    changed = segment | {"name": "Everybody"}
    assert (await api.client.put(path, json=changed)).status_code == 428
    answer = await api.client.put(path, json=changed, headers={"If-Match": '"1"'})
    assert answer.status_code == 200, answer.text
    assert answer.json()["version"] == 2
    assert answer.headers["etag"] == '"2"'
    assert (await api.client.put(path, json=changed, headers={"If-Match": '"1"'})).status_code == 412
    assert (await api.client.get(path)).json()["name"] == "Everybody"


@pytest.mark.parametrize(
    ("tag", "status"),
    [
        ('"1"', 200), ('W/"1"', 200), ("1", 200), (" * ", 200),
        ('"2"', 412), ('"a-tag-of-another"', 412), ('""', 412), ('"99999999999999999999"', 412),
        ("a tag", 422), ('"1', 422), ('"1", "2"', 422), ("", 422), ("\xb9", 422),
    ],
)  # fmt: skip
async def test_a_tag_is_current_or_stale_or_none_at_all(api: Running, tag: str, status: int) -> None:
    segment = await created(api, "/v1/segments", {"name": "All", "rule": EVERYBODY})
    headers = {b"If-Match": tag.encode("latin-1")}
    answer = await api.client.put(f"/v1/segments/{segment['id']}", json=segment, headers=headers)
    assert answer.status_code == status, answer.text
    if status == 422:
        assert set(pointers(answer, 422)) == {"/header/If-Match"}


async def test_who_changes_any_version_may_send_back_an_older_one(api: Running) -> None:
    segment = await created(api, "/v1/segments", {"name": "All", "rule": EVERYBODY})
    path, any_version = f"/v1/segments/{segment['id']}", {"If-Match": "*"}
    for version in (2, 3):
        answer = await api.client.put(path, json=segment, headers=any_version)
        assert answer.status_code == 200, answer.text
        assert answer.json()["version"] == version
    stale = await api.client.put(path, json=segment, headers={"If-Match": '"3"'})
    assert set(pointers(stale, 422)) == {"/version", "/updated_at"}


async def test_read_only_fields_come_back_as_read_or_not_at_all(api: Running) -> None:
    segment = await created(api, "/v1/segments", {"name": "All", "rule": EVERYBODY})
    answer = await api.client.put(
        f"/v1/segments/{segment['id']}",
        json=segment | {"created_at": "2020-01-01T00:00:00Z"},
        headers={"If-Match": "*"},
    )
    assert pointers(answer, 422) == {"/created_at": "is read-only"}


async def test_one_idempotency_key_makes_one_resource_however_often_and_at_once(api: Running) -> None:
    body = {"name": "Once", "rule": EVERYBODY}
    answers = await asyncio.gather(
        *(api.client.post("/v1/segments", json=body, headers={"Idempotency-Key": "one"}) for _ in range(8))
    )
    replies = {
        (answer.status_code, answer.text, answer.headers["etag"], answer.headers["location"]) for answer in answers
    }
    path = f"/v1/segments/{answers[0].json()['id']}"
    assert replies == {(201, answers[0].text, '"1"', path)}
    other = await api.client.post("/v1/segments", json=body | {"name": "Two"}, headers={"Idempotency-Key": "one"})
    assert other.status_code == 409
    named = [
        item for item in (await api.client.get("/v1/segments?limit=200")).json()["items"] if item["name"] == "Once"
    ]
    assert len(named) == 1


async def test_a_refused_creation_does_not_use_up_its_key(api: Running) -> None:
    headers = {"Idempotency-Key": "second-thoughts"}
    assert (await api.client.post("/v1/segments", json={"name": "x", "rule": {}}, headers=headers)).status_code == 422
    await created(api, "/v1/segments", {"name": "x", "rule": EVERYBODY}, **headers)


async def test_lists_are_paged_newest_first(api: Running) -> None:
    made = [(await created(api, "/v1/segments", {"name": f"p{n}", "rule": EVERYBODY}))["id"] for n in range(5)]
    seen: list[str] = []
    cursor = ""
    while len(seen) < 5:
        page = (await api.client.get(f"/v1/segments?limit=2{cursor}")).json()
        seen += [item["id"] for item in page["items"]]
        cursor = f"&cursor={page['next_cursor']}"
    assert seen[:5] == made[::-1]
    assert pointers(await api.client.get("/v1/segments?cursor=nonsense"), 422) == {
        "/query/cursor": "is not one of ours"
    }


async def test_credentials_go_out_sealed_and_never_come_back(api: Running) -> None:
    secret = "auth-token-8c1f"
    body = {
        "name": "Twilio",
        "kind": "twilio",
        "settings": {"account_sid": "AC0123456789", "from": "+15550100100"},
        "credentials": {"auth_token": secret},
    }
    provider = await created(api, "/v1/providers", body)
    assert "credentials" not in provider
    assert provider["callback_url"].startswith(f"https://texts.example/receipts/{provider['id']}/")
    kept = {name: value for name, value in body.items() if name != "credentials"} | {"name": "Renamed"}
    answer = await api.client.put(f"/v1/providers/{provider['id']}", json=kept, headers={"If-Match": '"1"'})
    assert answer.status_code == 200, answer.text
    records = [r for r in await api.read_topic(PROVIDER_DEFINITIONS) if r.key == provider["id"].encode()]
    assert all(secret.encode() not in record.value for record in records)
    first, last = (json.loads(record.value) for record in records)
    assert (first["version"], last["version"], last["name"]) == (1, 2, "Renamed")
    opened = nacl.public.SealedBox(PRIVATE_KEY).decrypt(base64.b64decode(last["sealed_credentials"]))
    assert json.loads(opened) == {"auth_token": secret}


async def test_kept_credentials_do_not_outlive_the_setting_they_go_with(api: Running) -> None:
    """Nobody here can read them: whether there is a signature secret among them, the caller has to say again."""
    body: dict[str, Any] = {"name": "Vonage", "kind": "vonage", "settings": {"api_key": "abcd1234", "from": "Acme"}}
    secrets = {"api_secret": "s" * 16}
    made = await created(api, "/v1/providers", {**body, "credentials": secrets})

    async def put(given: dict[str, Any]) -> httpx.Response:
        return await api.client.put(f"/v1/providers/{made['id']}", json=given, headers={"If-Match": "*"})

    signed = {**body, "settings": {**body["settings"], "signature_method": "sha256"}}
    why = "give the credentials again when settings.signature_method comes or goes"
    assert pointers(await put(signed), 422) == {"/credentials/signature_secret": why}
    both = {**secrets, "signature_secret": "x"}
    assert (await put({**signed, "credentials": both})).status_code == 200
    assert (await put({**signed, "name": "Renamed"})).status_code == 200
    assert pointers(await put(body), 422) == {"/credentials/signature_secret": why}


async def test_one_group_is_the_default(api: Running) -> None:
    provider = await sandbox(api)
    first = await group_of(api, provider, is_default=True)
    second = await group_of(api, provider, is_default=True)
    shown = (await api.client.get(f"/v1/provider-groups/{first}")).json()
    assert (shown["is_default"], shown["version"]) == (False, 2)
    assert (await api.client.get(f"/v1/provider-groups/{second}")).json()["is_default"] is True


async def test_the_only_provider_of_a_live_campaign_cannot_be_archived(api: Running) -> None:
    only, spare = await sandbox(api), await sandbox(api)
    group = await group_of(api, only)
    campaign = await created(
        api,
        "/v1/campaigns",
        one_time(
            kind="live_action",
            when={},
            who={"trigger": {"event": "Order Completed"}},
            what={"body": "Thanks", "provider_group_id": group},
        ),
    )
    assert (await api.client.post(f"/v1/campaigns/{campaign['id']}/schedule")).json()["status"] == "running"
    answer = await api.client.post(f"/v1/providers/{only}/archive")
    assert answer.status_code == 409
    assert campaign["id"] in answer.json()["detail"]
    put = {"name": "Group", "provider_ids": [only, spare]}
    await api.client.put(f"/v1/provider-groups/{group}", json=put, headers={"If-Match": "*"})
    assert (await api.client.post(f"/v1/providers/{only}/archive")).json()["status"] == "archived"
    assert (await api.client.post(f"/v1/providers/{only}/archive")).status_code == 409


async def test_a_group_keeps_somebody_who_can_carry_a_live_campaign(api: Running) -> None:
    archived, active = await sandbox(api), await sandbox(api)
    group = await group_of(api, archived, active)
    campaign = await created(
        api,
        "/v1/campaigns",
        one_time(
            kind="live_action",
            when={},
            who={"trigger": {"event": "Order Completed"}},
            what={"body": "Thanks", "provider_group_id": group},
        ),
    )
    await api.client.post(f"/v1/campaigns/{campaign['id']}/schedule")
    assert (await api.client.post(f"/v1/providers/{archived}/archive")).status_code == 200
    path, body, any_version = (
        f"/v1/provider-groups/{group}",
        {"name": "G", "provider_ids": [archived]},
        {"If-Match": "*"},
    )
    answer = await api.client.put(path, json=body, headers=any_version)
    assert answer.status_code == 409
    assert campaign["id"] in answer.json()["detail"]
    await api.client.post(f"/v1/campaigns/{campaign['id']}/stop")
    assert (await api.client.put(path, json=body, headers=any_version)).status_code == 200


async def test_what_is_used_cannot_be_deleted_and_what_is_deleted_is_gone_everywhere(api: Running) -> None:
    provider = await sandbox(api)
    group = await group_of(api, provider)
    segment = (await created(api, "/v1/segments", {"name": "All", "rule": EVERYBODY}))["id"]
    campaign = await created(
        api, "/v1/campaigns", one_time(who={"segment_id": segment}, what={"body": "x", "provider_group_id": group})
    )
    for path in (f"/v1/segments/{segment}", f"/v1/provider-groups/{group}", f"/v1/providers/{provider}"):
        assert (await api.client.delete(path)).status_code == 409
    assert (await api.client.delete(f"/v1/campaigns/{campaign['id']}")).status_code == 204
    for path in (f"/v1/segments/{segment}", f"/v1/provider-groups/{group}", f"/v1/providers/{provider}"):
        assert (await api.client.delete(path)).status_code == 204
        assert (await api.client.get(path)).status_code == 404
    last = [r for r in await api.read_topic(SEGMENT_DEFINITIONS) if r.key == segment.encode()][-1]
    assert json.loads(last.value)["deleted"] is True


async def test_a_campaign_that_cannot_work_is_refused_field_by_field(api: Running) -> None:
    archived = await sandbox(api)
    group = await group_of(api, archived)
    await api.client.post(f"/v1/providers/{archived}/archive")
    body = one_time(
        when={"at": "2020-01-01T09:00:00", "time_zone": "user", "send_by": "P1Y"},
        who={"segment_id": "seg_00000000000000000000000000"},
        what={"body": "Hi\n{{ Profile.name", "provider_group_id": group},
    )
    found = pointers(await api.client.post("/v1/campaigns", json=body), 422)
    assert set(found) == {"/when/at", "/when/send_by", "/who/segment_id", "/what/body", "/what/provider_group_id"}
    assert found["/what/body"].startswith("line 2, column ")
    nested = {"all": [{"did": {"event": "A", "count": {"op": "gte", "value": -1}}}]}
    found = pointers(await api.client.post("/v1/campaigns", json=one_time(who={"rule": nested})), 422)
    assert any(pointer.startswith("/who/rule/all/0/did/count") for pointer in found)


async def test_keys_have_scopes_and_end_with_their_deletion(api: Running) -> None:
    made = await created(api, "/v1/api-keys", {"name": "shop", "scopes": ["events:write"]}, **{"Idempotency-Key": "k"})
    bearer = {"Authorization": f"Bearer {made['key']}"}
    body = {"userId": "u1", "event": "X"}
    assert (await api.client.post("/v1/track", json=body, headers=bearer)).status_code == 200
    refused = await api.client.get("/v1/segments", headers=bearer)
    assert refused.status_code == 403
    assert "campaigns:read" in refused.json()["detail"]
    again = await api.client.post(
        "/v1/api-keys", json={"name": "shop", "scopes": ["events:write"]}, headers={"Idempotency-Key": "k"}
    )
    assert (again.status_code, again.json()["id"], again.json()["key"]) == (201, made["id"], None)
    assert (await api.client.delete(f"/v1/api-keys/{made['id']}")).status_code == 204
    assert (await api.client.post("/v1/track", json=body, headers=bearer)).status_code == 401


async def test_settings_are_one_row_with_versions(api: Running) -> None:
    current = (await api.client.get("/v1/settings")).json()
    match = {"If-Match": f'"{current["version"]}"'}
    answer = await api.client.put("/v1/settings", json=current | {"default_country": "US"}, headers=match)
    assert answer.status_code == 200, answer.text
    bad = current | {"version": current["version"] + 1, "updated_at": answer.json()["updated_at"]}
    bad |= {"account_time_zone": "Mars/Base", "min_gap": "P2Y"}
    found = pointers(await api.client.put("/v1/settings", json=bad, headers={"If-Match": "*"}), 422)
    assert found["/account_time_zone"] == "is no IANA time zone"
    assert set(found) == {"/account_time_zone", "/min_gap"}


async def test_the_other_services_are_asked_and_named_when_they_are_down(api: Running) -> None:
    api.elsewhere.answers["/internal/estimate"] = lambda _: REACH
    answer = await api.client.post("/v1/segments/estimate", json={"rule": EVERYBODY})
    assert (answer.json()["qualified"], answer.json()["reachable"]) == (7, 5)

    def away(_: Any) -> Any:
        raise httpx.ConnectError("refused")

    api.elsewhere.answers["/internal/estimate"] = away
    answer = await api.client.post("/v1/segments/estimate", json={"rule": EVERYBODY})
    assert answer.status_code == 503
    assert "segment-engine" in answer.json()["detail"]
    assert answer.headers["retry-after"]

    def behind(_: Any) -> Any:
        raise HTTPException(503, "the history has not caught up")

    api.elsewhere.answers["/internal/estimate"] = behind
    answer = await api.client.post("/v1/segments/estimate", json={"rule": EVERYBODY})
    assert (answer.status_code, answer.json()["detail"]) == (503, "segment-engine: the history has not caught up")


async def test_a_misspelt_filter_of_the_message_log_does_not_pass_for_everything(api: Running) -> None:
    group = await group_of(api, await sandbox(api))
    campaign = await created(api, "/v1/campaigns", one_time(what={"body": "x", "provider_group_id": group}))
    answer = await api.client.get(f"/v1/campaigns/{campaign['id']}/messages?stauts=sent&format=csv")
    assert set(pointers(answer, 422)) == {"/query/stauts"}


async def test_a_cursor_that_another_service_refuses_is_named_as_ours_is(api: Running) -> None:
    def refuse(_: Any) -> Any:
        raise HTTPException(422, "in words of its own")

    group = await group_of(api, await sandbox(api))
    campaign = await created(api, "/v1/campaigns", one_time(what={"body": "x", "provider_group_id": group}))
    for path, internal in (
        ("/v1/sandbox/inbox", "/internal/sandbox/inbox"),
        ("/v1/suppressions", "/internal/suppressions"),
        (f"/v1/campaigns/{campaign['id']}/messages", "/internal/messages"),
    ):
        api.elsewhere.answers[internal] = refuse
        found = pointers(await api.client.get(f"{path}?cursor=x"), 422)
        assert found == {"/query/cursor": "is not one of ours"}


async def test_the_message_log_streams_as_csv_without_formulas(api: Running) -> None:
    group = await group_of(api, await sandbox(api))
    campaign = await created(api, "/v1/campaigns", one_time(what={"body": "x", "provider_group_id": group}))
    pages = {
        None: {"items": [{"id": "m1", "phone": "+15550100", "body": "=HYPERLINK(1)"}], "next_cursor": "c2"},
        "c2": {"items": [{"id": "m2", "user_id": "-u", "attempts": [{}, {}]}], "next_cursor": None},
    }
    api.elsewhere.answers["/internal/messages"] = lambda request: pages[request.query_params.get("cursor")]
    answer = await api.client.get(f"/v1/campaigns/{campaign['id']}/messages?format=csv")
    assert answer.headers["content-type"].startswith("text/csv")
    header, first, second = answer.text.strip().split("\r\n")
    assert header.startswith("id,campaign_id")
    assert "+15550100,," in first and "'=HYPERLINK(1)" in first
    assert "'-u" in second and ",2," in second
