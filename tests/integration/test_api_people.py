"""campaign-api about people: estimates and what they cost, profiles, the catalogue. The segment-engine is scripted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from fastapi import HTTPException, Request, Response

from tests.support.campaign_api import PROFILE, REACH, SEEN_ATTRIBUTES, SEEN_EVENTS, Running, running
from tests.support.parts import create_database, drop_database, topic_prefix

pytestmark = pytest.mark.integration
EVERYBODY: dict[str, Any] = {"all": []}
SAMPLE: dict[str, Any] = {
    "size": 4, "rendered": 3, "failures": [{"status": "personalisation_failed", "reason": "missing_value", "n": 1}],
    "parts": {"min": 1, "max": 2, "total": 4},
}  # fmt: skip


@pytest.fixture(scope="module")
async def api(kafka: str, database: str) -> AsyncIterator[Running]:
    url = await create_database(database)
    async with running(kafka, url, topic_prefix()) as api:
        yield api
    await drop_database(url)


async def created(api: Running, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = await api.client.post(path, json=body)
    assert answer.status_code == 201, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


async def priced(api: Running, price: str | None) -> None:
    current = (await api.client.get("/v1/settings")).json()
    answer = await api.client.put("/v1/settings", json=current | {"price_per_part": price}, headers={"If-Match": "*"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["price_per_part"] == price


async def sandbox(api: Running, **more: Any) -> str:
    body = {"name": "Sandbox", "kind": "sandbox", "settings": {}, **more}
    return str((await created(api, "/v1/providers", body))["id"])


def answering(api: Running, **changes: Any) -> list[dict[str, Any]]:
    """What the segment-engine is asked from now on, as it comes."""
    asked: list[dict[str, Any]] = []

    async def estimate(request: Request) -> dict[str, Any]:
        asked.append(await request.json())
        return REACH | changes

    api.elsewhere.answers["/internal/estimate"] = estimate
    return asked


async def test_a_rule_is_estimated_with_and_without_a_text(api: Running) -> None:
    await priced(api, "0.0079")
    asked = answering(api, sample=SAMPLE)
    answer = await api.client.post("/v1/segments/estimate", json={"rule": EVERYBODY, "what": {"body": "Hi"}})
    found = answer.json()
    assert answer.status_code == 200, answer.text
    assert asked[0]["rule"] == EVERYBODY
    assert asked[0]["text"] == {
        "body": "Hi", "max_parts": None, "transliterate": False, "live": False, "campaign": {},
    }  # fmt: skip
    assert found["parts"] == {"min": 1, "mean": 1.33, "max": 2}
    assert found["sample"] == {"size": 4, "rendered": 3, "failed_share": 0.25, "failures": SAMPLE["failures"]}
    # Five texts of one part each on average, the one in four that fails counted as none.
    assert (found["texts"], found["cost"]) == (5, {"price_per_part": "0.0079", "total": "0.0395"})
    assert found["by_reason"] == REACH["by_reason"]
    asked = answering(api)
    found = (await api.client.post("/v1/segments/estimate", json={"rule": EVERYBODY})).json()
    assert ("text" in asked[0], found["sample"], found["parts"], found["cost"]) == (False, None, None, None)
    wrong = await api.client.post("/v1/segments/estimate", json={"rule": EVERYBODY, "what": {"body": "{{ Event.x }}"}})
    assert wrong.status_code == 422
    assert [error["pointer"] for error in wrong.json()["errors"]] == ["/what/body"]


async def test_a_campaign_is_estimated_at_the_price_of_who_would_carry_it(api: Running) -> None:
    await priced(api, None)
    cheap, dear = await sandbox(api, price_per_part="0.5"), await sandbox(api, price_per_part="2")
    group = (await created(api, "/v1/provider-groups", {"name": "G", "provider_ids": [cheap, dear]}))["id"]
    body = {
        "name": "Sale", "kind": "one_time", "when": {"at": "now"}, "who": {"rule": EVERYBODY},
        "what": {"body": "Hi {{ Profile.name }}", "provider_group_id": group, "max_parts": 2},
    }  # fmt: skip
    campaign = await created(api, "/v1/campaigns", body)
    asked = answering(api, sample=SAMPLE)
    path = f"/v1/campaigns/{campaign['id']}/estimate"
    assert (await api.client.post(path)).json()["cost"] == {"price_per_part": "0.5", "total": "2.5000"}
    assert asked[0]["text"]["campaign"] == {"id": campaign["id"], "name": "Sale"}
    assert asked[0]["text"]["max_parts"] == 2
    assert asked[0]["seed"] == campaign["id"]
    await api.client.post(f"/v1/providers/{cheap}/archive")
    assert (await api.client.post(path)).json()["cost"]["price_per_part"] == "2"
    free = await created(api, "/v1/campaigns", body | {"what": {"body": "Hi", "provider_id": await sandbox(api)}})
    free_path = f"/v1/campaigns/{free['id']}/estimate"
    assert (await api.client.post(free_path)).json()["cost"] is None
    await priced(api, "3")
    assert (await api.client.post(free_path)).json()["cost"]["price_per_part"] == "3"
    assert (await api.client.post(path)).json()["cost"]["price_per_part"] == "2"


async def test_an_estimate_tries_what_the_first_provider_would_be_given(api: Running) -> None:
    msg91 = {"name": "MSG91", "kind": "msg91", "settings": {}, "credentials": {"auth_key": "k"}}
    templates = (await created(api, "/v1/providers", msg91))["id"]
    group = await created(api, "/v1/provider-groups", {"name": "G", "provider_ids": [templates, await sandbox(api)]})
    own = {"template_id": "t", "template_variables": ["{{ Profile.name }}"]}
    body = {
        "name": "Sale", "kind": "one_time", "when": {"at": "now"}, "who": {"rule": EVERYBODY},
        "what": {"body": "Hi", "provider_group_id": group["id"], "by_provider": {templates: own}},
    }  # fmt: skip
    campaign = await created(api, "/v1/campaigns", body)
    asked = answering(api, sample=SAMPLE)
    assert (await api.client.post(f"/v1/campaigns/{campaign['id']}/estimate")).status_code == 200
    given = {name: asked[0]["text"].get(name) for name in ("body", *own)}
    assert given == {"body": None, **own}


async def test_a_live_campaign_is_estimated_by_who_acted(api: Running) -> None:
    provider = await sandbox(api, price_per_part="1")
    city = {"attribute": {"name": "city", "op": "eq", "value": "Pune"}}
    trigger = {"event": "Bought", "where": [{"property": "amount", "op": "gt", "value": 50}]}
    body = {
        "name": "Thanks", "kind": "live_action", "who": {"trigger": trigger, "filter": city},
        "what": {"body": "{{ Event.amount }}", "provider_id": provider},
    }  # fmt: skip
    campaign = await created(api, "/v1/campaigns", body)
    activity = {"days": 30, "events": 30, "people": 20, "filter_holds": 100}
    asked = answering(api, sample=SAMPLE, activity=activity)
    answer = await api.client.post(f"/v1/campaigns/{campaign['id']}/estimate")
    assert answer.status_code == 200, answer.text
    assert asked[0]["trigger"] == {**trigger, "date_property": None, "date_attribute": None, "days": 30}
    assert (asked[0]["filter"], asked[0]["text"]["live"], "rule" in asked[0]) == (city, True, False)
    assert (answer.json()["activity"], answer.json()["texts"]) == (activity, 8)
    assert answer.json()["cost"] == {"price_per_part": "1", "total": "8.0000"}


def refusing(pointer: str) -> Any:
    def refuse(_: Request) -> Any:
        return Response(msgspec.json.encode({"errors": [{"pointer": pointer, "message": "means nothing"}]}), 422)

    return refuse


async def test_what_the_engine_refuses_points_into_the_campaign(api: Running) -> None:
    provider = await sandbox(api)
    segment = (await created(api, "/v1/segments", {"name": "All", "rule": EVERYBODY}))["id"]
    base = {"name": "Sale", "what": {"body": "Hi", "provider_id": provider}}
    own = {"name": "Sale", "what": {"by_provider": {provider: {"body": "Hi"}}, "provider_id": provider}}
    scheduled = {"kind": "one_time", "when": {"at": "now"}}
    live = {"kind": "live_action", "who": {"trigger": {"event": "Bought"}, "filter": EVERYBODY}}
    cases = [
        (base | scheduled | {"who": {"rule": EVERYBODY}}, "/rule/all/0", "/who/rule/all/0"),
        (base | scheduled | {"who": {"segment_id": segment}}, "/rule/all/0", "/who/segment_id"),
        (base | live, "/filter/all/1/user_list", "/who/filter/all/1/user_list"),
        (base | live, "/text/body", "/what/body"),
        (own | live, "/text/body", f"/what/by_provider/{provider}/body"),
    ]
    for body, theirs, ours in cases:
        campaign = await created(api, "/v1/campaigns", body)
        api.elsewhere.answers["/internal/estimate"] = refusing(theirs)
        answer = await api.client.post(f"/v1/campaigns/{campaign['id']}/estimate")
        assert answer.status_code == 422, answer.text
        assert answer.json()["errors"] == [{"pointer": ours, "message": "means nothing"}]


@pytest.mark.parametrize("price", ["1,5", "-1", "1e3", "", "0.123456789", "NaN", 1])
async def test_a_price_is_a_decimal_string(api: Running, price: Any) -> None:
    current = (await api.client.get("/v1/settings")).json()
    answer = await api.client.put("/v1/settings", json=current | {"price_per_part": price}, headers={"If-Match": "*"})
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/price_per_part"]
    body = {"name": "S", "kind": "sandbox", "settings": {}, "price_per_part": price}
    assert (await api.client.post("/v1/providers", json=body)).status_code == 422


@pytest.mark.parametrize("user_id", ["u-1", "a/b", "a/messages/b", "a/messages", "ä ?#&%", "..", "x" * 256])
async def test_a_profile_is_read_and_erased_by_any_id(api: Running, user_id: str) -> None:
    asked: list[tuple[str, str]] = []

    def profile(request: Request) -> Any:
        asked.append((request.method, request.query_params["user_id"]))
        return None if request.method == "DELETE" else PROFILE

    api.elsewhere.answers["/internal/profile"] = profile
    path = f"/v1/profiles/{quote(user_id, safe='').replace('.', '%2E')}"
    answer = await api.client.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["etag"] == '"3"'
    assert {name: answer.json()[name] for name in ("id", "country", "suppressed", "phone")} == {
        "id": "u/1", "country": "IN", "suppressed": "opted_out", "phone": "+919876500007",
    }  # fmt: skip
    assert (await api.client.delete(path)).status_code == 204
    assert asked == [("GET", user_id), ("DELETE", user_id)]


async def test_nobody_is_not_found_and_has_no_texts(api: Running) -> None:
    def nobody(_: Request) -> Any:
        raise HTTPException(404, "There is no such profile")

    api.elsewhere.answers["/internal/profile"] = nobody
    for path in ("/v1/profiles/nobody", f"/v1/profiles/{'x' * 257}", "/v1/profiles/a%00b"):
        for method in ("GET", "DELETE"):
            answer = await api.client.request(method, path)
            assert answer.status_code == 404, answer.text
            assert answer.json()["detail"] == "there is no such profile"
    asked: list[dict[str, str]] = []

    def messages(request: Request) -> dict[str, Any]:
        asked.append(dict(request.query_params))
        return {"items": [], "next_cursor": None}

    api.elsewhere.answers["/internal/messages"] = messages
    answer = await api.client.get("/v1/profiles/a%2Fb/messages", params={"status": "sent", "limit": 3})
    assert answer.json() == {"items": [], "next_cursor": None}
    assert asked == [{"user_id": "a/b", "status": "sent", "limit": "3"}]
    answer = await api.client.get("/v1/profiles/a/messages?status=nonsense")
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/query/status"]


async def test_the_catalogue_is_paged_by_names(api: Running) -> None:
    asked: list[dict[str, str]] = []

    def attributes(request: Request) -> dict[str, Any]:
        asked.append(dict(request.query_params))
        return SEEN_ATTRIBUTES

    api.elsewhere.answers |= {
        "/internal/catalog/events": lambda _: SEEN_EVENTS,
        "/internal/catalog/attributes": attributes,
    }
    events = (await api.client.get("/v1/catalog/events")).json()
    assert events == {"items": SEEN_EVENTS["items"], "next_cursor": None, "left_out": 0}
    page = (await api.client.get("/v1/catalog/attributes?prefix=am&limit=1")).json()
    await api.client.get("/v1/catalog/attributes", params={"cursor": page["next_cursor"]})
    assert asked == [{"prefix": "am", "after": "", "limit": "1"}, {"prefix": "", "after": "amount", "limit": "50"}]
    wrong = {"cursor=%21%21": "/query/cursor", "prefix=%00": "/query/prefix", "limit=0": "/query/limit"}
    for query, pointer in wrong.items():
        answer = await api.client.get(f"/v1/catalog/events?{query}")
        assert answer.status_code == 422, answer.text
        assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
