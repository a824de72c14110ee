"""GET /v1/campaigns/{id}/occurrences: when a campaign happens in one zone, before anything is sent."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from campaign_api.api import answers
from campaign_api.api.auth import Reader
from campaign_api.api.models.occurrences import Occurrences
from campaign_api.api.problems import documented
from campaign_api.api.requests import StrictRoute
from campaign_api.api.services import FromServices
from campaign_api.domain.occurrences import occurrences_of
from campaign_api.handlers import common
from campaign_api.store import resources

router = APIRouter(prefix="/v1/campaigns", tags=["campaigns"], route_class=StrictRoute)


@router.get("/{id}/occurrences", response_model=Occurrences, responses=documented(404, 422))
async def read_occurrences(
    services: FromServices,
    id: answers.CampaignId,
    caller: Reader,
    zone: str | None = Query(
        None, max_length=64, description="IANA zone of a recipient; null: the campaign's own, or the account's."
    ),
    limit: Annotated[int, Query(ge=1, le=100, description="How many.")] = 20,
) -> Response:
    """The next times at which a campaign in any state is due for people in one zone; of a draft as if it were scheduled
    now. Empty for live campaigns. Quiet hours, limits and caps are not looked at."""
    async with services.database.begin() as tx:
        campaign = await common.get(tx, "campaign", id)
        settings = await resources.get_settings(tx)
    return answers.answer(occurrences_of(campaign, settings.body, zone, limit, services.clock.now()))
