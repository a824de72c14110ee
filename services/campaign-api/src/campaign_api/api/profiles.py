"""/v1/profiles: one person, their texts, and forgetting them."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Request, Response

from campaign_api.api import answers
from campaign_api.api.auth import CampaignWriter, Reader
from campaign_api.api.models.profiles import Profile
from campaign_api.api.models.reports import MessagePage
from campaign_api.api.problems import documented
from campaign_api.api.requests import StrictRoute
from campaign_api.api.services import FromServices
from campaign_api.domain.errors import FieldProblem, Invalid, NotFound
from campaign_api.upstream import RefusedByPart
from postrider.contracts.delivery_events import STATUSES
from postrider.contracts.user_events import MAX_ID_CHARACTERS

router = APIRouter(prefix="/v1/profiles", tags=["profiles"], route_class=StrictRoute)

UserId = Annotated[
    str, Path(description="The person's id as events give it; percent-encode what a path cannot hold (`/` as %2F).")
]


# The longer path first: an id may have slashes.
@router.get("/{user_id:path}/messages", response_model=MessagePage, responses=documented(422))
async def read_profile_messages(
    request: Request,
    services: FromServices,
    user_id: UserId,
    caller: Reader,
    campaign_id: str | None = Query(None, max_length=64, description="Of one campaign."),
    status: str | None = Query(None, max_length=40, description="Message status."),
    limit: answers.Limit = 50,
    cursor: str | None = Query(None, max_length=1_000, description="`next_cursor` of the page before."),
) -> Response:
    """All texts to one person, also those that were not sent; nobody known: none. Of an erased person they stay,
    without phone and text."""
    if not request.scope["raw_path"].endswith(b"/messages"):
        # An id that ends so, written with %2F.
        return await read_profile(services, f"{user_id}/messages", caller)
    if status is not None and status not in STATUSES:
        raise Invalid([FieldProblem("/query/status", f"must be one of {', '.join(STATUSES)}")])
    if not _is_id(user_id):
        return answers.answer({"items": [], "next_cursor": None})
    filters = {"user_id": user_id, "campaign_id": campaign_id, "status": status, "limit": limit, "cursor": cursor}
    return answers.answer(await answers.page_of(services.segment_engine, "/internal/messages", filters))


@router.get("/{user_id:path}", response_model=Profile, responses=documented(404))
async def read_profile(services: FromServices, user_id: UserId, caller: Reader) -> Response:
    """One person as known now. An identify shows a moment after its 200."""
    found = await _asked(services.segment_engine.get("/internal/profile", {"user_id": _known(user_id)}))
    return answers.with_etag(
        {
            "id": found["user_id"],
            "user_id": found["user_id"],
            "phone": found["phone"],
            "country": found["phone_country"] or found["country"],
            "time_zone": found["time_zone"],
            "sms_consent": found["sms_consent"],
            "suppressed": found["suppressed"],
            "traits": found["traits"],
            "created_at": found["created_at"],
            "updated_at": found["updated_at"],
            "version": found["version"],
        }
    )


@router.delete("/{user_id:path}", status_code=204, response_model=None, responses=documented(404))
async def erase_profile(services: FromServices, user_id: UserId, caller: CampaignWriter) -> Response:
    """Forget a person: traits, events, timers, and phone and text in the message log, of everything sent before this
    request. Counts of reports stay, and so does a suppression of the phone. An event or identify that is sent later
    starts anew. 503: it will be done, or was not begun; ask again."""
    await _asked(services.segment_engine.delete(f"/internal/profile?user_id={quote(_known(user_id), safe='')}"))
    return Response(status_code=204)


def _is_id(user_id: str) -> bool:
    return 0 < len(user_id) <= MAX_ID_CHARACTERS and "\x00" not in user_id


def _known(user_id: str) -> str:
    if not _is_id(user_id):
        raise _unknown()
    return user_id


async def _asked(asking: Any) -> Any:
    try:
        return await asking
    except RefusedByPart as refused:
        raise _unknown() from refused


def _unknown() -> NotFound:
    return NotFound("there is no such profile")
