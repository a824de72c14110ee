"""Providers' callbacks, each in the vendor's own shape: receipts and inbound texts. Public.

Answered as soon as they are committed; applied later. Anyone may call: the token in the path is compared in constant
time, the adapter checks the signature over the URL as the provider sees it, and nothing is read before both.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from typing import TypeVar

from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from dispatcher import metrics
from dispatcher.fleet import Fleet
from dispatcher.opt_out import OptOut
from dispatcher.providers.base import BadSignature, BadWebhook, ProviderAdapter, WebhookRequest
from dispatcher.receipts import Receipts
from postrider.http_manners import problem
from postrider.logs import failure, log
from postrider.postgres.database import is_outage

KEEP_SECONDS = 5.0
"""A provider gives up after a while and calls again: an answer later than this helps nobody."""

T = TypeVar("T")


class Refused(Exception):
    """The answer is this status; `why` is counted."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.why = why


def router(fleet: Fleet, receipts: Receipts, opt_out: OptOut, public_url: str, most: int) -> APIRouter:
    routes = APIRouter(tags=["callbacks"])

    @routes.api_route(
        "/receipts/{provider_id}/{token}",
        methods=["GET", "POST"],
        status_code=204,
        response_model=None,
        operation_id="receive_receipt",
    )
    async def receive_receipts(provider_id: str, token: str, request: Request) -> Response:
        """A provider's word on texts it took. 204, or the vendor's own answer, once it is kept; a repeat is answered
        the same."""

        async def keep() -> bytes:
            adapter = _authentic(fleet, provider_id, token)
            found = _read(adapter.parse_receipt, await _webhook(request, public_url, most))
            await receipts.keep(provider_id, found)
            return adapter.capabilities.callback_reply

        return await _answer(keep)

    @routes.api_route(
        "/inbound/{provider_id}/{token}",
        methods=["GET", "POST"],
        status_code=204,
        response_model=None,
        operation_id="receive_inbound",
    )
    async def receive_inbound(provider_id: str, token: str, request: Request) -> Response:
        """A text from a person. When this answers 204 to a STOP, the phone is suppressed."""

        async def keep() -> bytes:
            adapter = _authentic(fleet, provider_id, token)
            found = _read(adapter.parse_inbound, await _webhook(request, public_url, most))
            for text in found:
                await opt_out.receive(provider_id, text)
            return b""

        return await _answer(keep)

    return routes


async def _answer(keep: Callable[[], Awaitable[bytes]]) -> Response:
    try:
        async with asyncio.timeout(KEEP_SECONDS):
            reply = await keep()
    except ClientDisconnect:
        return Response(status_code=400)  # nobody reads it
    except Refused as error:
        metrics.CALLBACKS_REFUSED.labels(error.why).inc()
        return problem(error.status)
    except Exception as error:
        if not is_outage(error):
            raise
        log.warning("callback_not_kept", **failure(error))
        return problem(503, headers={"Retry-After": "5"})
    return Response(reply, media_type="application/json") if reply else Response(status_code=204)


def _authentic(fleet: Fleet, provider_id: str, token: str) -> ProviderAdapter:
    """An unknown provider and a wrong token look alike from outside."""
    definition, adapter = fleet.definition(provider_id), fleet.adapter(provider_id)
    expected = definition.token if definition is not None else ""
    if not hmac.compare_digest(expected.encode(), token.encode()) or not expected:
        raise Refused(403, "token")
    if adapter is None:
        raise Refused(503, "provider_unusable")
    return adapter


def _read(parse: Callable[[WebhookRequest], list[T]], request: WebhookRequest) -> list[T]:
    try:
        return parse(request)
    except BadSignature as error:
        raise Refused(403, "signature") from error
    except BadWebhook as error:
        raise Refused(400, "shape") from error


async def _webhook(request: Request, public_url: str, most: int) -> WebhookRequest:
    """The callback as the provider made it: its URL is the public one, whatever proxies did to ours."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise Refused(413, "too_large")
    raw_path = request.scope.get("raw_path") or request.url.path.encode()
    url = public_url.rstrip("/") + raw_path.decode("ascii", "replace")
    query = request.scope["query_string"].decode("ascii", "replace")
    return WebhookRequest(
        request.method, f"{url}?{query}" if query else url, dict(request.headers.items()), bytes(body)
    )
