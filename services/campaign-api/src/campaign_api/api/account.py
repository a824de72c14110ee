"""/v1/settings and /v1/api-keys."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.api import answers, auth
from campaign_api.api.auth import Admin, Reader
from campaign_api.api.models.account import ApiKey, ApiKeyIn, NewApiKey, Settings, SettingsIn
from campaign_api.api.models.base import Page
from campaign_api.api.problems import BODY_ERRORS, documented
from campaign_api.api.requests import StrictRoute
from campaign_api.api.services import FromServices
from campaign_api.domain.errors import FieldProblem, Invalid, NotFound
from campaign_api.domain.keys import hash_secret, new_key
from campaign_api.domain.resource import SETTINGS_ID, Resource, rfc3339
from campaign_api.handlers import account, common
from campaign_api.store import api_keys, resources

router = APIRouter(prefix="/v1", tags=["account"], route_class=StrictRoute)


def shown_settings(resource: Resource) -> dict[str, Any]:
    return {"id": SETTINGS_ID, **resource.body, **answers.frame(resource)}


@router.get("/settings", response_model=Settings, responses=documented())
async def read_settings(services: FromServices, caller: Reader) -> Response:
    """The account's settings."""
    async with services.database.begin() as tx:
        return answers.with_etag(shown_settings(await resources.get_settings(tx)))


@router.put("/settings", response_model=Settings, responses=documented(*BODY_ERRORS, 412, 428))
async def change_settings(
    body: SettingsIn, services: FromServices, if_match: answers.IfMatch, caller: Admin
) -> Response:
    """Change the settings as a whole. Campaigns that are scheduled already keep what they took from them."""
    async with services.database.begin() as tx:
        current = await common.get_to_change(tx, "settings", SETTINGS_ID, if_match)
        common.check_read_only(body.read_only(), shown_settings(current), if_match)
        changed = await account.put(tx, body.content(), current.version)
    await services.definitions.published([SETTINGS_ID])
    return answers.with_etag(shown_settings(changed))


@router.post("/api-keys", status_code=201, response_model=NewApiKey, responses=documented(*BODY_ERRORS, 409))
async def create_api_key(
    body: ApiKeyIn, request: Request, services: FromServices, caller: Admin, key: answers.IdempotencyKey = None
) -> Response:
    """Make an API key. The key itself is in this answer and nowhere else."""

    async def make(tx: AsyncConnection) -> answers.Created:
        id, whole = new_key()
        secret = whole.removeprefix(f"{id}_")
        stored = await api_keys.insert(
            tx, id, body.name, sorted(set(body.scopes)), hash_secret(secret), _expiry(body.expires_at)
        )
        shown = shown_key(stored)
        return answers.Created({**shown, "key": whole}, kept={**shown, "key": None})

    return await answers.create(services, request, caller, key, body, make)


@router.get("/api-keys", response_model=Page[ApiKey], responses=documented(422))
async def list_api_keys(
    services: FromServices, caller: Admin, limit: answers.Limit = 50, cursor: answers.Cursor = None
) -> Response:
    """API keys, without their secrets."""
    before = answers.decode_cursor(cursor)
    async with services.database.begin() as tx:
        return answers.page(await api_keys.page(tx, limit + 1, before), limit, shown_key)


@router.get("/api-keys/{id}", response_model=ApiKey, responses=documented(404))
async def read_api_key(services: FromServices, id: answers.ApiKeyId, caller: Admin) -> Response:
    """One API key, without its secret."""
    async with services.database.begin() as tx:
        found = await api_keys.get(tx, id)
    if found is None:
        raise NotFound("there is no such api key")
    return answers.with_etag(shown_key(found))


@router.delete("/api-keys/{id}", status_code=204, response_model=None, responses=documented(404))
async def delete_api_key(services: FromServices, id: answers.ApiKeyId, caller: Admin) -> Response:
    """The key is worth nothing from now on (other replicas: within two seconds)."""
    async with services.database.begin() as tx:
        if not await api_keys.delete(tx, id):
            raise NotFound("there is no such api key")
    auth.forget(services, id)
    return Response(status_code=204)


def shown_key(key: api_keys.ShownKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "scopes": key.scopes,
        "expires_at": rfc3339(key.expires_at) if key.expires_at else None,
        "created_at": rfc3339(key.created_at),
        "updated_at": rfc3339(key.updated_at),
        "version": key.version,
    }


def _expiry(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None or not 1971 <= at.year <= 9000:
        raise Invalid([FieldProblem("/expires_at", "must be an RFC 3339 time with an offset")])
    return at
