"""Inaction, dates and filters end to end: through the API, with all four services as processes."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from demo.story import adds_up
from postrider.local.client import ApiClient
from tests.support.eventually import eventually

pytestmark = pytest.mark.e2e


def new() -> str:
    return uuid.uuid4().hex[:10]


def person(user: str, number: int, **traits: Any) -> dict[str, Any]:
    traits = {"phone": f"+1202556{number:04}", **traits}
    return {"type": "identify", "userId": user, "messageId": new(), "traits": traits}


def did(user: str, event: str, **properties: Any) -> dict[str, Any]:
    return {"type": "track", "userId": user, "messageId": new(), "event": event, "properties": properties}


async def scheduled(api: ApiClient, kind: str, who: dict[str, Any], body: str) -> dict[str, Any]:
    provider = await api.post("/v1/providers", {"name": new(), "kind": "sandbox", "settings": {}})
    campaign = {
        "name": f"c-{new()}", "kind": kind, "message_class": "transactional", "when": {}, "who": who,
        "what": {"body": body, "provider_id": provider["id"]},
    }  # fmt: skip
    created = await api.post("/v1/campaigns", campaign)
    answer: dict[str, Any] = await api.post(f"/v1/campaigns/{created['id']}/schedule")
    return answer


async def texts(api: ApiClient, campaign: str) -> list[tuple[str, str]]:
    counts = (await api.get(f"/v1/campaigns/{campaign}/report"))["funnel"]
    assert adds_up(counts), counts
    inbox = await api.items("/v1/sandbox/inbox")
    return sorted((text["user_id"], text["body"]) for text in inbox if text["campaign_id"] == campaign)


async def test_whoever_does_not_act_in_time_gets_one_text(api: ApiClient) -> None:
    cart, bought = f"Cart-{new()}", f"Bought-{new()}"
    trigger = {"event": cart, "unless": {"event": bought}, "within": "PT2S", "same_property": "cart_id"}
    gold = {"attribute": {"name": "plan", "op": "eq", "value": "gold"}}
    who = {"trigger": trigger, "filter": gold}
    campaign = await scheduled(api, "live_inaction", who, "Cart {{ Event.cart_id }}, {{ Profile.first_name }}")
    id = campaign["id"]
    left, acted, silver = new(), new(), new()
    await api.batch(
        [
            person(left, 1, plan="gold", first_name="Ann"),
            person(acted, 2, plan="gold", first_name="Bob"),
            person(silver, 3, plan="silver", first_name="Cy"),
            *(did(user, cart, cart_id="c-1") for user in (left, acted, silver)),
        ]
    )
    await api.batch([did(acted, bought, cart_id="c-1"), did(left, bought, cart_id="c-2")])

    async def texted() -> list[tuple[str, str]]:
        return await texts(api, id)

    assert await eventually(texted, 30) == [(left, "Cart c-1, Ann")]
    await asyncio.sleep(2)
    assert await texts(api, id) == [(left, "Cart c-1, Ann")]
    # A later event meets the edited span; a stop reaches what is armed.
    campaign = await api.get(f"/v1/campaigns/{id}")
    campaign["who"]["trigger"]["within"] = "PT1H"
    await api.call("PUT", f"/v1/campaigns/{id}", campaign, If_Match="*")
    await api.batch([did(left, cart, cart_id="c-3")])
    await api.post(f"/v1/campaigns/{id}/stop")
    assert (await api.get(f"/v1/campaigns/{id}"))["status"] == "stopped"


async def test_a_stop_forgets_what_is_armed(api: ApiClient) -> None:
    cart = f"Cart-{new()}"
    who = {"trigger": {"event": cart, "unless": {"event": f"Bought-{new()}"}, "within": "PT2S"}}
    id = (await scheduled(api, "live_inaction", who, "Cart"))["id"]
    early, late = new(), new()
    await api.batch([person(early, 11), did(early, cart)])

    async def texted() -> bool:
        return await texts(api, id) == [(early, "Cart")]

    await eventually(texted, 30)
    await api.batch([person(late, 12), did(late, cart)])
    await api.post(f"/v1/campaigns/{id}/stop")
    await asyncio.sleep(4)
    assert await texted()
    assert (await api.get(f"/v1/campaigns/{id}/report"))["funnel"]["qualified"] == 1


async def test_a_date_of_the_profile_and_one_of_an_event(api: ApiClient) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=8)
    known, later = new(), new()
    await api.batch([person(known, 4, renews=soon.isoformat(), first_name="Dee"), person(later, 5, first_name="Eve")])
    who = {"trigger": {"date_attribute": "renews"}}
    attribute = await scheduled(api, "live_date", who, "Renewed, {{ Profile.first_name }}")
    trip = f"Trip-{new()}"
    trigger = {"event": trip, "date_property": "leaves", "offset": "-P1D"}
    event = await scheduled(api, "live_date", {"trigger": trigger}, "To {{ Event.to }}")
    await api.batch([did(later, trip, leaves=(soon + timedelta(days=1)).isoformat(), to="Goa")])

    async def both() -> bool:
        return (await texts(api, attribute["id"]), await texts(api, event["id"])) == (
            [(known, "Renewed, Dee")], [(later, "To Goa")],
        )  # fmt: skip

    await eventually(both, 40)
