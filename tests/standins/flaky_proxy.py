"""A proxy in front of an address that refuses requests and loses answers, as often as it is told."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx
import uvicorn
from fastapi import FastAPI, Request, Response

from tests.support.eventually import eventually


class _Server(uvicorn.Server):
    """Signals are pytest's."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        yield


@dataclass
class FlakyProxy:
    """`script`: what becomes of the next requests: "refuse" (503, not passed on), "lose" (passed on, answered 502).
    `answers`: what the others were answered, in order."""

    target: str
    script: list[str] = field(default_factory=list)
    gzipped: list[bool] = field(default_factory=list)
    answers: list[tuple[int, bytes]] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Its address."""
        app = FastAPI(openapi_url=None)
        async with httpx.AsyncClient(base_url=self.target, trust_env=False) as client:

            @app.post("/{path:path}")
            async def take(path: str, request: Request) -> Response:
                return await self._take(client, path, request)

            with socket.socket() as bound:
                bound.bind(("127.0.0.1", 0))
                server = _Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off"))
                serving = asyncio.create_task(server.serve([bound]))
                await eventually(lambda: server.started)
                try:
                    yield f"http://127.0.0.1:{bound.getsockname()[1]}"
                finally:
                    server.should_exit = True
                    await serving

    async def _take(self, client: httpx.AsyncClient, path: str, request: Request) -> Response:
        body = await request.body()
        self.gzipped.append(body.startswith(b"\x1f\x8b"))
        fate = self.script.pop(0) if self.script else "pass"
        if fate == "refuse":
            return Response(b'{"message": "busy"}', 503, {"Retry-After": "0"}, "application/json")
        headers = {name: value for name, value in request.headers.items() if name not in ("host", "content-length")}
        answer = await client.post("/" + path, content=body, headers=headers)
        if fate == "lose":
            return Response(b'{"message": "lost"}', 502, media_type="application/json")
        self.answers.append((answer.status_code, answer.content))
        return Response(answer.content, answer.status_code, media_type=answer.headers.get("content-type"))
