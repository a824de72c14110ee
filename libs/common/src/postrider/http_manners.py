"""Manners of the services' internal HTTP and of providers' callbacks: errors are problem documents (RFC 9457), bodies
are bounded in bytes and in time before anybody reads them. campaign-api has its own, which know its fields.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from postrider.logs import failure, log

INTERNAL = "/internal/"
MAX_BODY_BYTES = 1024 * 1024
BODY_SECONDS = 30.0

_TITLES = {
    400: "The request cannot be read", 401: "Not allowed without the right key", 403: "Not allowed",
    404: "There is no such thing", 405: "Not with this method", 408: "The body did not come in time",
    413: "The body is too large", 422: "The request means nothing", 500: "Something in the server is wrong",
    503: "Not now: ask again",
}  # fmt: skip


def problem(
    status: int,
    detail: str | None = None,
    errors: Sequence[tuple[str, str]] = (),
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """`errors`: a pointer and a message each."""
    body: dict[str, Any] = {"type": "about:blank", "title": _TITLES.get(status, "Refused"), "status": status}
    body["detail"] = detail or body["title"]
    body["errors"] = [{"pointer": pointer, "message": message} for pointer, message in errors]
    return JSONResponse(body, status, headers, media_type="application/problem+json")


def install(
    app: FastAPI,
    max_body_bytes: int = MAX_BODY_BYTES,
    body_seconds: float = BODY_SECONDS,
    streamed: tuple[str, ...] = (),
) -> None:
    """`streamed`: internal paths, by how they begin, whose routes read the body themselves, bound it, and ask for the
    key before."""
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _defect)
    app.add_middleware(BoundedBodies, max_bytes=max_body_bytes, seconds=body_seconds, streamed=streamed)


async def _refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return problem(error.status_code, str(error.detail), headers=error.headers)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    errors = []
    for issue in error.errors():
        where = issue["loc"][1:] if issue["loc"][:1] == ("body",) else issue["loc"]
        errors.append(("".join(f"/{part}" for part in where), str(issue["msg"])))
    return problem(422, errors=errors)


async def _defect(request: Request, error: Exception) -> JSONResponse:
    """The error's own words may hold what the caller sent: they go nowhere."""
    log.error("request_failed", path=request.url.path, method=request.method, **failure(error))
    return problem(500, "it has been logged")


class BoundedBodies:
    """Of internal calls: reads the whole body, then lets the application begin. Nobody holds a call open or fills the
    memory, not even without a key, since the framework reads bodies before it asks for one."""

    def __init__(self, app: ASGIApp, max_bytes: int, seconds: float, streamed: tuple[str, ...] = ()) -> None:
        self._app = app
        self._streamed = streamed
        self._max_bytes = max_bytes
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(INTERNAL):
            await self._app(scope, receive, send)
            return
        if self._streamed and scope["path"].startswith(self._streamed):
            await self._app(scope, self._while_it_comes(receive), send)
            return
        messages: list[Message] = []
        size = 0
        try:
            async with asyncio.timeout(self._seconds):
                while True:
                    message = await receive()
                    messages.append(message)
                    size += len(message.get("body", b""))
                    if size > self._max_bytes:
                        await problem(413, f"the body is larger than {self._max_bytes} bytes")(scope, receive, send)
                        return
                    if message["type"] != "http.request" or not message.get("more_body", False):
                        break
        except TimeoutError:
            await problem(408, headers={"Connection": "close"})(scope, receive, send)
            return
        body = b"".join(message.get("body", b"") for message in messages)
        gone = messages[-1]["type"] == "http.disconnect"
        replayed = False

        async def replay() -> Message:
            nonlocal replayed
            if replayed or gone:
                return messages[-1] if gone else await receive()
            replayed = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, replay, send)

    def _while_it_comes(self, receive: Receive) -> Receive:
        """A body that stands still is as good as cut off."""
        is_over = False

        async def in_time() -> Message:
            nonlocal is_over
            if is_over:
                return await receive()
            try:
                async with asyncio.timeout(self._seconds):
                    message = await receive()
            except TimeoutError:
                return {"type": "http.disconnect"}
            is_over = not message.get("more_body", False)
            return message

        return in_time
