"""/v1/segments and the estimate of a rule's reach."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.api import answers
from campaign_api.api.auth import CampaignWriter, Reader
from campaign_api.api.models.base import Page
from campaign_api.api.models.reach import EstimateIn, Reach
from campaign_api.api.models.segments import Segment, SegmentIn
from campaign_api.api.problems import BODY_ERRORS, documented
from campaign_api.api.requests import StrictRoute
from campaign_api.api.services import FromServices
from campaign_api.domain.resource import Resource
from campaign_api.handlers import common, estimates, segments
from campaign_api.store import references, resources
from campaign_api.store.references import User

router = APIRouter(prefix="/v1/segments", tags=["segments"], route_class=StrictRoute)


def shown(resource: Resource, users: Sequence[User] = ()) -> dict[str, Any]:
    return {"id": resource.id, **resource.body, "used_by": answers.used_by(users), **answers.frame(resource)}


@router.post("", status_code=201, response_model=Segment, responses=documented(*BODY_ERRORS, 409))
async def create_segment(
    body: SegmentIn,
    request: Request,
    services: FromServices,
    caller: CampaignWriter,
    key: answers.IdempotencyKey = None,
) -> Response:
    """Save a rule under a name."""

    async def make(tx: AsyncConnection) -> answers.Created:
        made = await segments.create(tx, body.content())
        return answers.Created(shown(made), (made.id,))

    return await answers.create(services, request, caller, key, body, make)


@router.post("/estimate", response_model=Reach, responses=documented(*BODY_ERRORS))
async def estimate(body: EstimateIn, services: FromServices, caller: Reader) -> Response:
    """How many people a rule or a saved segment reaches now, why not the others, and, with a text, what it costs."""
    async with services.database.begin() as tx:
        what = None if body.what is None else body.what.model_dump()
        question = await estimates.about_rule(tx, body.rule, body.segment_id, what)
    return await answers.estimated(services, question)


@router.get("", response_model=Page[Segment], responses=documented(422))
async def list_segments(
    services: FromServices, caller: Reader, limit: answers.Limit = 50, cursor: answers.Cursor = None
) -> Response:
    """Saved segments."""
    before = answers.decode_cursor(cursor)
    async with services.database.begin() as tx:
        found = await resources.page(tx, "segment", limit + 1, before)
        users = await references.users_of(tx, [segment.id for segment in found])
    return answers.page(found, limit, lambda segment: shown(segment, users[segment.id]))


@router.get("/{id}", response_model=Segment, responses=documented(404))
async def read_segment(services: FromServices, id: answers.SegmentId, caller: Reader) -> Response:
    """One segment."""
    async with services.database.begin() as tx:
        segment = await common.get(tx, "segment", id)
        users = (await references.users_of(tx, [id]))[id]
    return answers.with_etag(shown(segment, users))


@router.put("/{id}", response_model=Segment, responses=documented(*BODY_ERRORS, 404, 412, 428))
async def change_segment(
    body: SegmentIn, services: FromServices, if_match: answers.IfMatch, id: answers.SegmentId, caller: CampaignWriter
) -> Response:
    """Change a segment as a whole: the next evaluation uses the new rule."""
    async with services.database.begin() as tx:
        current = await common.get_to_change(tx, "segment", id, if_match)
        given = {name: value for name, value in body.read_only().items() if name != "used_by"}
        common.check_read_only(given, shown(current), if_match)
        changed = await segments.put(tx, id, body.content(), current.version)
        users = (await references.users_of(tx, [id]))[id]
    await services.definitions.published([id])
    return answers.with_etag(shown(changed, users))


@router.delete("/{id}", status_code=204, response_model=None, responses=documented(404, 409))
async def delete_segment(services: FromServices, id: answers.SegmentId, caller: CampaignWriter) -> Response:
    """Only while no campaign that can still run and no other segment uses it."""
    async with services.database.begin() as tx:
        await segments.delete(tx, id)
    await services.definitions.published([id])
    return Response(status_code=204)
