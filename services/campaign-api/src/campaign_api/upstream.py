"""Internal HTTP to the segment-engine and the dispatcher, with the service token. Says which part is down.

Must not be used for provider calls or user-configured URLs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx

from campaign_api import metrics
from campaign_api.domain.errors import FieldProblem
from postrider.logs import failure, log

CONNECT_SECONDS = 2.0
ESTIMATE_SECONDS = 60.0


class PartUnavailable(Exception):
    """A part that this answer needs is away or does not do its work. `part` is its name."""

    def __init__(self, part: str, reason: str) -> None:
        super().__init__(f"{part}: {reason}")
        self.part = part
        self.reason = reason


class RefusedByPart(Exception):
    """The part understood and refused (4xx): `body` is its answer."""

    def __init__(self, part: str, status: int, body: Any) -> None:
        super().__init__(f"{part} answered {status}")
        self.part = part
        self.status = status
        self.body = body

    def problems(self) -> list[FieldProblem]:
        """As far as the answer is a problem document."""
        body = self.body if isinstance(self.body, dict) else {}
        return [
            FieldProblem(str(item.get("pointer", "")), str(item.get("message", "")))
            for item in body.get("errors") or ()
            if isinstance(item, dict)
        ]


class Part:
    """One service behind one address."""

    def __init__(self, name: str, base_url: str, token: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.name = name
        self._client = httpx.AsyncClient(
            base_url=base_url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=httpx.Timeout(ESTIMATE_SECONDS, connect=CONNECT_SECONDS),
            trust_env=False,
            follow_redirects=False,
            transport=transport,
        )

    async def get(self, path: str, params: Mapping[str, str | int | None]) -> Any:
        """Parameters that are None are left out."""
        given = {name: value for name, value in params.items() if value is not None}
        return await self._call("GET", path, params=given)

    async def post(self, path: str, body: object, seconds: float = ESTIMATE_SECONDS) -> Any:
        return await self._call("POST", path, json=body, timeout=httpx.Timeout(seconds, connect=CONNECT_SECONDS))

    async def put_lines(self, path: str, lines: AsyncIterator[bytes]) -> Any:
        """Streams the body as it comes. What `lines` raises comes out of here as it is."""
        return await self._call("PUT", path, content=lines, headers={"Content-Type": "application/x-ndjson"})

    async def delete(self, path: str) -> None:
        await self._call("DELETE", path)

    async def close(self) -> None:
        await self._client.aclose()

    async def _call(self, method: str, path: str, **arguments: Any) -> Any:
        try:
            response = await self._client.request(method, path, **arguments)
        except httpx.HTTPError as error:
            metrics.UPSTREAM_FAILURES.labels(self.name).inc()
            log.warning("part_unavailable", part=self.name, **failure(error))
            raise PartUnavailable(self.name, "does not answer") from error
        if response.status_code in (401, 403) or response.status_code >= 500:
            metrics.UPSTREAM_FAILURES.labels(self.name).inc()
            log.warning("part_failed", part=self.name, status=response.status_code, path=path)
            raise PartUnavailable(self.name, _said(response) or f"answered {response.status_code}")
        try:
            body = response.json() if response.content else None
        except ValueError as error:
            raise PartUnavailable(self.name, "answered what is not JSON") from error
        if response.status_code >= 300:
            raise RefusedByPart(self.name, response.status_code, body)
        return body


def _said(response: httpx.Response) -> str | None:
    """Why a part cannot do it now, in its own words; of anything but a 503 they are not for callers."""
    if response.status_code != 503:
        return None
    try:
        body = response.json()
    except ValueError:
        return None
    detail = body.get("detail") if isinstance(body, dict) else None
    return detail if isinstance(detail, str) else None
