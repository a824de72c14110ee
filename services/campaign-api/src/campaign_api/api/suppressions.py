"""/v1/suppressions: phones that must not be texted. The dispatcher alone keeps them; this forwards."""

from __future__ import annotations

from fastapi import APIRouter, Query, Response

from campaign_api.api import answers
from campaign_api.api.auth import CampaignWriter, Reader
from campaign_api.api.models.account import Suppression, SuppressionIn
from campaign_api.api.models.base import Page
from campaign_api.api.problems import BODY_ERRORS, documented
from campaign_api.api.providers import phone_of
from campaign_api.api.requests import StrictRoute
from campaign_api.api.services import FromServices

router = APIRouter(prefix="/v1/suppressions", tags=["suppressions"], route_class=StrictRoute)


@router.get("", response_model=Page[Suppression], responses=documented(422))
async def list_suppressions(
    services: FromServices,
    caller: Reader,
    phone: str | None = Query(None, max_length=64, description="Only this phone."),
    limit: answers.Limit = 50,
    cursor: str | None = Query(None, max_length=1_000, description="`next_cursor` of the page before."),
) -> Response:
    """Phones that must not be texted."""
    e164 = None if phone is None else await phone_of(services, phone, "/query/phone")
    filters = {"phone": e164, "limit": limit, "cursor": cursor}
    return answers.answer(await answers.page_of(services.dispatcher, "/internal/suppressions", filters))


@router.post("", status_code=201, response_model=Suppression, responses=documented(*BODY_ERRORS))
async def add_suppression(body: SuppressionIn, services: FromServices, caller: CampaignWriter) -> Response:
    """From the answer on, this phone is not texted. 201: the dispatcher has committed it."""
    phone = await phone_of(services, body.phone, "/phone")
    given = {"phone": phone, "reason": body.reason, "source": body.source}
    kept = await services.dispatcher.post("/internal/suppressions", given)
    return answers.answer({**given, **(kept if isinstance(kept, dict) else {})}, 201)
