"""The states of a campaign, its occurrences, runs and progress, over HTTP on real Kafka and Postgres."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from postrider.contracts.delivery_events import RUN_CHANGED, RunChanged
from postrider.contracts.envelope import Outgoing, headers_of
from postrider.contracts.ids import run_id
from postrider.contracts.topics import CAMPAIGN_DEFINITIONS, DELIVERY_EVENTS
from tests.support.campaign_api import Running, running
from tests.support.eventually import eventually
from tests.support.parts import create_database, drop_database, topic_prefix

pytestmark = pytest.mark.integration
EVERYBODY: dict[str, Any] = {"all": []}


@pytest.fixture(scope="module")
async def api(kafka: str, database: str) -> AsyncIterator[Running]:
    url = await create_database(database)
    async with running(kafka, url, topic_prefix()) as api:
        yield api
    await drop_database(url)


async def made(api: Running, **more: Any) -> dict[str, Any]:
    provider = await api.client.post("/v1/providers", json={"name": "S", "kind": "sandbox", "settings": {}})
    body = {
        "name": "Sale",
        "kind": "recurring",
        "when": {"recurrence": "FREQ=DAILY", "times": ["09:00"], "time_zone": "user"},
        "who": {"rule": EVERYBODY},
        "what": {"body": "Hello", "provider_id": provider.json()["id"]},
    }
    answer = await api.client.post("/v1/campaigns", json=body | more)
    assert answer.status_code == 201, answer.text
    created: dict[str, Any] = answer.json()
    return created


async def act(api: Running, campaign: dict[str, Any], action: str, status: int = 200) -> Any:
    answer = await api.client.post(f"/v1/campaigns/{campaign['id']}/{action}")
    assert answer.status_code == status, answer.text
    return answer.json()


async def defined(api: Running, campaign: dict[str, Any]) -> list[dict[str, Any]]:
    records = await api.read_topic(CAMPAIGN_DEFINITIONS)
    return [json.loads(record.value) for record in records if record.key == campaign["id"].encode()]


async def tell_run(api: Running, campaign: dict[str, Any], occurrence: str, state: str) -> None:
    run = run_id(campaign["id"], occurrence)
    changed = RunChanged(campaign["id"], run, occurrence, state, datetime.now(UTC))
    id = f"{run}:{state}:{changed.at.isoformat()}"
    record = Outgoing(
        DELIVERY_EVENTS.full_name(api.prefix),
        campaign["id"].encode(),
        json.dumps({"campaign_id": campaign["id"], "run_id": run, "occurrence": occurrence, "state": state,
                    "at": changed.at.isoformat()}).encode(),
        headers_of(id, RUN_CHANGED, "test", datetime.now(UTC)),
    )  # fmt: skip
    await api.services.publisher.publish([record])


async def status_of(api: Running, campaign: dict[str, Any]) -> str:
    return str((await api.client.get(f"/v1/campaigns/{campaign['id']}")).json()["status"])


async def is_status(api: Running, campaign: dict[str, Any], status: str) -> bool:
    return await status_of(api, campaign) == status


async def test_a_pause_and_a_resume_are_in_the_log_before_their_answers(api: Running) -> None:
    campaign = await made(api)
    await act(api, campaign, "pause", 409)
    await act(api, campaign, "schedule")
    assert (await act(api, campaign, "pause"))["status"] == "paused"
    assert [definition["status"] for definition in await defined(api, campaign)] == ["scheduled", "paused"]
    await act(api, campaign, "pause", 409)
    assert (await act(api, campaign, "resume"))["status"] == "scheduled"
    await tell_run(api, campaign, "2026-12-01T09:00:00", "running")
    await eventually(lambda: is_status(api, campaign, "running"), 20)
    await act(api, campaign, "pause")
    assert (await act(api, campaign, "resume"))["status"] == "running"
    await act(api, campaign, "pause")
    assert (await act(api, campaign, "stop"))["status"] == "stopped"
    await act(api, campaign, "resume", 409)


async def test_a_campaign_is_completed_when_it_has_no_run_ahead(api: Running) -> None:
    campaign = await made(api)
    await act(api, campaign, "schedule")
    first, second = "2026-12-01T09:00:00", "2026-12-02T09:00:00"
    await tell_run(api, campaign, first, "planned")
    await tell_run(api, campaign, first, "running")
    await tell_run(api, campaign, second, "planned")
    await tell_run(api, campaign, first, "expanded")
    await eventually(lambda: is_status(api, campaign, "running"), 20)
    await tell_run(api, campaign, second, "removed")
    await tell_run(api, campaign, second, "planned")
    await tell_run(api, campaign, second, "running")
    await eventually(lambda: has_states(api, campaign, ["expanded", "running"]), 20)
    assert await status_of(api, campaign) == "running"
    await tell_run(api, campaign, second, "expanded")
    await eventually(lambda: is_status(api, campaign, "completed"), 20)


async def has_states(api: Running, campaign: dict[str, Any], states: list[str]) -> bool:
    report = (await api.client.get(f"/v1/campaigns/{campaign['id']}/report")).json()
    return sorted(run["state"] for run in report["by_run"]) == states


async def test_an_approval_stands_between_a_schedule_and_the_others(api: Running) -> None:
    await settings(api, approval_required=True)
    campaign = await made(api)
    assert (await act(api, campaign, "schedule"))["status"] == "pending_approval"
    assert await defined(api, campaign) == []
    assert (await act(api, campaign, "reject"))["status"] == "rejected"
    await act(api, campaign, "schedule", 409)
    shown = (await api.client.get(f"/v1/campaigns/{campaign['id']}")).json()
    edited = await api.client.put(
        f"/v1/campaigns/{campaign['id']}", json=shown | {"name": "Better"}, headers={"If-Match": "*"}
    )
    assert (edited.status_code, edited.json()["status"]) == (200, "draft")
    await act(api, campaign, "schedule")
    writer = (await api.client.post("/v1/api-keys", json={"name": "w", "scopes": ["campaigns:write"]})).json()["key"]
    path = f"/v1/campaigns/{campaign['id']}/approve"
    refused = await api.client.post(path, headers={"Authorization": f"Bearer {writer}"})
    assert refused.status_code == 403
    assert (await act(api, campaign, "approve"))["status"] == "scheduled"
    assert [definition["status"] for definition in await defined(api, campaign)] == ["scheduled"]
    await settings(api, approval_required=False)


async def settings(api: Running, **changes: Any) -> None:
    current = (await api.client.get("/v1/settings")).json()
    answer = await api.client.put("/v1/settings", json=current | changes, headers={"If-Match": "*"})
    assert answer.status_code == 200, answer.text


async def test_a_clone_is_a_draft_with_the_same_content(api: Running) -> None:
    campaign = await made(api)
    await act(api, campaign, "schedule")
    key = {"Idempotency-Key": "clone-1"}
    first = await api.client.post(f"/v1/campaigns/{campaign['id']}/clone", headers=key)
    again = await api.client.post(f"/v1/campaigns/{campaign['id']}/clone", headers=key)
    assert (first.status_code, first.json()["status"], first.json()["name"]) == (201, "draft", "Sale (copy)")
    assert again.json() == first.json()
    assert first.headers["location"] == again.headers["location"] == f"/v1/campaigns/{first.json()['id']}"
    assert {name: first.json()[name] for name in ("when", "who", "what", "kind")} == {
        name: campaign[name] for name in ("when", "who", "what", "kind")
    }


async def test_occurrences_of_a_draft_are_shown_for_any_zone(api: Running) -> None:
    when = {"recurrence": "FREQ=YEARLY;BYMONTH=3;BYMONTHDAY=31", "times": ["02:30"], "start": "2030-01-01T00:00:00"}
    campaign = await made(api, when=when | {"time_zone": "user"})
    path = f"/v1/campaigns/{campaign['id']}/occurrences"
    shown = (await api.client.get(path, params={"zone": "Europe/Paris", "limit": 3})).json()
    assert shown["zone"] == "Europe/Paris"
    assert [item["local"] for item in shown["items"]] == [f"203{year}-03-31T02:30:00" for year in range(3)]
    # On 31 March 2030 the clocks of Paris go forward at two.
    assert [item["kind"] for item in shown["items"]] == ["gap", "normal", "normal"]
    assert shown["items"][0]["at"] == "2030-03-31T01:30:00.000Z"
    refused = await api.client.get(path, params={"zone": "Mars/Base"})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == "/query/zone"


async def test_runs_have_their_zones_from_the_scheduler(api: Running) -> None:
    campaign = await made(api)
    await act(api, campaign, "schedule")
    assert (await api.client.get(f"/v1/campaigns/{campaign['id']}/runs")).json() == {"items": [], "next_cursor": None}
    occurrence = "2026-12-01T09:00:00"
    await tell_run(api, campaign, "2026-11-01T09:00:00", "expanded")
    await tell_run(api, campaign, occurrence, "running")
    await eventually(lambda: is_status(api, campaign, "running"), 20)
    zone = {"zone": "UTC", "state": "waiting", "reason": "", "users": 3, "expanded_users": 0, "next_page": 0,
            "due_at": "2026-12-01T09:00:00+00:00", "send_by": "2026-12-01T13:00:00+00:00"}  # fmt: skip
    run = run_id(campaign["id"], occurrence)
    api.elsewhere.answers["/internal/runs"] = lambda _: {"items": [{"run_id": run, "zones": [zone]}]}
    path = f"/v1/campaigns/{campaign['id']}/runs"
    page = (await api.client.get(path, params={"limit": 1})).json()
    (shown,) = page["items"]
    assert (shown["run_id"], shown["state"], shown["counts"]["qualified"]) == (run, "running", 0)
    assert shown["zones"][0]["zone"] == "UTC"
    assert shown["zones"][0]["reason"] is None
    assert shown["zones"][0]["due_at"] == "2026-12-01T09:00:00.000Z"
    (earlier,) = (following := (await api.client.get(path, params={"cursor": page["next_cursor"]})).json())["items"]
    assert (earlier["occurrence"], earlier["zones"]) == ("2026-11-01T09:00:00", [])
    assert following["next_cursor"] is None
    assert (await api.client.get(path, params={"cursor": "bm90aGluZw"})).status_code == 422


async def test_progress_of_what_has_ended_is_told_once(api: Running) -> None:
    campaign = await made(api)
    await act(api, campaign, "schedule")
    await act(api, campaign, "stop")
    answer = await api.client.get(f"/v1/campaigns/{campaign['id']}/progress")
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [block for block in answer.text.split("\n\n") if block.startswith("event:")]
    assert [event.split("\n")[0] for event in events] == ["event: progress", "event: end"]
    told = json.loads(events[0].split("data: ")[1])
    assert (told["status"], told["funnel"]["qualified"], told["runs"]) == ("stopped", 0, [])
    assert api.services.streams == set()
    assert (await api.client.get("/v1/campaigns/cmp_00000000000000000000000000/progress")).status_code == 404
