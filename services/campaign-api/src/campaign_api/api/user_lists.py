"""/v1/user-lists: a million user ids, streamed through to the event store and never held here."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from email.message import Message
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request, Response

from campaign_api.api import answers
from campaign_api.api.auth import CampaignWriter, Reader
from campaign_api.api.models.base import Page
from campaign_api.api.models.user_lists import UserList
from campaign_api.api.problems import Problem, documented
from campaign_api.api.requests import StrictRoute
from campaign_api.api.services import FromServices, Services
from campaign_api.domain.errors import Conflict, FieldProblem, Invalid
from campaign_api.domain.keys import Caller
from campaign_api.domain.resource import Resource
from campaign_api.domain.user_lists import (
    CSV,
    JSON_LINES,
    MAX_BODY_BYTES,
    MAX_IDS,
    MEDIA_TYPES,
    BadLine,
    ListReader,
    TooLarge,
)
from campaign_api.handlers import common, user_lists
from campaign_api.housekeeping import remove_list
from campaign_api.store import idempotency, references, resources
from campaign_api.store.references import User
from campaign_api.upstream import PartUnavailable, RefusedByPart
from postrider.contracts import codec
from postrider.logs import failure, log
from postrider.postgres.database import is_outage

router = APIRouter(prefix="/v1/user-lists", tags=["user lists"], route_class=StrictRoute)

SLICE_BYTES = 64 * 1024
LINE_IDS = 10_000
"""Ids that go on together, as one line."""

_encode = msgspec.json.Encoder().encode

ListName = Annotated[
    str, Query(min_length=1, max_length=200, pattern=r"^[^\x00]*$", description="What people call it.")
]
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": f"Up to {MAX_IDS:,} ids, streamed. CSV: one column; a first line `user_id` is its header.",
        "content": {
            CSV: {"schema": {"type": "string"}, "example": "user_id\nu-42\nu-43\n"},
            JSON_LINES[0]: {"schema": {"type": "string"}, "example": '{"user_id":"u-42"}\n{"user_id":"u-43"}\n'},
        },
    }
}


def shown(resource: Resource, users: Sequence[User] = ()) -> dict[str, Any]:
    return {
        "id": resource.id,
        **resource.body,
        "state": resource.status,
        "used_by": answers.used_by(users),
        **answers.frame(resource),
    }


def _documented() -> dict[int | str, dict[str, Any]]:
    responses = documented(409, 413, 415, 422)
    responses[413] = {**responses[413], "description": f"The body is larger than {MAX_BODY_BYTES} bytes."}
    responses[415] = {**responses[415], "description": f"The body is none of {', '.join(MEDIA_TYPES)}."}
    responses[422] = {**responses[422], "description": "A line is wrong: `/line/n` points at it; nothing was kept."}
    return responses


@router.post("", status_code=201, response_model=UserList, responses=_documented(), openapi_extra=_BODY)
async def create_user_list(
    name: ListName,
    request: Request,
    services: FromServices,
    caller: CampaignWriter,
    key: answers.IdempotencyKey = None,
) -> Response:
    """Upload a list of user ids. All of it is there when this answers 201, and none of it after an error."""
    upload = _Upload(request, f"{request.url.path}\n{name}")
    former = await _former(services, caller, key)
    if former is not None:
        async for _ in upload.lines():
            continue
        return _repeated(request, former, upload)
    async with services.database.begin() as tx:
        made = await user_lists.begin(tx, name)
    try:
        answer = await services.segment_engine.put_lines(_path(made.id), upload.lines())
        async with services.database.begin() as tx:
            await resources.lock_configuration(tx)
            former = await idempotency.find(tx, caller.key_id, key) if key else None
            if former is None:
                ready = shown(await user_lists.complete(tx, made.id, int(answer["members"])))
                if key:
                    reply = codec.encode(ready).decode()
                    kept = idempotency.Reply(upload.fingerprint, made.id, 201, reply, f'"{ready["version"]}"')
                    await idempotency.save(tx, caller.key_id, key, kept)
    except Exception:
        await _give_up(services, made.id)
        raise
    if former is not None:
        # The same upload came twice at once, and the other was sooner.
        await _give_up(services, made.id)
        return _repeated(request, former, upload)
    response = answers.with_etag(ready, 201)
    response.headers["Location"] = f"{request.url.path}/{made.id}"
    return response


@router.get("", response_model=Page[UserList], responses=documented(422))
async def list_user_lists(
    services: FromServices, caller: Reader, limit: answers.Limit = 50, cursor: answers.Cursor = None
) -> Response:
    """Uploaded lists."""
    before = answers.decode_cursor(cursor)
    async with services.database.begin() as tx:
        found = await resources.page(tx, "user_list", limit + 1, before)
        users = await references.users_of(tx, [one.id for one in found])
    return answers.page(found, limit, lambda one: shown(one, users[one.id]))


@router.get("/{id}", response_model=UserList, responses=documented(404))
async def read_user_list(services: FromServices, id: answers.UserListId, caller: Reader) -> Response:
    """One list; its ids are not given back."""
    async with services.database.begin() as tx:
        found = await common.get(tx, "user_list", id)
        users = (await references.users_of(tx, [id]))[id]
    return answers.with_etag(shown(found, users))


@router.delete("/{id}", status_code=204, response_model=None, responses=documented(404, 409))
async def delete_user_list(services: FromServices, id: answers.UserListId, caller: CampaignWriter) -> Response:
    """Only while no segment, and no campaign that can still run, names it in a rule."""
    async with services.database.begin() as tx:
        await user_lists.delete(tx, id)
    await _remove(services, id)
    return Response(status_code=204)


class _Upload:
    """One body: read once, as it comes; its fingerprint is known when it is over."""

    def __init__(self, request: Request, about: str) -> None:
        """Raises `Problem` for what need not be read."""
        self._request = request
        media_type = _media_type(request)
        self._reader = ListReader(media_type)
        self._digest = hashlib.sha256(f"{about}\n{media_type == CSV}\n".encode())
        announced = request.headers.get("content-length", "")
        if announced.isascii() and announced.isdigit() and int(announced[:19]) > MAX_BODY_BYTES:
            raise Problem(413, f"the body is larger than {MAX_BODY_BYTES} bytes")

    @property
    def fingerprint(self) -> bytes:
        return self._digest.digest()

    async def lines(self) -> AsyncIterator[bytes]:
        """What the segment-engine reads: lists of ids, a line each, and their number, by which it knows the end."""
        try:
            waiting: list[str] = []
            async for chunk in self._request.stream():
                self._digest.update(chunk)
                for start in range(0, len(chunk), SLICE_BYTES):
                    waiting += self._reader.feed(chunk[start : start + SLICE_BYTES])
                    if len(waiting) >= LINE_IDS:
                        yield _encode(waiting) + b"\n"
                        waiting = []
            waiting += self._reader.end()
            yield _encode(waiting) + b"\n" + _encode(self._reader.count) + b"\n"
        except BadLine as error:
            raise Invalid([FieldProblem(f"/line/{error.line}", error.reason)], str(error)) from error
        except TooLarge as error:
            raise Problem(413, str(error)) from error


def _media_type(request: Request) -> str:
    message = Message()
    message["content-type"] = request.headers.get("content-type", "")
    media_type = message.get_content_type()
    if media_type not in MEDIA_TYPES or request.headers.get("content-encoding", "identity") != "identity":
        raise Problem(415, f"the body must be one of {', '.join(MEDIA_TYPES)}, not compressed")
    return media_type


async def _former(services: Services, caller: Caller, key: str | None) -> idempotency.Reply | None:
    if key is None:
        return None
    async with services.database.begin() as tx:
        return await idempotency.find(tx, caller.key_id, key)


def _repeated(request: Request, former: idempotency.Reply, upload: _Upload) -> Response:
    if former.fingerprint != upload.fingerprint:
        raise Conflict("this Idempotency-Key was used for another request")
    headers = {"Location": f"{request.url.path}/{former.resource_id}", "ETag": former.etag or ""}
    return Response(former.reply, former.status, headers, "application/json")


async def _give_up(services: Services, id: str) -> None:
    """Nothing of it remains; what cannot be removed now, housekeeping removes."""
    try:
        async with services.database.begin() as tx:
            await user_lists.give_up(tx, id)
    except Exception as error:
        if not is_outage(error):
            raise
        log.warning("user_list_left", id=id, **failure(error))
        return
    await _remove(services, id)


async def _remove(services: Services, id: str) -> None:
    """Now, or by housekeeping: the row says that it is to go."""
    try:
        await remove_list(services.database, services.segment_engine, id)
    except Exception as error:
        if not (isinstance(error, PartUnavailable | RefusedByPart) or is_outage(error)):
            raise
        log.warning("user_list_left", id=id, **failure(error))


def _path(id: str) -> str:
    return f"/internal/user-lists/{id}"
