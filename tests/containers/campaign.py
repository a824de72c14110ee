"""One scheduled and one live campaign over HTTP alone, against an installation of which nothing else is known."""

from __future__ import annotations

import uuid
from typing import Any

from demo.story import adds_up
from postrider.local.client import ApiClient
from tests.support.eventually import eventually

PATIENCE_SECONDS = 90.0


async def play(api: ApiClient, people: int = 60) -> dict[str, dict[str, int]]:
    """Both funnels, by kind. Raises AssertionError when a text is missing, doubled or wrong, or a funnel is."""
    tag = uuid.uuid4().hex[:8]
    provider = await api.post(
        "/v1/providers", {"name": f"smoke-{tag}", "kind": "sandbox", "settings": {"receipt": "delivered"}}
    )
    group = await api.post("/v1/provider-groups", {"name": f"smoke-{tag}", "provider_ids": [provider["id"]]})
    users = [f"{tag}-{number}" for number in range(people)]
    await api.batch(
        [
            _message("identify", user, traits={"phone": f"+1202555{number:04}", "first_name": f"N{number}"})
            for number, user in enumerate(users)
        ]
        + [_message("identify", f"{tag}-nobody", traits={"first_name": "No phone"})]
    )
    everyone = [*users, f"{tag}-nobody"]
    await api.batch([_message("track", user, event=f"Bought {tag}") for user in everyone], historic=True)
    scheduled = await _launch(
        api, kind="one_time", when={"at": "now", "time_zone": "account"},
        who={"rule": bought(tag)}, what={"body": "Hi {{ Profile.first_name }}", "provider_group_id": group["id"]},
    )  # fmt: skip
    live = await _launch(
        api, kind="live_action", when={}, who={"trigger": {"event": f"Paid {tag}"}},
        what={"body": "Thanks for {{ Event.amount }}", "provider_group_id": group["id"]},
    )  # fmt: skip
    await api.until_campaign(scheduled, PATIENCE_SECONDS, "completed")
    paid = [_message("track", user, event=f"Paid {tag}", properties={"amount": 7}) for user in users[:5]]
    for _ in range(3):
        await api.batch(paid)
    funnels = {
        "scheduled": await _until_delivered(api, scheduled, people),
        "live": await _until_delivered(api, live, 5),
    }
    assert (funnels["scheduled"]["qualified"], funnels["scheduled"]["unreachable"]) == (people + 1, 1), funnels
    assert funnels["live"]["qualified"] == 5, funnels
    texts = [(text["user_id"], text["body"]) for text in await _inbox(api, scheduled)]
    assert sorted(texts) == sorted((user, f"Hi N{number}") for number, user in enumerate(users))
    texts = [(text["user_id"], text["body"]) for text in await _inbox(api, live)]
    assert sorted(texts) == sorted((user, "Thanks for 7") for user in users[:5])
    return funnels


def bought(tag: str) -> dict[str, Any]:
    return {"all": [{"did": {"event": f"Bought {tag}", "count": {"op": "gte", "value": 1}}}]}


def _message(kind: str, user: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "userId": user, "messageId": uuid.uuid4().hex, **more}


async def _launch(api: ApiClient, **campaign: Any) -> str:
    body = {"name": f"smoke-{uuid.uuid4().hex[:8]}", "message_class": "transactional", **campaign}
    created = await api.post("/v1/campaigns", body)
    await api.post(f"/v1/campaigns/{created['id']}/schedule")
    return str(created["id"])


async def _until_delivered(api: ApiClient, campaign: str, people: int) -> dict[str, int]:
    async def delivered() -> dict[str, int] | None:
        funnel: dict[str, int] = (await api.get(f"/v1/campaigns/{campaign}/report"))["funnel"]
        assert adds_up(funnel), funnel
        assert funnel["delivered"] == people, funnel
        return funnel

    funnel: dict[str, int] = await eventually(delivered, PATIENCE_SECONDS, every=0.5)
    return funnel


async def _inbox(api: ApiClient, campaign: str) -> list[dict[str, Any]]:
    return [text for text in await api.items("/v1/sandbox/inbox") if text["campaign_id"] == campaign]
