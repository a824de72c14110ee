"""Every action in every state of a campaign, over HTTP; actions at the same moment; and who may do what."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from postrider.contracts import codec
from postrider.contracts.delivery_events import RUN_CHANGED, RunChanged
from postrider.contracts.envelope import Outgoing, headers_of
from postrider.contracts.ids import run_id
from postrider.contracts.topics import CAMPAIGN_DEFINITIONS, DELIVERY_EVENTS
from tests.support.campaign_api import Running, running
from tests.support.eventually import eventually
from tests.support.parts import create_database, drop_database, topic_prefix

pytestmark = pytest.mark.integration

ALLOWED: dict[str, dict[str, str]] = {
    "draft": {"schedule": "scheduled", "edit": "draft", "stop": "stopped", "delete": ""},
    "pending_approval": {
        "approve": "scheduled", "reject": "rejected", "edit": "draft", "stop": "stopped", "delete": "",
    },
    "rejected": {"edit": "draft", "stop": "stopped", "delete": ""},
    "scheduled": {"edit": "scheduled", "pause": "paused", "stop": "stopped"},
    "running": {"edit": "running", "pause": "paused", "stop": "stopped"},
    "paused": {"edit": "paused", "resume": "scheduled", "stop": "stopped"},
    "completed": {},
    "stopped": {},
}  # fmt: skip
"""State → action → the state after it. Whatever is not here is a 409; a clone is always a new draft."""
ACTIONS = ("schedule", "approve", "reject", "pause", "resume", "stop", "edit", "delete")
DONE = {
    "schedule": "scheduled", "approve": "approved", "reject": "rejected", "pause": "paused", "resume": "resumed",
    "stop": "stopped", "edit": "changed", "delete": "deleted",
}  # fmt: skip
PUBLISHED = ("scheduled", "running", "paused", "completed", "stopped")


@pytest.fixture(scope="module")
async def api(kafka: str, database: str) -> AsyncIterator[Running]:
    url = await create_database(database)
    async with running(kafka, url, topic_prefix()) as api:
        yield api
    await drop_database(url)


async def draft(api: Running, kind: str = "one_time") -> dict[str, Any]:
    provider = await api.client.post("/v1/providers", json={"name": "S", "kind": "sandbox", "settings": {}})
    body: dict[str, Any] = {
        "name": "Sale",
        "kind": kind,
        "when": {"at": "2099-12-01T09:00:00"},
        "who": {"rule": {"all": []}},
        "what": {"body": "Hello", "provider_id": provider.json()["id"]},
    }
    if kind == "live_action":
        body |= {"when": {}, "who": {"trigger": {"event": "Bought"}}}
    answer = await api.client.post("/v1/campaigns", json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def do(api: Running, campaign: dict[str, Any], action: str, **headers: str) -> httpx.Response:
    path = f"/v1/campaigns/{campaign['id']}"
    if action == "delete":
        return await api.client.delete(path, headers=headers)
    if action == "edit":
        shown = (await api.client.get(path)).json()
        return await api.client.put(path, json=shown | {"name": "Better"}, headers={"If-Match": "*", **headers})
    return await api.client.post(f"{path}/{action}", headers=headers)


async def settings(api: Running, **changes: Any) -> None:
    current = (await api.client.get("/v1/settings")).json()
    answer = await api.client.put("/v1/settings", json=current | changes, headers={"If-Match": "*"})
    assert answer.status_code == 200, answer.text


async def in_state(api: Running, state: str, kind: str = "one_time") -> dict[str, Any]:
    """What follows from the work of a run is written as the run would have it."""
    campaign = await draft(api, kind)
    if state in ("pending_approval", "rejected"):
        await settings(api, approval_required=True)
        await do(api, campaign, "schedule")
        await settings(api, approval_required=False)
        if state == "rejected":
            await do(api, campaign, "reject")
    elif state != "draft":
        await do(api, campaign, "schedule")
        if state == "paused":
            await do(api, campaign, "pause")
        elif state == "stopped":
            await do(api, campaign, "stop")
        elif state in ("running", "completed"):
            async with api.services.database.begin() as tx:
                row = {"status": state, "id": campaign["id"]}
                await tx.execute(text("UPDATE resources SET status = :status WHERE id = :id"), row)
    assert await status_of(api, campaign) == state
    return campaign


async def status_of(api: Running, campaign: dict[str, Any]) -> str:
    return str((await api.client.get(f"/v1/campaigns/{campaign['id']}")).json()["status"])


async def last_published(api: Running, campaign: dict[str, Any]) -> str | None:
    records = await api.read_topic(CAMPAIGN_DEFINITIONS)
    mine = [json.loads(record.value) for record in records if record.key == campaign["id"].encode()]
    return str(mine[-1]["status"]) if mine else None


@pytest.mark.parametrize("state", ALLOWED)
async def test_each_action_in_each_state(api: Running, state: str) -> None:
    refused = await in_state(api, state)
    for action in ACTIONS:
        if action not in ALLOWED[state]:
            answer = await do(api, refused, action)
            assert answer.status_code == 409, (action, answer.text)
            detail = answer.json()["detail"]
            assert state in detail and DONE[action] in detail, detail
            if action != "delete":
                offered = detail.partition("it can be ")[2]
                assert all(DONE[each] in offered for each in ALLOWED[state]), detail
                assert not any(DONE[each] in offered for each in ACTIONS if each not in ALLOWED[state]), detail
    assert await status_of(api, refused) == state, "what is refused changes nothing"
    for action, then in ALLOWED[state].items():
        campaign = await in_state(api, state)
        answer = await do(api, campaign, action)
        assert answer.status_code == (204 if action == "delete" else 200), (action, answer.text)
        if action != "delete":
            assert answer.json()["status"] == then == await status_of(api, campaign)
            expected = then if then in PUBLISHED and (state in PUBLISHED or then == "scheduled") else None
            assert await last_published(api, campaign) == expected, "200 means published; a draft is nobody's business"
    clone = await do(api, refused, "clone")
    assert (clone.status_code, clone.json()["status"]) == (201, "draft")


async def test_a_live_campaign_runs_as_long_as_nothing_holds_it(api: Running) -> None:
    campaign = await draft(api, "live_action")
    for action, then in (("schedule", "running"), ("pause", "paused"), ("resume", "running"), ("stop", "stopped")):
        answer = await do(api, campaign, action)
        assert (answer.status_code, answer.json()["status"]) == (200, then)
    assert await last_published(api, campaign) == "stopped"


async def test_what_is_past_is_no_reason_to_refuse_what_has_ended(api: Running) -> None:
    """The state comes first: not its date is what keeps a stopped campaign from being scheduled."""
    campaign = await in_state(api, "stopped")
    async with api.services.database.begin() as tx:
        await tx.execute(
            text("UPDATE resources SET body = replace(body::text, '2099-', '2020-')::json WHERE id = :id"),
            {"id": campaign["id"]},
        )
    assert (await do(api, campaign, "schedule")).status_code == 409


@pytest.mark.parametrize("other", ["stop", "pause", "resume", "edit"])
@pytest.mark.parametrize("state", ["running", "paused"])
async def test_a_stop_wins_against_whatever_happens_at_the_same_moment(api: Running, state: str, other: str) -> None:
    campaign = await in_state(api, state)
    stopped, *others = await asyncio.gather(do(api, campaign, "stop"), *(do(api, campaign, other) for _ in range(2)))
    codes = [stopped.status_code, *(answer.status_code for answer in others)]
    assert set(codes) <= {200, 409}, codes
    assert stopped.status_code == 200 or (other == "stop" and 200 in codes), codes
    assert await status_of(api, campaign) == await last_published(api, campaign) == "stopped"


async def tell_run(api: Running, campaign: dict[str, Any], state: str) -> None:
    run, now = run_id(campaign["id"], "once"), datetime.now(UTC)
    told = RunChanged(campaign["id"], run, "once", state, now)
    headers = headers_of(f"{run}:{state}", RUN_CHANGED, "scheduler", now)
    topic = DELIVERY_EVENTS.full_name(api.prefix)
    await api.services.publisher.publish([Outgoing(topic, campaign["id"].encode(), codec.encode(told), headers)])


@pytest.mark.parametrize("action", ["stop", "pause", "edit"])
async def test_an_action_at_the_moment_of_the_completion(api: Running, action: str) -> None:
    """Whichever comes first, what was answered is what is so."""
    for moment in (0.0, 0.05, 0.2):
        campaign = await in_state(api, "scheduled")
        await tell_run(api, campaign, "expanded")
        await asyncio.sleep(moment)
        answer = await do(api, campaign, action)
        then = {"stop": "stopped", "pause": "paused", "edit": "completed"}[action]
        ended = then if answer.status_code == 200 else "completed"
        assert answer.status_code in (200, 409), answer.text
        await eventually(partial(is_published, api, campaign, ended))
        if ended == "paused":
            resumed = await do(api, campaign, "resume")
            assert resumed.json()["status"] in ("scheduled", "completed")
            await eventually(partial(is_published, api, campaign, "completed"))


async def is_published(api: Running, campaign: dict[str, Any], status: str) -> bool:
    return await status_of(api, campaign) == await last_published(api, campaign) == status


async def test_whoever_launches_what_was_read_launches_nothing_else(api: Running) -> None:
    """An edit and a launch at once, both of the version that was read: one of them is told to read again."""
    for _ in range(5):
        campaign = await draft(api)
        tag = f'"{campaign["version"]}"'
        edited, launched = await asyncio.gather(
            do(api, campaign, "edit", **{"If-Match": tag}), do(api, campaign, "schedule", **{"If-Match": tag})
        )
        assert sorted([edited.status_code, launched.status_code]) == [200, 412], (edited.text, launched.text)
        again = await do(api, campaign, "schedule", **{"If-Match": tag})
        assert again.status_code == 412
    assert (await do(api, campaign, "stop", **{"If-Match": "*"})).status_code == 200
    assert (await do(api, campaign, "stop", **{"If-Match": "no tag"})).status_code == 422


async def test_what_was_approved_is_changed_by_who_may_approve(api: Running) -> None:
    made = await api.client.post("/v1/api-keys", json={"name": "w", "scopes": ["campaigns:write"]})
    writer = {"Authorization": f"Bearer {made.json()['key']}"}
    await settings(api, approval_required=True)
    campaign = await draft(api)
    assert (await do(api, campaign, "schedule", **writer)).json()["status"] == "pending_approval"
    for action in ("approve", "reject"):
        assert (await do(api, campaign, action, **writer)).status_code == 403
    assert (await do(api, campaign, "edit", **writer)).json()["status"] == "draft", "nobody has approved it yet"
    await do(api, campaign, "schedule", **writer)
    assert (await do(api, campaign, "approve")).json()["status"] == "scheduled"
    for state in ("scheduled", "paused"):
        refused = await do(api, campaign, "edit", **writer)
        assert (refused.status_code, "approved" in refused.json()["detail"]) == (403, True)
        assert (await do(api, campaign, "edit")).json()["status"] == state
        await do(api, campaign, "pause", **writer)
    assert (await do(api, campaign, "resume", **writer)).json()["status"] == "scheduled"
    await settings(api, approval_required=False)
    assert (await do(api, campaign, "edit", **writer)).status_code == 200
    assert (await do(api, campaign, "stop", **writer)).status_code == 200
