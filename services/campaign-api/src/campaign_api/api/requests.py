"""How a JSON body is read: bounded, strictly, and refused with a pointer before anybody works with it.

Without a valid key no body is read at all. Refused here: what is not JSON, NUL, half surrogate pairs, numbers no double
holds, nesting without end. Postgres and Kafka never see them. Ingestion has a door of its own (api/ingestion.py).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from email.message import Message
from typing import Any

import msgspec
from fastapi import Request, Response
from fastapi.routing import APIRoute

from campaign_api.api.auth import authenticate
from campaign_api.api.problems import Problem
from campaign_api.domain.errors import FieldProblem

MAX_BODY_BYTES = 256 * 1024
BODY_SECONDS = 60.0
"""A body that trickles in holds a connection no longer than that."""
DRAIN_SECONDS, DRAIN_BYTES = 2.0, 16 * 1024 * 1024
MAX_DEPTH = 128
MAX_INTEGER = 2**63 - 1

_decoder = msgspec.json.Decoder()


class StrictRequest(Request):
    """The request of every route that takes a JSON body."""

    async def body(self) -> bytes:
        if not hasattr(self, "_body"):
            self._body = await read_bounded(self, MAX_BODY_BYTES, 413)
            if self._body:
                _check_content_type(self.headers.get("content-type"))
        return self._body

    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            self._json = read_json(await self.body())
        return self._json


class StrictRoute(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            await authenticate(request)
            return await handle(StrictRequest(request.scope, request.receive))

        return strictly


async def read_bounded(request: Request, limit: int, status: int) -> bytes:
    """The whole body. Raises `Problem` when it is too slow, and as soon as it is larger than `limit` or says that it
    will be."""
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced[:19]) > limit:
        await _drain(request)
        raise Problem(status, f"the body is larger than {limit} bytes")
    chunks, size = [], 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    await _drain(request)
                    raise Problem(status, f"the body is larger than {limit} bytes")
                chunks.append(chunk)
    except TimeoutError as error:
        raise Problem(408, f"the body did not come within {BODY_SECONDS:g} s") from error
    return b"".join(chunks)


async def _drain(request: Request) -> None:
    """Some of what is still coming: a connection that is closed on unread bytes is reset, and the answer is lost."""
    if "expect" in request.headers:
        return  # it waits for our word before it sends
    size = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                if size > DRAIN_BYTES:
                    return


def read_json(data: bytes) -> Any:
    """Raises `Problem`: 400 for what is not JSON, 422 for what JSON may hold and we may not."""
    try:
        value = _decoder.decode(data)
    except msgspec.ValidationError as error:
        raise Problem(422, "a number is out of range", [FieldProblem("", "a number is out of range")]) from error
    except RecursionError as error:
        raise Problem(422, "nested too deep", [FieldProblem("", f"is nested more than {MAX_DEPTH} deep")]) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        detail = "the body is not JSON" if isinstance(error, UnicodeDecodeError) else f"the body is not JSON: {error}"
        raise Problem(400, detail, [FieldProblem("", "is not JSON")]) from error
    found = _refused(value)
    if found is not None:
        raise Problem(422, f"{found.pointer or '/'}: {found.message}", [found])
    return value


def _refused(value: Any) -> FieldProblem | None:
    """The first thing in the tree that may not pass."""
    waiting: list[tuple[str, int, Any]] = [("", 1, value)]
    while waiting:
        pointer, depth, item = waiting.pop()
        if isinstance(item, str):
            if "\x00" in item:
                return FieldProblem(pointer, "must not contain NUL")
        elif isinstance(item, int):
            if abs(item) > MAX_INTEGER:
                return FieldProblem(pointer, "is out of range")
        elif isinstance(item, dict | list):
            if depth > MAX_DEPTH:
                return FieldProblem(pointer, f"is nested more than {MAX_DEPTH} deep")
            members = item.items() if isinstance(item, dict) else enumerate(item)
            for key, member in members:
                if isinstance(key, str) and "\x00" in key:
                    return FieldProblem(pointer, "must not have a key with NUL")
                escaped = str(key).replace("~", "~0").replace("/", "~1")
                waiting.append((f"{pointer}/{escaped}", depth + 1, member))
    return None


def _check_content_type(given: str | None) -> None:
    if given is not None:
        message = Message()
        message["content-type"] = given
        kind = message.get_content_type()
        if kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json")):
            return
    raise Problem(415, "the body must be application/json")
