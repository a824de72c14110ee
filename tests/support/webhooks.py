"""The other side of a vendor's stand-in in a test: where its callbacks arrive, and the knob of its misbehaviour."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import ClientSession, web

from dispatcher.providers.base import WebhookRequest
from tests.standins.vendor import SHARES


@contextlib.asynccontextmanager
async def webhooks(path: str = "/receipts/prv_1/tok") -> AsyncIterator[tuple[str, list[WebhookRequest]]]:
    """A receiver of callbacks, as the dispatcher is one: (its URL, what came)."""
    came: list[WebhookRequest] = []

    async def take(request: web.BaseRequest) -> web.Response:
        came.append(WebhookRequest(request.method, str(request.url), dict(request.headers), await request.read()))
        return web.Response(status=204)

    runner = web.ServerRunner(web.Server(take))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}{path}", came
    finally:
        await runner.cleanup()


async def misbehave(port: int, fault: str | None = None, **more: Any) -> None:
    """With every call from now on, and in no other way."""
    faults = dict.fromkeys(SHARES, 0.0) | ({fault: 1.0} if fault else {}) | more
    async with ClientSession() as session:
        async with session.post(f"http://127.0.0.1:{port}/_faults", json=faults) as response:
            assert response.status == 204
