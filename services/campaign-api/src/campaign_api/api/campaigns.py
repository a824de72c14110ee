"""/v1/campaigns: saving, scheduling, stopping, estimating, previewing."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.api import answers
from campaign_api.api.auth import Admin, CampaignWriter, Reader
from campaign_api.api.models.base import Model, Page
from campaign_api.api.models.campaigns import Campaign, CampaignIn, PreviewIn
from campaign_api.api.models.reach import Reach
from campaign_api.api.models.reports import PreviewOut
from campaign_api.api.problems import BODY_ERRORS, documented
from campaign_api.api.requests import StrictRoute
from campaign_api.api.services import FromServices, Services
from campaign_api.domain.preview import preview
from campaign_api.domain.resource import Resource, rfc3339
from campaign_api.domain.snapshots import is_published
from campaign_api.handlers import campaigns, common, estimates
from campaign_api.store import resources

router = APIRouter(prefix="/v1/campaigns", tags=["campaigns"], route_class=StrictRoute)


def shown(resource: Resource) -> dict[str, Any]:
    return {
        "id": resource.id,
        **resource.body,
        "status": resource.status,
        "scheduled_at": _moment(resource.internal.get("scheduled_at")),
        "end_reason": resource.internal.get("end_reason"),
        **answers.frame(resource),
    }


@router.post("", status_code=201, response_model=Campaign, responses=documented(*BODY_ERRORS, 409))
async def create_campaign(
    body: CampaignIn,
    request: Request,
    services: FromServices,
    caller: CampaignWriter,
    key: answers.IdempotencyKey = None,
) -> Response:
    """Save a campaign as a draft. What cannot work is refused now, with a pointer to the field."""

    async def make(tx: AsyncConnection) -> answers.Created:
        return answers.Created(shown(await campaigns.create(tx, body.content(), services.clock.now())))

    return await answers.create(services, request, caller, key, body, make)


@router.get("", response_model=Page[Campaign], responses=documented(422))
async def list_campaigns(
    services: FromServices, caller: Reader, limit: answers.Limit = 50, cursor: answers.Cursor = None
) -> Response:
    """Campaigns in any state."""
    before = answers.decode_cursor(cursor)
    async with services.database.begin() as tx:
        return answers.page(await resources.page(tx, "campaign", limit + 1, before), limit, shown)


@router.get("/{id}", response_model=Campaign, responses=documented(404))
async def read_campaign(services: FromServices, id: answers.CampaignId, caller: Reader) -> Response:
    """One campaign."""
    async with services.database.begin() as tx:
        return answers.with_etag(shown(await common.get(tx, "campaign", id)))


@router.put("/{id}", response_model=Campaign, responses=documented(*BODY_ERRORS, 404, 409, 412, 428))
async def change_campaign(
    body: CampaignIn, services: FromServices, if_match: answers.IfMatch, id: answers.CampaignId, caller: CampaignWriter
) -> Response:
    """Change a campaign as a whole. Once it is scheduled, `kind`, `when` and `who` touch runs whose audience is not
    fixed, and `what` texts that were not handed to the dispatcher yet; of a live campaign armed timers follow. One that
    waits for approval, or was rejected, becomes a draft; one that was approved is changed with the scope `admin`, as
    long as the settings require approval."""
    async with services.database.begin() as tx:
        current = await common.get_to_change(tx, "campaign", id, if_match)
        common.check_read_only(body.read_only(), shown(current), if_match)
        changed = await campaigns.put(
            tx, id, body.content(), current.version, services.clock.now(),
            may_approve=caller.may("admin"),
        )  # fmt: skip
    return await _published(services, changed)


@router.delete("/{id}", status_code=204, response_model=None, responses=documented(404, 409))
async def delete_campaign(services: FromServices, id: answers.CampaignId, caller: CampaignWriter) -> Response:
    """Only what was never scheduled can be deleted."""
    async with services.database.begin() as tx:
        await campaigns.delete(tx, id)
    return Response(status_code=204)


@router.post("/{id}/clone", status_code=201, response_model=Campaign, responses=documented(404, 409, 422))
async def clone_campaign(
    request: Request,
    services: FromServices,
    id: answers.CampaignId,
    caller: CampaignWriter,
    key: answers.IdempotencyKey = None,
) -> Response:
    """A new draft with the same content, whatever state this campaign is in. A date that is past is told when the
    draft is saved or scheduled."""

    async def make(tx: AsyncConnection) -> answers.Created:
        return answers.Created(shown(await campaigns.clone(tx, id)))

    return await answers.create(services, request, caller, key, Model(), make, router.prefix)


@router.post("/{id}/schedule", response_model=Campaign, responses=documented(404, 409, 412, 422))
async def schedule_campaign(
    services: FromServices, id: answers.CampaignId, if_match: answers.IfMatch, caller: CampaignWriter
) -> Response:
    """From here on it runs by itself; a live campaign at once. Validated again. Where the settings require approval it
    becomes `pending_approval`. 200: the other services can read it.
    503: it is scheduled and will be published; ask again or wait."""
    async with services.database.begin() as tx:
        scheduled = await campaigns.schedule(tx, id, if_match, services.clock.now())
    return await _published(services, scheduled)


@router.post("/{id}/approve", response_model=Campaign, responses=documented(404, 409, 412, 422))
async def approve_campaign(
    services: FromServices, id: answers.CampaignId, if_match: answers.IfMatch, caller: Admin
) -> Response:
    """Let a campaign run that waits for approval; needs the scope `admin`. Validated again: a date may have passed."""
    async with services.database.begin() as tx:
        approved = await campaigns.approve(tx, id, if_match, services.clock.now())
    return await _published(services, approved)


@router.post("/{id}/reject", response_model=Campaign, responses=documented(404, 409, 412, 422))
async def reject_campaign(
    services: FromServices, id: answers.CampaignId, if_match: answers.IfMatch, caller: Admin
) -> Response:
    """Send a campaign back that waits for approval; needs the scope `admin`. An edit makes it a draft again."""
    async with services.database.begin() as tx:
        rejected = await campaigns.reject(tx, id, if_match)
    return await _published(services, rejected)


@router.post("/{id}/pause", response_model=Campaign, responses=documented(404, 409, 412, 422))
async def pause_campaign(
    services: FromServices, id: answers.CampaignId, if_match: answers.IfMatch, caller: CampaignWriter
) -> Response:
    """Hold what is queued and what comes due or triggers meanwhile; deadlines run on. 200: published; no call to a
    provider starts more than a second after this answer.
    503: it is paused and will be published as soon as Kafka is back; repeating the call waits for that."""
    async with services.database.begin() as tx:
        paused = await campaigns.pause(tx, id, if_match)
    return await _published(services, paused)


@router.post("/{id}/resume", response_model=Campaign, responses=documented(404, 409, 412, 422))
async def resume_campaign(
    services: FromServices, id: answers.CampaignId, if_match: answers.IfMatch, caller: CampaignWriter
) -> Response:
    """Send what was held and is still inside its deadline; the rest is `expired`."""
    async with services.database.begin() as tx:
        resumed = await campaigns.resume(tx, id, if_match)
    return await _published(services, resumed)


@router.post("/{id}/stop", response_model=Campaign, responses=documented(404, 409, 412, 422))
async def stop_campaign(
    services: FromServices, id: answers.CampaignId, if_match: answers.IfMatch, caller: CampaignWriter
) -> Response:
    """Cancel what is not sent; a draft can be given up too. 200: published; no call to a provider starts more than a
    second after this answer.
    503: it is stopped and will be published as soon as Kafka is back; repeating the call waits for that."""
    async with services.database.begin() as tx:
        stopped = await campaigns.stop(tx, id, if_match)
    return await _published(services, stopped)


@router.post("/{id}/estimate", response_model=Reach, responses=documented(404, 422))
async def estimate_campaign(services: FromServices, id: answers.CampaignId, caller: Reader) -> Response:
    """How many people the campaign would reach if it ran now, why not the others, and what the text comes to, tried on
    some of them. Of a live campaign: who did what it waits for in the last 30 days."""
    async with services.database.begin() as tx:
        question = await estimates.about_campaign(tx, await common.get(tx, "campaign", id), services.clock.now())
    return await answers.estimated(services, question)


@router.post("/{id}/preview", response_model=PreviewOut, responses=documented(*BODY_ERRORS, 404))
async def preview_campaign(body: PreviewIn, services: FromServices, id: answers.CampaignId, caller: Reader) -> Response:
    """The text for the values given, its encoding and parts, as the provider that would be tried first gets it. Nothing
    is sent."""
    async with services.database.begin() as tx:
        campaign = await common.get(tx, "campaign", id)
        settings = await resources.get_settings(tx)
        carrier = await common.first_carrier(tx, campaign.body["what"])
    carrier_id = None if carrier is None else carrier.id
    return answers.answer(preview(campaign, carrier_id, settings.body, body.profile, body.event))


def _moment(text: str | None) -> str | None:
    return None if text is None else rfc3339(datetime.fromisoformat(text))


async def _published(services: Services, campaign: Resource) -> Response:
    """The answer to a change, once the others can read it."""
    if is_published(campaign):
        await services.definitions.published([campaign.id])
    return answers.with_etag(shown(campaign))
