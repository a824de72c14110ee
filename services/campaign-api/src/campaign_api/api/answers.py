"""Answers that all resources share: pages, ETags, creations under an `Idempotency-Key`, and waiting for the broker."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from fastapi import Depends, Header, Path, Query, Request, Response
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.api.problems import Problem
from campaign_api.api.services import Services
from campaign_api.domain.errors import FieldProblem, Invalid
from campaign_api.domain.keys import Caller
from campaign_api.domain.resource import Resource, rfc3339
from campaign_api.handlers import estimates
from campaign_api.handlers.common import NO_VERSION, Version
from campaign_api.store import definition_outbox, idempotency, resources
from campaign_api.store.references import User
from campaign_api.upstream import Part, PartUnavailable, RefusedByPart
from postrider.contracts import codec
from postrider.contracts.ids import PREFIXES

MOST_NAMED = 100
CAPS_SECONDS = 5.0
"""How long an estimate waits for the scheduler's part of it."""
_SORTED = msgspec.json.Encoder(order="sorted")
_ETAG = re.compile(r'(?:W/)?"([\x21\x23-\x7e]*)"|([0-9]+)')
"""A tag that a compressing proxy has made weak is taken, and a bare number, which is what people type."""
_CURSOR = re.compile(r"[a-z]{3}_[0-9a-z]{26}")

Limit = Annotated[int, Query(ge=1, le=1_000, description="How many items at most.")]
Cursor = Annotated[str | None, Query(max_length=200, description="`next_cursor` of the page before.")]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
        description="Same key and body: the same reply, for two days. Same key and another body: 409.",
    ),
]


def _if_match(
    given: Annotated[
        str | None,
        Header(alias="If-Match", max_length=100, description="The ETag that was read; `*` for any version."),
    ] = None,
) -> Version:
    if given is None or given.strip() == "*":
        return given and "*"
    match = _ETAG.fullmatch(given.strip())
    if match is None:
        raise Problem(422, "If-Match must be an ETag", [FieldProblem("/header/If-Match", "must be one ETag, or *")])
    tag = match[1] or match[2] or ""
    return int(tag) if tag.isascii() and tag.isdigit() and len(tag) < 19 else NO_VERSION


IfMatch = Annotated[Version, Depends(_if_match)]


def _id_of(kind: str) -> Any:
    """A path parameter. Anything that is no id of this kind is not found."""
    pattern = re.compile(PREFIXES[kind] + "[0-9a-z]{26}")

    described = f"Id of the {kind.replace('_', ' ')}, `{PREFIXES[kind]}…`."

    def check(id: str = Path(description=described)) -> str:
        if not pattern.fullmatch(id):
            raise Problem(404, f"there is no such {kind.replace('_', ' ')}")
        return id

    return Depends(check)


CampaignId = Annotated[str, _id_of("campaign")]
ProviderId = Annotated[str, _id_of("provider")]
GroupId = Annotated[str, _id_of("provider_group")]
SegmentId = Annotated[str, _id_of("segment")]
UserListId = Annotated[str, _id_of("user_list")]
ApiKeyId = Annotated[str, _id_of("api_key")]


def decode_cursor(cursor: str | None) -> str | None:
    """The id after which the page begins. Raises `Problem`."""
    if cursor is None:
        return None
    try:
        id = base64.urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4)).decode("ascii")
    except (binascii.Error, ValueError) as error:
        raise _bad_cursor() from error
    if not _CURSOR.fullmatch(id):
        raise _bad_cursor()
    return id


def items_after(items: Sequence[dict[str, Any]], after: str | None, name: str) -> Sequence[dict[str, Any]]:
    """What comes behind the item of that name in a list that is at hand whole. Raises `Problem`."""
    if after is None:
        return items
    position = next((number for number, item in enumerate(items) if item[name] == after), None)
    if position is None:
        raise _bad_cursor()
    return items[position + 1 :]


def page(items: Sequence[Any], limit: int, show: Callable[[Any], dict[str, Any]], name: str | None = None) -> Response:
    """`items` holds more than the limit when there is a next page. `name`: the key of their id when they are
    mappings."""
    shown = items[:limit]
    following = None
    if len(items) > limit:
        last = shown[-1].id if name is None else shown[-1][name]
        following = base64.urlsafe_b64encode(last.encode()).decode().rstrip("=")
    return answer({"items": [show(item) for item in shown], "next_cursor": following})


async def page_of(part: Part, path: str, filters: Mapping[str, str | int | None]) -> Any:
    """A page of a list that another service keeps. All else was checked here: what it refuses is the cursor."""
    try:
        return await part.get(path, filters)
    except RefusedByPart as refused:
        if refused.status == 422:
            raise _bad_cursor() from refused
        raise


