"""Saved segments, campaigns and user lists that rules name: used, counted, edited, deleted; uploads as a whole."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import HTTPException, Request

from campaign_api.housekeeping import Housekeeping
from tests.support.campaign_api import Running, running
from tests.support.parts import create_database, drop_database, topic_prefix

pytestmark = pytest.mark.integration

EVERYBODY: dict[str, Any] = {"all": []}
ANY_VERSION = {"If-Match": "*"}
MISSING = "00000000000000000000000000"


@pytest.fixture(scope="module")
async def api(kafka: str, database: str) -> AsyncIterator[Running]:
    url = await create_database(database)
    async with running(kafka, url, topic_prefix()) as api:
        provider = await created(api, "/v1/providers", {"name": "Sandbox", "kind": "sandbox", "settings": {}})
        group = {"name": "Group", "provider_ids": [provider["id"]], "is_default": True}
        await created(api, "/v1/provider-groups", group)
        yield api
    await drop_database(url)


@pytest.fixture
def members(api: Running) -> dict[str, list[str]]:
    """The lists that the segment-engine has; those that are not complete have no number at their end."""
    lists: dict[str, list[str]] = {}

    async def answer(request: Request) -> Any:
        id = request.url.path.rpartition("/")[2]
        if request.method == "DELETE":
            lists.pop(id, None)
            return None
        ids = lists.setdefault(id, [])
        async for line in lines_of(request):
            part = json.loads(line)
            if isinstance(part, int):
                assert part == len(ids)
                return {"members": len(set(ids))}
            ids += part
        raise HTTPException(422, "cut short")

    api.elsewhere.answers["/internal/user-lists/*"] = answer
    return lists


async def lines_of(request: Request) -> AsyncIterator[bytes]:
    rest = b""
    async for chunk in request.stream():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line


async def created(api: Running, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = await api.client.post(path, json=body)
    assert answer.status_code == 201, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


async def segment(api: Running, rule: dict[str, Any], name: str = "S") -> str:
    return str((await created(api, "/v1/segments", {"name": name, "rule": rule}))["id"])


async def campaign(api: Running, **who: Any) -> str:
    kind = "live_action" if "trigger" in who else "one_time"
    when = {} if "trigger" in who else {"at": "2090-01-01T09:00:00"}
    body = {"name": "C", "kind": kind, "when": when, "who": who, "what": {"body": "Hi"}}
    return str((await created(api, "/v1/campaigns", body))["id"])


async def upload(api: Running, body: str | bytes, **more: Any) -> httpx.Response:
    headers = {"Content-Type": more.pop("media_type", "text/csv"), **more.pop("headers", {})}
    return await api.client.post("/v1/user-lists", params={"name": "VIPs"}, content=body, headers=headers, **more)


async def change(api: Running, id: str, rule: dict[str, Any]) -> httpx.Response:
    body = {"name": "S", "rule": rule}
    return await api.client.put(f"/v1/segments/{id}", json=body, headers=ANY_VERSION)


def pointers(answer: httpx.Response) -> dict[str, str]:
    assert answer.status_code == 422, answer.text
    return {error["pointer"]: error["message"] for error in answer.json()["errors"]}


async def used_by(api: Running, path: str) -> dict[str, Any]:
    used: dict[str, Any] = (await api.client.get(path)).json()["used_by"]
    return used


async def test_who_uses_a_segment_is_counted_named_and_in_the_way(api: Running) -> None:
    base = await segment(api, EVERYBODY)
    path = f"/v1/segments/{base}"
    assert await used_by(api, path) == {"count": 0, "campaigns": [], "segments": []}
    outer = await segment(api, {"not": {"in_segment": base}})
    direct = await campaign(api, segment_id=base)
    ruled = await campaign(api, rule={"any": [{"in_segment": base}, {"in_segment": base}]})
    live = await campaign(api, trigger={"event": "E"}, filter={"not": {"in_segment": base}})
    far = await campaign(api, segment_id=outer)
    assert await used_by(api, path) == {"count": 4, "campaigns": sorted([direct, ruled, live]), "segments": [outer]}
    listed = {item["id"]: item["used_by"] for item in (await api.client.get("/v1/segments?limit=1000")).json()["items"]}
    assert (listed[base]["count"], listed[outer]["campaigns"]) == (4, [far])
    answer = await api.client.delete(path)
    assert answer.status_code == 409
    assert outer in answer.json()["detail"]
    for id in (direct, live, far):
        assert (await api.client.delete(f"/v1/campaigns/{id}")).status_code == 204
    assert (await api.client.post(f"/v1/campaigns/{ruled}/stop")).status_code == 200
    assert (await api.client.delete(path)).status_code == 409
    assert (await api.client.delete(f"/v1/segments/{outer}")).status_code == 204
    assert (await used_by(api, path))["count"] == 0
    assert (await api.client.delete(path)).status_code == 204
    answer = await api.client.post("/v1/segments", json={"name": "S", "rule": {"all": [{"in_segment": base}]}})
    assert pointers(answer) == {"/rule/all/0/in_segment": "there is no such segment"}


async def test_what_is_read_of_a_segment_may_be_sent_back_although_its_users_changed(api: Running) -> None:
    base = await segment(api, EVERYBODY)
    read = await api.client.get(f"/v1/segments/{base}")
    await segment(api, {"in_segment": base})
    headers = {"If-Match": read.headers["etag"]}
    answer = await api.client.put(f"/v1/segments/{base}", json=read.json() | {"name": "New"}, headers=headers)
    assert (answer.status_code, answer.json()["used_by"]["count"]) == (200, 1)


async def test_an_edit_may_not_close_a_circle(api: Running) -> None:
    a = await segment(api, EVERYBODY)
    b = await segment(api, {"all": [{"in_segment": a}]})
    c = await segment(api, {"not": {"in_segment": b}})
    for named, pointer in ((a, "/rule/not/in_segment"), (b, "/rule/not/in_segment"), (c, "/rule/not/in_segment")):
        found = pointers(await change(api, a, {"not": {"in_segment": named}}))
        assert set(found) == {pointer}
        assert "leads back to itself" in found[pointer]
    assert (await change(api, b, {"in_segment": a})).status_code == 200
    assert (await change(api, c, EVERYBODY)).status_code == 200
    assert (await change(api, a, {"not": {"in_segment": c}})).status_code == 200


async def test_two_edits_at_once_do_not_close_a_circle_either(api: Running) -> None:
    a, b = await segment(api, EVERYBODY), await segment(api, EVERYBODY)
    answers = await asyncio.gather(change(api, a, {"in_segment": b}), change(api, b, {"in_segment": a}))
    assert sorted(answer.status_code for answer in answers) == [200, 422]


async def test_an_edit_may_not_make_its_users_too_large(api: Running) -> None:
    def wide(n: int) -> dict[str, Any]:
        return {"any": [{"attribute": {"name": str(i), "op": "exists"}} for i in range(n)]}

    base = await segment(api, EVERYBODY)
    middle = await segment(api, {"all": [{"in_segment": base}, {"in_segment": base}]})
    user = await campaign(api, rule={"not": {"in_segment": middle}})
    assert (await change(api, base, wide(150))).status_code == 200
    answer = await change(api, base, wide(151))
    assert set(pointers(answer)) == {"/rule"}
    messages = [error["message"] for error in answer.json()["errors"]]
    assert {message.split()[0] for message in messages} == {middle, user}
    await api.client.post(f"/v1/campaigns/{user}/stop")
    assert (await api.client.delete(f"/v1/segments/{middle}")).status_code == 204
    assert (await change(api, base, wide(151))).status_code == 200


async def test_rules_name_campaigns_that_are_there(api: Running) -> None:
    asked = await campaign(api, rule=EVERYBODY)
    rule = {"not": {"messaged": {"campaign_id": asked, "status": "delivered", "window": {"last": "P14D"}}}}
    asking = await segment(api, rule)
    assert (await api.client.delete(f"/v1/campaigns/{asked}")).status_code == 409
    unknown = {"not": {"messaged": {"campaign_id": f"cmp_{MISSING}", "status": "clicked"}}}
    found = pointers(await change(api, asking, unknown))
    assert found == {"/rule/not/messaged/campaign_id": "there is no such campaign"}
    answer = await api.client.post("/v1/segments/estimate", json={"rule": unknown})
    assert set(pointers(answer)) == {"/rule/not/messaged/campaign_id"}
    assert (await api.client.delete(f"/v1/segments/{asking}")).status_code == 204
    own = (await api.client.get(f"/v1/campaigns/{asked}")).json()
    own["who"]["rule"] = rule
    assert (await api.client.put(f"/v1/campaigns/{asked}", json=own, headers=ANY_VERSION)).status_code == 200
    assert (await api.client.delete(f"/v1/campaigns/{asked}")).status_code == 204


async def test_an_uploaded_list_is_there_as_a_whole(api: Running, members: dict[str, list[str]]) -> None:
    ids = [f"u-{n}" for n in range(25_000)]
    answer = await upload(api, "user_id\n" + "\n".join([*ids, "u-1"]))
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert (made["name"], made["state"], made["members"]) == ("VIPs", "ready", 25_000)
    assert made["id"].startswith("lst_")
    assert answer.headers["location"] == f"/v1/user-lists/{made['id']}"
    assert members[made["id"]] == [*ids, "u-1"]
    path = answer.headers["location"]
    assert (await api.client.get(path)).json() == made
    assert made["id"] in {item["id"] for item in (await api.client.get("/v1/user-lists")).json()["items"]}
    lines = "\n".join(json.dumps({"user_id": id}) for id in ids)
    answer = await upload(api, lines, media_type="application/x-ndjson")
    assert members[answer.json()["id"]] == ids


async def test_a_list_that_is_asked_cannot_be_deleted(api: Running, members: dict[str, list[str]]) -> None:
    id = (await upload(api, "u-1")).json()["id"]
    user = await segment(api, {"any": [{"user_list": id}]})
    assert await used_by(api, f"/v1/user-lists/{id}") == {"count": 1, "campaigns": [], "segments": [user]}
    assert (await api.client.delete(f"/v1/user-lists/{id}")).status_code == 409
    assert (await api.client.delete(f"/v1/segments/{user}")).status_code == 204
    assert (await api.client.delete(f"/v1/user-lists/{id}")).status_code == 204
    assert (await api.client.get(f"/v1/user-lists/{id}")).status_code == 404
    assert (await api.client.delete(f"/v1/user-lists/{id}")).status_code == 404
    assert id not in members
    answer = await api.client.post("/v1/segments", json={"name": "S", "rule": {"user_list": id}})
    assert pointers(answer) == {"/rule/user_list": "there is no such user list"}


async def test_a_line_that_is_wrong_leaves_nothing_behind(api: Running, members: dict[str, list[str]]) -> None:
    before = (await api.client.get("/v1/user-lists?limit=1000")).json()
    body = "\n".join([*(f"u-{n}" for n in range(30_000)), "u,v", "u-x"])
    found = pointers(await upload(api, body))
    assert set(found) == {"/line/30001"}
    assert "2 columns" in found["/line/30001"]
    assert members == {}
    assert (await api.client.get("/v1/user-lists?limit=1000")).json() == before


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"media_type": "application/json"}, 415),
        ({"media_type": "text/csv; charset=utf-8"}, 201),
        ({"headers": {"Content-Encoding": "gzip"}}, 415),
        ({"params": {"name": ""}}, 422),
        ({"params": {}}, 422),
        ({"params": {"name": "a\0b"}}, 422),
    ],
)
async def test_a_list_needs_its_name_and_its_media_type(
    api: Running, members: dict[str, list[str]], given: dict[str, Any], status: int
) -> None:
    params = given.pop("params", {"name": "VIPs"})
    headers = {"Content-Type": given.get("media_type", "text/csv"), **given.get("headers", {})}
    answer = await api.client.post("/v1/user-lists", params=params, content="u-1", headers=headers)
    assert answer.status_code == status, answer.text


async def test_one_idempotency_key_makes_one_list(api: Running, members: dict[str, list[str]]) -> None:
    key = {"Idempotency-Key": "vips"}
    answers = await asyncio.gather(*(upload(api, "u-1\nu-2", headers=key) for _ in range(4)))
    assert {(a.status_code, a.text, a.headers["etag"], a.headers["location"]) for a in answers} == {
        (201, answers[0].text, '"2"', f"/v1/user-lists/{answers[0].json()['id']}")
    }
    assert list(members) == [answers[0].json()["id"]]
    again = await upload(api, "u-1\nu-2", headers=key)
    assert (again.status_code, again.text) == (201, answers[0].text)
    assert (await upload(api, "u-1\nu-3", headers=key)).status_code == 409
    assert list(members) == [answers[0].json()["id"]]


async def test_without_the_event_store_no_list_is_made_and_none_is_lost(
    api: Running, members: dict[str, list[str]]
) -> None:
    store = api.elsewhere.answers["/internal/user-lists/*"]
    id = (await upload(api, "u-1")).json()["id"]

    def away(_: Request) -> Any:
        raise httpx.ConnectError("refused")

    api.elsewhere.answers["/internal/user-lists/*"] = away
    answer = await upload(api, "u-2")
    assert answer.status_code == 503
    assert "segment-engine" in answer.json()["detail"]
    assert (await api.client.delete(f"/v1/user-lists/{id}")).status_code == 204
    assert (await api.client.get(f"/v1/user-lists/{id}")).status_code == 404
    assert list(members) == [id]
    housekeeping = Housekeeping(api.services.database, api.services.segment_engine)
    await housekeeping.sweep()
    assert list(members) == [id]
    api.elsewhere.answers["/internal/user-lists/*"] = store
    await housekeeping.sweep()
    assert members == {}
    asked = len(api.elsewhere.asked)
    await housekeeping.sweep()
    assert len(api.elsewhere.asked) == asked


async def test_while_its_ids_come_a_list_is_seen_and_not_asked(api: Running, members: dict[str, list[str]]) -> None:
    half, rest = asyncio.Event(), asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"u-1\n"
        half.set()
        await rest.wait()
        yield b"u-2\n"

    uploading = asyncio.create_task(
        api.client.post("/v1/user-lists?name=Slow", content=body(), headers={"Content-Type": "text/csv"})
    )
    await half.wait()
    (loading,) = [
        item for item in (await api.client.get("/v1/user-lists")).json()["items"] if item["state"] == "loading"
    ]
    assert (loading["name"], loading["members"]) == ("Slow", None)
    rule = {"not": {"user_list": loading["id"]}}
    answer = await api.client.post("/v1/segments", json={"name": "S", "rule": rule})
    assert pointers(answer) == {"/rule/not/user_list": "the user list is still being uploaded"}
    assert (await api.client.delete(f"/v1/user-lists/{loading['id']}")).status_code == 204
    rest.set()
    assert (await uploading).status_code == 409
    assert members == {}
