"""/v1/catalog: names of events, properties and attributes that were seen."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from campaign_api.api import answers
from campaign_api.api.auth import Reader
from campaign_api.api.models.catalog import AttributeCatalog, EventCatalog
from campaign_api.api.problems import documented
from campaign_api.api.requests import StrictRoute
from campaign_api.api.services import FromServices
from campaign_api.domain.errors import FieldProblem, Invalid
from campaign_api.upstream import Part

router = APIRouter(prefix="/v1/catalog", tags=["catalog"], route_class=StrictRoute)

Prefix = Annotated[str, Query(max_length=512, description="Names that begin with it, in upper or lower case.")]
NameCursor = Annotated[str | None, Query(max_length=4_000, description="`next_cursor` of the page before.")]


@router.get("/events", response_model=EventCatalog, responses=documented(422))
async def list_seen_events(
    services: FromServices, caller: Reader, prefix: Prefix = "", limit: answers.Limit = 50, cursor: NameCursor = None
) -> Response:
    """Events that were seen, with their properties; a name shows some two seconds after it was first sent."""
    return answers.answer(await _page(services.segment_engine, "/internal/catalog/events", prefix, limit, cursor))


@router.get("/attributes", response_model=AttributeCatalog, responses=documented(422))
async def list_seen_attributes(
    services: FromServices, caller: Reader, prefix: Prefix = "", limit: answers.Limit = 50, cursor: NameCursor = None
) -> Response:
    """Traits that were seen on profiles."""
    return answers.answer(await _page(services.segment_engine, "/internal/catalog/attributes", prefix, limit, cursor))


async def _page(part: Part, path: str, prefix: str, limit: int, cursor: str | None) -> Mapping[str, Any]:
    if "\x00" in prefix:
        raise Invalid([FieldProblem("/query/prefix", "must not contain NUL")])
    found = await part.get(path, {"prefix": prefix, "after": _name(cursor), "limit": limit})
    items = found["items"]
    following = base64.urlsafe_b64encode(items[-1]["name"].encode()).decode().rstrip("=") if found["more"] else None
    return {"items": items, "next_cursor": following, "left_out": found["left_out"]}


def _name(cursor: str | None) -> str:
    """The name after which the page begins."""
    if cursor is None:
        return ""
    try:
        name = base64.urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4)).decode()
    except (binascii.Error, ValueError) as error:
        raise Invalid([FieldProblem("/query/cursor", "is not one of ours")]) from error
    if not name or "\x00" in name:
        raise Invalid([FieldProblem("/query/cursor", "is not one of ours")])
    return name
