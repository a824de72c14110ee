"""A live campaign that ends by itself when its total was sent, and estimates after caps: over HTTP, on real parts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest
from fastapi import Request, Response

from postrider.contracts import codec
from postrider.contracts.delivery_events import FUNNEL_MOVED, FunnelMoved
from postrider.contracts.envelope import Outgoing, headers_of
from postrider.contracts.topics import CAMPAIGN_DEFINITIONS, DELIVERY_EVENTS
from tests.support.campaign_api import REACH, Running, running
from tests.support.eventually import eventually
from tests.support.parts import create_database, drop_database, topic_prefix

pytestmark = pytest.mark.integration
numbers = count()


@pytest.fixture(scope="module")
async def api(kafka: str, database: str) -> AsyncIterator[Running]:
    url = await create_database(database)
    async with running(kafka, url, topic_prefix()) as api:
        yield api
    await drop_database(url)


async def started(api: Running, total: int | None) -> str:
    provider = await api.client.post("/v1/providers", json={"name": "S", "kind": "sandbox", "settings": {}})
    body = {
        "name": "Coupons",
        "kind": "live_action",
        "when": {},
        "who": {"trigger": {"event": "E"}, "limits": {"total": total}},
        "what": {"body": "Hello", "provider_id": provider.json()["id"]},
    }
    id = str((await api.client.post("/v1/campaigns", json=body)).json()["id"])
    await act(api, id, "schedule", "running")
    return id


async def act(api: Running, id: str, action: str, then: str) -> None:
    answer = await api.client.post(f"/v1/campaigns/{id}/{action}")
    assert (answer.status_code, answer.json().get("status")) == (200, then), answer.text


async def limit(api: Running, id: str, total: int | None) -> Any:
    """The answer to an edit of the total."""
    shown = (await api.client.get(f"/v1/campaigns/{id}")).json()
    shown["who"]["limits"] = {"total": total}
    return await api.client.put(f"/v1/campaigns/{id}", json=shown, headers={"If-Match": "*"})


async def move(api: Running, id: str, n: int, *path: str, times: int = 1) -> None:
    """`n` people along these statuses, each move told so often."""
    for before, after in zip(("", *path), path, strict=False):
        moved = FunnelMoved(id, after, n, from_status=before, reason="total" if after == "limited" else "")
        headers = headers_of(f"move-{next(numbers)}", FUNNEL_MOVED, "test", datetime.now(UTC))
        topic = DELIVERY_EVENTS.full_name(api.prefix)
        await api.services.publisher.publish([Outgoing(topic, id.encode(), codec.encode(moved), headers)] * times)


async def is_counted(api: Running, id: str, **counts: int) -> bool:
    funnel = (await api.client.get(f"/v1/campaigns/{id}/report")).json()["funnel"]
    return all(funnel[status] == n for status, n in counts.items())


async def status(api: Running, id: str) -> str:
    return str((await api.client.get(f"/v1/campaigns/{id}")).json()["status"])


async def is_completed(api: Running, id: str) -> bool:
    return await status(api, id) == "completed"


async def defined(api: Running, id: str) -> list[str]:
    records = [record for record in await api.read_topic(CAMPAIGN_DEFINITIONS) if record.key == id.encode()]
    return [str(codec.decode(record.value, dict)["status"]) for record in records]


async def test_it_is_completed_once_when_the_last_slot_is_a_text(api: Running) -> None:
    id = await started(api, 3)
    await move(api, id, 2, "pending", "awaiting_receipt", times=2)
    await move(api, id, 1, "pending", "in_doubt")
    await move(api, id, 4, "limited")
    await eventually(lambda: is_counted(api, id, accepted=2, in_doubt=1, limited=4), 20)
    assert await status(api, id) == "running"  # a look-up may free the slot yet
    await move(api, id, 1, "pending", "rejected")
    await eventually(lambda: is_counted(api, id, rejected=1), 20)
    assert await status(api, id) == "running"
    for before, after in (("in_doubt", "unknown"), ("awaiting_receipt", "delivered")):
        moved = FunnelMoved(id, after, 1, from_status=before)
        headers = headers_of(f"{id}:{after}", FUNNEL_MOVED, "test", datetime.now(UTC))
        record = Outgoing(DELIVERY_EVENTS.full_name(api.prefix), id.encode(), codec.encode(moved), headers)
        await api.services.publisher.publish([record, record])
    await eventually(lambda: is_completed(api, id), 20)
    await eventually(lambda: is_counted(api, id, accepted=2, unknown=1, delivered=1), 20)
    assert await defined(api, id) == ["running", "completed"]
    shown = (await api.client.get(f"/v1/campaigns/{id}")).json()
    assert shown["end_reason"] is None
    assert (await limit(api, id, 9)).status_code == 409


async def test_an_edit_of_the_total_counts_from_then_on(api: Running) -> None:
    id = await started(api, 3)
    await move(api, id, 2, "pending", "awaiting_receipt")
    assert (await limit(api, id, 5)).json()["status"] == "running"
    await move(api, id, 1, "pending", "awaiting_receipt")
    await eventually(lambda: is_counted(api, id, accepted=3), 20)
    assert await status(api, id) == "running"
    lowered = await limit(api, id, 3)
    assert (lowered.status_code, lowered.json()["status"]) == (200, "completed")
    assert await defined(api, id) == ["running", "running", "completed"]


async def test_a_total_reached_in_a_pause_ends_it_at_the_resume(api: Running) -> None:
    id = await started(api, 1)
    await act(api, id, "pause", "paused")
    await move(api, id, 1, "pending", "awaiting_receipt")
    await eventually(lambda: is_counted(api, id, accepted=1), 20)
    assert await status(api, id) == "paused"
    await act(api, id, "resume", "completed")


async def test_a_campaign_without_a_total_goes_on_and_gets_none(api: Running) -> None:
    id = await started(api, None)
    await move(api, id, 50, "pending", "awaiting_receipt")
    await eventually(lambda: is_counted(api, id, accepted=50), 20)
    assert await status(api, id) == "running"
    refused = await limit(api, id, 60)
    assert refused.status_code == 409
    assert refused.json()["errors"][0]["pointer"] == "/who/limits/total"


async def test_an_estimate_is_after_caps_and_says_when_it_cannot_be(api: Running) -> None:
    current = (await api.client.get("/v1/settings")).json()
    capped = current | {"frequency_caps": [{"count": 2, "per": "P1D"}]}
    assert (await api.client.put("/v1/settings", json=capped, headers={"If-Match": "*"})).status_code == 200
    asked: list[Any] = []

    async def estimate(request: Request) -> Any:
        asked.append(await request.json())
        return REACH | {"people": [{"user_id": f"u{n}", "zone": "UTC"} for n in range(asked[-1].get("people", 0))]}

    async def caps(request: Request) -> Any:
        asked.append(await request.json())
        return {"asked": len(asked[-1]["people"]), "capped": len(asked[-1]["people"]) // 5}

    api.elsewhere.answers |= {"/internal/estimate": estimate, "/internal/capped": caps}
    id = await started(api, 3)
    shown = (await api.client.post(f"/v1/campaigns/{id}/estimate")).json()
    assert (shown["reachable"], shown["capped"], shown["limited"], shown["texts"]) == (5, 1, 1, 3)
    assert asked[0]["people"] == len(asked[1].pop("people")) == 1_000
    assert asked[1] == {
        "campaign_id": id, "ignore_frequency_caps": False, "min_gap_seconds": 0, "send_by_seconds": 900, "due_at": None,
    }  # fmt: skip

    def away(_: Request) -> Response:
        return Response(status_code=503)

    api.elsewhere.answers["/internal/capped"] = away
    shown = (await api.client.post(f"/v1/campaigns/{id}/estimate")).json()
    assert (shown["capped"], shown["limited"], shown["texts"]) == (None, 2, 3)
    assert (await api.client.put("/v1/settings", json=current, headers={"If-Match": "*"})).status_code == 200
    assert (await api.client.post(f"/v1/campaigns/{id}/estimate")).json()["capped"] == 0
