"""The dispatcher's key is changed while providers are in use: docs/operations.md, "Changing the sealing key"."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Request
from nacl.public import PrivateKey, PublicKey

from dispatcher import metrics
from dispatcher.sealed import Keys, Unsealable
from postrider.contracts import codec
from postrider.contracts.definitions import ProviderDefinition
from postrider.contracts.topics import PROVIDER_DEFINITIONS
from tests.standins.running import twilio_process
from tests.support.campaign_api import Elsewhere, Running, running
from tests.support.dispatching import ACCOUNT_SID, AUTH_TOKEN, TOKEN, Stage, dispatching
from tests.support.dispatching import stage as new_stage
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration

OLD, NEW, STRANGERS = PrivateKey.generate(), PrivateKey.generate(), PrivateKey.generate()


def text(key: PrivateKey | PublicKey) -> str:
    return base64.b64encode(bytes(key)).decode()


def opened_by(key: PrivateKey, sealed: str) -> bool:
    try:
        Keys([bytes(key)]).open(sealed)
    except Unsealable:
        return False
    return True


async def last_provider(api: Running) -> ProviderDefinition:
    records = [record for record in await api.read_topic(PROVIDER_DEFINITIONS) if record.key.startswith(b"prv_")]
    return codec.decode(records[-1].value, ProviderDefinition)


async def created(api: Running, port: int) -> dict[str, Any]:
    settings = {"account_sid": ACCOUNT_SID, "from": "+15005550006", "base_url": f"http://127.0.0.1:{port}"}
    body = {"name": "T", "kind": "twilio", "settings": settings, "credentials": {"auth_token": AUTH_TOKEN}}
    answer = await api.client.post("/v1/providers", json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def is_served(stage: Stage, provider_id: str, *keys: PrivateKey) -> bool:
    """By a dispatcher with these keys: the vendor takes its credentials."""
    given = [text(key) for key in keys] + [""]
    async with dispatching(stage, sealing_private_key=given[0], sealing_previous_private_key=given[1]) as dispatcher:
        unusable = metrics.PROVIDERS_UNUSABLE.labels(provider_id)._value
        await eventually(lambda: dispatcher.fleet.adapter(provider_id) is not None or unusable.get())
        adapter = dispatcher.fleet.adapter(provider_id)
        return adapter is not None and (await adapter.verify()).ok


async def test_the_key_is_changed_step_by_step(
    kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str, tmp_path: Path
) -> None:
    database_url = await fresh_database()
    async with (
        new_stage(kafka, database_url, topic_prefix) as stage,
        twilio_process(tmp_path / "a", account_sid=ACCOUNT_SID, auth_token=AUTH_TOKEN) as port,
    ):

        def api(key: PrivateKey, transport: httpx.AsyncBaseTransport | None = None) -> Any:
            return running(
                kafka, database_url, topic_prefix, transport, POSTRIDER_SEALING_PUBLIC_KEY=text(key.public_key),
                POSTRIDER_SERVICE_TOKEN=TOKEN, POSTRIDER_DISPATCHER_URL=f"http://127.0.0.1:{stage.port}",
            )  # fmt: skip

        async with api(OLD) as before:
            provider = await created(before, port)
            first = await last_provider(before)
        assert opened_by(OLD, first.sealed_credentials) and not opened_by(NEW, first.sealed_credentials)
        assert await is_served(stage, provider["id"], OLD)
        assert await is_served(stage, provider["id"], NEW, OLD)
        async with (
            dispatching(stage, sealing_private_key=text(NEW), sealing_previous_private_key=text(OLD)),
            api(NEW, httpx.AsyncHTTPTransport()) as after,
        ):

            async def resealed() -> bool:
                now = await last_provider(after)
                assert opened_by(NEW, now.sealed_credentials) and not opened_by(OLD, now.sealed_credentials)
                assert (now.version, now.token, now.settings) == (2, first.token, first.settings)
                return True

            await eventually(resealed)
            answer = (await after.client.get(f"/v1/providers/{provider['id']}")).json()
            assert (answer["version"], answer["callback_url"]) == (2, provider["callback_url"])
        assert await is_served(stage, provider["id"], NEW)
        assert not await is_served(stage, provider["id"], STRANGERS)


async def test_what_no_dispatcher_can_seal_anew_stays_as_it_is(
    kafka: str, fresh_database: Callable[[], Awaitable[str]], topic_prefix: str
) -> None:
    """A dispatcher that was not restarted yet, and one whose previous key is another."""
    database_url = await fresh_database()
    async with running(kafka, database_url, topic_prefix, POSTRIDER_SEALING_PUBLIC_KEY=text(OLD.public_key)) as before:
        await created(before, 9)
        first = await last_provider(before)
    asked: list[str] = []

    async def not_restarted(request: Request) -> dict[str, str]:
        asked.append("not restarted")
        keys = Keys([bytes(OLD)])
        return {"sealed": keys.reseal((await request.json())["sealed"]), "sealed_to": keys.current}

    elsewhere = httpx.ASGITransport(Elsewhere({"/internal/reseal": not_restarted}).application())
    key = text(NEW.public_key)
    async with running(kafka, database_url, topic_prefix, elsewhere, POSTRIDER_SEALING_PUBLIC_KEY=key) as after:
        await eventually(lambda: asked)
        last = await last_provider(after)
        assert (last.version, last.sealed_credentials) == (1, first.sealed_credentials)
