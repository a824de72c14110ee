"""A large list of user ids through the real parts: streamed to the event store, asked by a rule, deleted."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator

import httpx
import pytest

from postrider.local.client import ApiClient
from postrider.local.services import CAMPAIGN_API, DEVELOPMENT_KEY
from postrider.local.suite import Suite

pytestmark = pytest.mark.e2e

IDS = 200_000
"""Several times what a body that is read at once may have."""


async def test_a_large_list_is_whole_when_it_is_there(suite: Suite, api: ApiClient) -> None:
    prefix = f"l-{uuid.uuid4().hex[:8]}"
    await api.batch([{"type": "identify", "userId": f"{prefix}-{n}", "traits": {"n": n}} for n in (1, IDS - 1, IDS)])

    async def body() -> AsyncIterator[bytes]:
        yield "\ufeffuser_id\r\n".encode()
        for start in range(0, IDS, 10_000):
            yield b"".join(f"{prefix}-{n}\r\n".encode() for n in range(start, start + 10_000))
            await asyncio.sleep(0)
        yield f"{prefix}-1\r\n".encode()

    headers = {"Authorization": f"Bearer {DEVELOPMENT_KEY}", "Content-Type": "text/csv"}
    async with httpx.AsyncClient(
        base_url=suite.url(CAMPAIGN_API), headers=headers, timeout=60, trust_env=False
    ) as http:
        answer = await http.post("/v1/user-lists", params={"name": prefix}, content=body())
        assert answer.status_code == 201, answer.text
        made = answer.json()
        assert (made["state"], made["members"]) == ("ready", IDS)
        wrong = await http.post("/v1/user-lists", params={"name": prefix}, content=b"u-1\r\n" * 150_000 + b"a,b\r\n")
        assert wrong.status_code == 422
        assert [error["pointer"] for error in wrong.json()["errors"]] == ["/line/150001"]
    estimate = await api.post("/v1/segments/estimate", {"rule": {"user_list": made["id"]}})
    assert estimate["qualified"] == 2
    await api.call("DELETE", f"/v1/user-lists/{made['id']}")
