"""A small client of the HTTP API, for the demonstration, the fault runs, the benchmarks and the end-to-end tests.

Knows no campaign by heart: it sends what it is given and raises `ApiProblem` with the problem document otherwise.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import httpx
import msgspec

STATUSES_THAT_END = ("completed", "stopped")


class ApiProblem(Exception):
    """The API refused. `status` and `document` (RFC 9457) say why."""

    def __init__(self, method: str, path: str, status: int, document: Any) -> None:
        super().__init__(f"{method} {path}: {status} {document}")
        self.status = status
        self.document = document


class ApiClient:
    """`async with ApiClient(url, key) as api:`; paths begin with /v1."""

    def __init__(self, url: str, key: str, timeout_seconds: float = 30.0) -> None:
        self._client = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=timeout_seconds,
            trust_env=False,
            limits=httpx.Limits(max_connections=20),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def call(
        self, method: str, path: str, body: Any = None, params: dict[str, Any] | None = None, **headers: str
    ) -> Any:
        """The decoded reply. Raises `ApiProblem`, or httpx's error when there was none."""
        content = None if body is None else msgspec.json.encode(body)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if content is not None:
            sent["Content-Type"] = "application/json"
        answer = await self._client.request(method, path, content=content, params=params, headers=sent)
        try:
            document = answer.json() if answer.content else None
        except ValueError:
            document = answer.text[:500]
        if answer.status_code >= 400:
            raise ApiProblem(method, path, answer.status_code, document)
        return document

    async def get(self, path: str, **params: Any) -> Any:
        return await self.call("GET", path, params=params or None)

    async def post(self, path: str, body: Any = None) -> Any:
        return await self.call("POST", path, body)

    async def settings(self, **changes: Any) -> Any:
        """Reads /v1/settings, changes the given fields, writes the whole."""
        current = await self.get("/v1/settings")
        return await self.call("PUT", "/v1/settings", current | changes, If_Match=f'"{current["version"]}"')

    async def batch(self, messages: Sequence[dict[str, Any]], historic: bool = False) -> None:
        """One /v1/batch; raises unless every message was accepted."""
        reply = await self.post("/v1/batch", {"batch": messages, "historic": historic})
        if reply["accepted"] != len(messages):
            raise ApiProblem("POST", "/v1/batch", 200, reply)

    async def items(self, path: str, limit: int = 1000, **params: Any) -> list[dict[str, Any]]:
        """Every item of a list, page by page."""
        found: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            page = await self.get(path, limit=limit, **params, **({"cursor": cursor} if cursor else {}))
            found += page["items"]
            cursor = page.get("next_cursor")
            if not cursor:
                return found

    async def until_campaign(self, campaign_id: str, timeout_seconds: float, *wanted: str) -> dict[str, Any]:
        """Waits for a status (default: completed or stopped). Raises TimeoutError with the last report."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            campaign: dict[str, Any] = await self.get(f"/v1/campaigns/{campaign_id}")
            if campaign["status"] in (wanted or STATUSES_THAT_END):
                return campaign
            if time.monotonic() > deadline:
                report = await self.get(f"/v1/campaigns/{campaign_id}/report")
                raise TimeoutError(f"campaign is {campaign['status']} after {timeout_seconds} s: {report['funnel']}")
            await asyncio.sleep(0.2)
