"""/verify and /test-send through the API: what the dispatcher is asked, what the caller reads, and one text a key."""

from __future__ import annotations

from typing import Any

import httpx
import msgspec
import pytest
from fastapi import Request, Response

from tests.support.campaign_api import PROFILE, TRIED, VERIFIED, Running

pytestmark = pytest.mark.integration

DRAFT: dict[str, Any] = {
    "name": "Sale", "kind": "live_action", "when": {}, "who": {"trigger": {"event": "Bought"}},
    "what": {"body": "{{ Profile.city }} {{ Profile.name }} {{ Event.amount }}"},
}  # fmt: skip
TO = "+12025550142"


class Dispatcher:
    """Keeps test sends by their id, as the real one's ledger does; `refuses`: phones that are suppressed."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.kept: dict[str, dict[str, Any]] = {}
        self.refuses: set[str] = set()
        self.is_away = False
        self.status = "awaiting_receipt"

    async def send(self, request: Request) -> Any:
        if self.is_away:
            return Response(b"", 500)
        if request.method == "GET":
            found = self.kept.get(request.query_params["message_id"])
            return Response(b'{"title":"Not found"}', 404) if found is None else found
        asked = msgspec.json.decode(await request.body())
        if asked["phone"] in self.refuses:
            return Response(b'{"detail":"the phone is suppressed: opted_out"}', 409)
        self.asked.append(asked)
        shown = TRIED | {"id": asked["message_id"], "phone": asked["phone"], "status": self.status}
        return self.kept.setdefault(asked["message_id"], shown)


@pytest.fixture
def dispatcher(api: Running) -> Dispatcher:
    made = Dispatcher()
    api.elsewhere.answers["/internal/test-sends"] = made.send
    return made


async def post(
    api: Running, path: str, body: dict[str, Any], status: int = 201, headers: dict[str, str] | None = None
) -> dict[str, Any]:
    answer = await api.client.post(path, json=body, headers=headers)
    assert answer.status_code == status, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


async def sandbox(api: Running) -> str:
    return str((await post(api, "/v1/providers", {"name": "S", "kind": "sandbox", "settings": {}}))["id"])


def pointers(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 422, answer.text
    return [error["pointer"] for error in answer.json()["errors"]]


async def test_a_draft_is_tried_with_a_person_s_values_and_those_given(api: Running, dispatcher: Dispatcher) -> None:
    api.elsewhere.answers["/internal/profile"] = lambda _: PROFILE
    first, other = await sandbox(api), await sandbox(api)
    group = {"name": "G", "provider_ids": [first], "is_default": True}
    await post(api, "/v1/provider-groups", group)
    draft = (await post(api, "/v1/campaigns", DRAFT))["id"]
    path = f"/v1/campaigns/{draft}/test-send"
    values = {"user_id": "u/1", "profile": {"name": "Ada", "secret": 1}, "event": {"amount": 7, "more": 2}}
    answer = await api.client.post(path, json={"to": "+1 202 555 0142", **values})
    assert answer.status_code == 201 and answer.json()["test"] is True
    asked = dispatcher.asked[-1]
    assert answer.headers["location"] == f"/v1/test-sends/{asked['message_id']}"
    assert (asked["phone"], asked["country"], asked["campaign_id"], asked["user_id"]) == (TO, "US", draft, "u/1")
    # Only what the templates name, the caller's own before the person's.
    assert (asked["profile"], asked["event"]) == ({"city": "Pune", "name": "Ada"}, {"amount": 7})
    assert asked["what"]["provider_id"] is None and asked["is_live"] is True

    await post(
        api, path, {"to": TO, "provider_id": other, "body": "Other {{ Profile.name }}", "profile": {"name": "B"}}
    )
    asked = dispatcher.asked[-1]
    assert (asked["what"]["body"], asked["what"]["provider_id"], asked["profile"]) == (
        "Other {{ Profile.name }}", other, {"name": "B"},
    )  # fmt: skip
    dispatcher.status = "pending"
    later = await api.client.post(path, json={"to": TO})
    assert later.status_code == 202
    assert (await api.client.get(later.headers["location"])).json()["status"] == "pending"
    assert (await api.client.get("/v1/test-sends/nothing")).status_code == 404


async def test_what_is_wrong_points_into_the_request_or_the_campaign(api: Running, dispatcher: Dispatcher) -> None:
    body = {"name": "M", "kind": "msg91", "settings": {}, "credentials": {"auth_key": "k"}}
    templates, gone = (await post(api, "/v1/providers", body))["id"], await sandbox(api)
    draft = (await post(api, "/v1/campaigns", {**DRAFT, "what": {"body": "Hi", "provider_id": gone}}))["id"]
    await post(api, f"/v1/providers/{gone}/archive", {}, 200)

    async def of(path: str, **body: Any) -> list[str]:
        return pointers(await api.client.post(path, json={"to": TO, **body}))

    by_provider, by_campaign = f"/v1/providers/{templates}/test-send", f"/v1/campaigns/{draft}/test-send"
    assert await of(by_provider, body="Hi") == ["/body", "/template_id"]
    assert await of(by_provider, template_id="t", template_variables=["{{ x"]) == ["/template_variables/0"]
    assert await of(by_provider, template_id="t", to="nobody") == ["/to"]
    assert await of(by_campaign) == ["/what/provider_id"]
    assert await of(by_campaign, provider_id="prv_no") == ["/provider_id"]
    assert await of(by_campaign, provider_id=templates) == ["/what/body", "/what/template_id"]
    assert await of(by_campaign, provider_id=templates, body="Hi") == ["/body", "/what/template_id"]
    assert (await api.client.post(f"/v1/providers/{gone}/test-send", json={"to": TO, "body": "x"})).status_code == 409
    assert dispatcher.asked == []
    good = {"to": TO, "template_id": "t", "template_variables": ["{{ Profile.name }}"], "profile": {"name": "Ada"}}
    await post(api, by_provider, good)
    assert dispatcher.asked[-1]["profile"] == {"name": "Ada"}


async def test_a_key_that_comes_again_meets_the_same_text(api: Running, dispatcher: Dispatcher) -> None:
    provider = await sandbox(api)
    path, body, key = f"/v1/providers/{provider}/test-send", {"to": TO, "body": "Hi"}, {"Idempotency-Key": "k-1"}
    dispatcher.is_away = True
    assert (await api.client.post(path, json=body, headers=key)).status_code == 503
    dispatcher.is_away = False
    first = await post(api, path, body, headers=key)
    assert (await post(api, path, body, headers=key))["id"] == first["id"]
    other = await api.client.post(path, json={**body, "body": "Ho"}, headers=key)
    assert other.status_code == 409
    await post(api, f"/v1/providers/{provider}/archive", {}, 200)
    assert (await post(api, path, body, headers=key))["id"] == first["id"], (
        "what was sent is told, whatever was edited since"
    )
    assert len(dispatcher.asked) == 1

    dispatcher.refuses = {TO}
    path, key = f"/v1/providers/{await sandbox(api)}/test-send", {"Idempotency-Key": "k-2"}
    refused = await api.client.post(path, json=body, headers=key)
    assert refused.status_code == 409 and "opted_out" in refused.json()["detail"]
    assert refused.json()["errors"][0]["pointer"] == "/to"
    await post(api, path, {**body, "to": "+12025550143"}, headers=key)
    assert len({each["message_id"] for each in dispatcher.asked}) == 2


async def test_verify_is_the_dispatcher_s_word_or_503(api: Running) -> None:
    provider = await sandbox(api)
    word = VERIFIED | {"ok": False, "reason": "20003"}
    api.elsewhere.answers[f"/internal/providers/{provider}/verify"] = lambda _: word
    assert await post(api, f"/v1/providers/{provider}/verify", {}, 200) == word
    waiting = b'{"detail":"the provider is not published yet"}'
    api.elsewhere.answers[f"/internal/providers/{provider}/verify"] = lambda _: Response(waiting, 503)
    later = await api.client.post(f"/v1/providers/{provider}/verify")
    assert later.status_code == 503 and later.headers["retry-after"] and "not published yet" in later.json()["detail"]
    missing = f"{provider[:-4]}0000"
    assert (await api.client.post(f"/v1/providers/{missing}/verify")).status_code == 404
