"""Internal routes of user lists: filled from a stream, dropped. Must not hold more than a line of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

import msgspec
from fastapi import APIRouter, Path, Request, Response
from starlette.requests import ClientDisconnect

from segment_engine.api.base import Problem, Services, means_nothing

LISTS = "/internal/user-lists/"
MAX_LINE_BYTES = 32 * 1024 * 1024
_decoder: msgspec.json.Decoder[list[str] | int] = msgspec.json.Decoder(list[str] | int)

ListId = Annotated[str, Path(pattern=r"^lst_[0-9a-z]{26}$")]


def list_routes(services: Services) -> APIRouter:
    router = APIRouter()

    @router.put("/internal/user-lists/{list_id}")
    async def fill(list_id: ListId, request: Request) -> dict[str, int]:
        """Lines of ids, each a JSON list, and last their number. Rules may ask the list when this has answered."""
        try:
            received = announced = 0
            async for line in _lines(request):
                part = _part(line)
                if isinstance(part, int):
                    announced = part
                else:
                    received += len(part)
                    await services.store.add_to_list(list_id, part)
            if received != announced or received == 0:
                raise means_nothing([("", f"cut short: {received} of {announced} ids came")])
            return {"members": await services.store.complete_list(list_id)}
        except (ClientDisconnect, Problem) as error:
            await services.store.drop_list(list_id)
            raise error if isinstance(error, Problem) else means_nothing([("", "cut short")]) from error

    @router.delete("/internal/user-lists/{list_id}", status_code=204)
    async def drop(list_id: ListId) -> Response:
        await services.store.drop_list(list_id)
        return Response(status_code=204)

    return router


async def _lines(request: Request) -> AsyncIterator[bytes]:
    rest = bytearray()
    async for chunk in request.stream():
        rest += chunk
        if len(rest) > MAX_LINE_BYTES:
            raise Problem(413, "A line is too long")
        if b"\n" in chunk:
            *lines, rest = rest.split(b"\n")
            for line in lines:
                yield bytes(line)
    if rest:
        yield bytes(rest)


def _part(line: bytes) -> list[str] | int:
    try:
        return _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise means_nothing([("", "a line is no list of ids")]) from error
