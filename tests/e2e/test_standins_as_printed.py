"""The vendors that `make run STANDINS=1` starts: a campaign goes out through each kind and comes back as receipts, and
a person's STOP reaches us through each that has them; the README's commands do what they say.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from demo.standins import Standins
from postrider.local.client import ApiClient
from postrider.local.home import Home, workspace
from postrider.local.ports import free_port
from postrider.local.services import CAMPAIGN_API, DEVELOPMENT_KEY
from postrider.local.suite import Suite
from tests.standins.accounts import ACCOUNTS
from tests.support.eventually import eventually
from tests.support.parts import quiet

pytestmark = pytest.mark.e2e

PEOPLE = 4


@pytest.fixture
async def standins(tmp_path: Path) -> AsyncIterator[Standins]:
    ports: dict[str, int] = {}
    for name in ACCOUNTS:
        ports[name] = free_port()
        while list(ports.values()).count(ports[name]) > 1:
            ports[name] = free_port()
    async with Standins(Home(tmp_path), ports, quiet) as running:
        yield running


def texts(standins: Standins, name: str) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in (standins.folder / f"{name}.jsonl").read_bytes().splitlines()]


async def sent_through(api: ApiClient, standins: Standins, nth: int, name: str) -> dict[str, Any]:
    """A campaign to a few people, scheduled; its id and theirs, and the provider's."""
    provider = await api.post("/v1/providers", msgspec.json.decode(standins.files[name].read_bytes()))
    phones = [f"+1415555{nth}{number}35" for number in range(PEOPLE)]
    await api.batch(
        [
            {"type": "identify", "userId": f"{name}-{n}", "messageId": f"standin-{name}-{n}",
             "traits": {"phone": phone, "through": name, "first_name": "Ada"}}
            for n, phone in enumerate(phones)
        ]
    )  # fmt: skip
    what: dict[str, Any] = {"provider_id": provider["id"], "body": "Hi {{ Profile.first_name }}"}
    if not ACCOUNTS[name].takes_bodies:
        what |= {"body": "", "template_id": "flow-17", "template_variables": ["{{ Profile.first_name }}"]}
    made = await api.post(
        "/v1/campaigns",
        {
            "name": name, "kind": "one_time", "message_class": "transactional",
            "when": {"at": "now", "time_zone": "account"}, "what": what,
            "who": {"rule": {"all": [{"attribute": {"name": "through", "op": "eq", "value": name}}]}},
        },
    )  # fmt: skip
    return {"campaign": made["id"], "phones": phones, "provider": provider}


async def test_a_campaign_goes_out_through_each_and_comes_back(api: ApiClient, standins: Standins) -> None:
    async with httpx.AsyncClient(trust_env=False, timeout=20) as panel:
        sent: dict[str, dict[str, Any]] = {}
        for nth, name in enumerate(ACCOUNTS):
            sent[name] = await sent_through(api, standins, nth, name)
            account = f"http://127.0.0.1:{standins.ports[name]}/_account"
            assert (await panel.post(account, json=sent[name]["provider"])).status_code == 204
        for each in sent.values():
            await api.post(f"/v1/campaigns/{each['campaign']}/schedule")
        for name, each in sent.items():
            status = "delivered" if ACCOUNTS[name].reports else "awaiting_receipt"

            async def reported(each: dict[str, Any] = each, status: str = status) -> bool:
                funnel = (await api.get(f"/v1/campaigns/{each['campaign']}/report"))["funnel"]
                assert (funnel["accepted"], funnel[status]) == (PEOPLE, PEOPLE), funnel
                return True

            await eventually(reported, 90)
            found = texts(standins, name)
            assert sorted(str(text.get("mobiles") or text["to"]).lstrip("+") for text in found) == sorted(
                phone[1:] for phone in each["phones"]
            )
            assert all(text.get("body", "Hi Ada") == "Hi Ada" for text in found)
        stopping = {each["phones"][0]: name for name, each in sent.items() if ACCOUNTS[name].plays_inbound}
        for phone, name in stopping.items():
            inbound = f"http://127.0.0.1:{standins.ports[name]}/_inbound"
            answer = await panel.post(inbound, json={"from": phone, "body": "STOP"})
            assert (answer.status_code, answer.json()["status"] < 300) == (200, True), (name, answer.text)

        async def all_suppressed() -> bool:
            suppressed = {each["phone"] for each in await api.items("/v1/suppressions")}
            assert set(stopping) <= suppressed
            return True

        await eventually(all_suppressed)
        assert len(stopping) == 5


async def test_the_commands_of_the_readme(suite: Suite, api: ApiClient, standins: Standins) -> None:
    text = (workspace() / "README.md").read_text("utf-8")
    _, _, rest = text.partition("### With vendors to talk to")
    script = rest.split("```sh\n")[2].split("```")[0]
    script = script.replace(".local/standins/", f"{standins.folder}/").replace("9102", str(standins.ports["vonage"]))
    address = {
        "API": suite.url(CAMPAIGN_API),
        "KEY": f"Authorization: Bearer {DEVELOPMENT_KEY}",
        "JSON": "Content-Type: application/json",
    }
    shell = await asyncio.create_subprocess_exec(
        "bash", "-euo", "pipefail", "-c", script, env={**os.environ, **address}, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await asyncio.wait_for(shell.communicate(), 60)
    assert shell.returncode == 0 and msgspec.json.decode(said) == {"status": 204}, said

    async def suppressed() -> bool:
        return any(each["phone"] == "+12025550142" for each in await api.items("/v1/suppressions"))

    await eventually(suppressed)