async def estimated(services: Services, question: estimates.Question) -> Response:
    """What the segment-engine refuses points into what the caller sent, or into the campaign. Without the scheduler,
    which keeps the caps, an estimate is one before caps, and says so."""
    try:
        found = await services.segment_engine.post("/internal/estimate", question.asked)
    except RefusedByPart as refused:
        raise _pointing(refused, question.pointers) from refused
    return answer(estimates.shown(found, question, await _capped_share(services.scheduler, found, question)))


async def _capped_share(scheduler: Part, found: Mapping[str, Any], question: estimates.Question) -> float | None:
    """Of those who would be texted; None: not known."""
    if question.caps is None or not found["people"]:
        return 0.0
    try:
        answered = await scheduler.post("/internal/capped", question.caps | {"people": found["people"]}, CAPS_SECONDS)
    except PartUnavailable:
        return None
    return float(answered["capped"] / answered["asked"])


def _pointing(refused: RefusedByPart, pointers: Mapping[str, str]) -> Invalid:
    problems = []
    for item in refused.problems():
        for theirs, ours in pointers.items():
            if item.pointer == theirs or item.pointer.startswith(f"{theirs}/"):
                # Inside a saved segment no pointer of the caller's leads any further.
                inner = "" if ours.endswith("segment_id") else item.pointer.removeprefix(theirs)
                problems.append(FieldProblem(ours + inner, item.message))
                break
        else:
            problems.append(item)
    return Invalid(problems, "" if problems else "the estimate is refused")


def answer(body: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(codec.encode(body), status, headers, "application/json")


def with_etag(shown: dict[str, Any], status: int = 200) -> Response:
    return answer(shown, status, {"ETag": f'"{shown["version"]}"'})


def frame(resource: Resource) -> dict[str, Any]:
    """The fields every resource has."""
    return {
        "created_at": rfc3339(resource.created_at),
        "updated_at": rfc3339(resource.updated_at),
        "version": resource.version,
    }


def used_by(users: Sequence[User]) -> dict[str, Any]:
    """Who uses a segment or a list: all are counted, the first are named."""
    ids = {kind: [user.id for user in users if user.kind == kind] for kind in ("campaign", "segment")}
    named = {f"{kind}s": of_kind[:MOST_NAMED] for kind, of_kind in ids.items()}
    return {"count": len(users), **named}


@dataclass(frozen=True)
class Created:
    """`shown`: the reply. `kept`: what a repeat is answered with, where that differs. `published`: wait for these."""

    shown: dict[str, Any]
    published: tuple[str, ...] = ()
    kept: dict[str, Any] | None = None


async def create(
    services: Services,
    request: Request,
    caller: Caller,
    key: str | None,
    body: BaseModel,
    make: Callable[[AsyncConnection], Awaitable[Created]],
    collection: str | None = None,
) -> Response:
    """201 with the new resource; with an `Idempotency-Key` seen before, the same reply as then. `collection`: the path
    it is found under, when that is not the one that was called."""
    print_ = fingerprint(request, body)
    collection = collection or request.url.path
    async with services.database.begin() as tx:
        await resources.lock_configuration(tx)
        former = await idempotency.find(tx, caller.key_id, key) if key else None
        if former is not None and former.fingerprint != print_:
            raise Problem(409, "this Idempotency-Key was used for another request")
        if former is None:
            made = await make(tx)
            created = made.shown
            if key:
                kept = codec.encode(made.kept or created).decode()
                reply = idempotency.Reply(print_, created["id"], 201, kept, f'"{created["version"]}"')
                await idempotency.save(tx, caller.key_id, key, reply)
        else:
            waiting = await definition_outbox.is_waiting(tx, former.resource_id)
    if former is not None:
        if waiting:
            await services.definitions.published([former.resource_id])
        headers = {"Location": f"{collection}/{former.resource_id}"}
        if former.etag:
            headers["ETag"] = former.etag
        return Response(former.reply, former.status, headers, "application/json")
    await services.definitions.published(made.published)
    response = with_etag(created, 201)
    response.headers["Location"] = f"{collection}/{created['id']}"
    return response


def fingerprint(request: Request, body: BaseModel) -> bytes:
    """Of the path and the body as understood: spelling and order of keys do not matter."""
    return hashlib.sha256(request.url.path.encode() + b"\n" + _SORTED.encode(body.model_dump(mode="json"))).digest()


def _bad_cursor() -> Problem:
    return Problem(422, "the cursor is not one of ours", [FieldProblem("/query/cursor", "is not one of ours")])
