"""Internal routes of one person (read, erase) and of the catalogue."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from segment_engine.adapters import erasure_table, profile_table, suppression_table
from segment_engine.api.base import Problem, Services, caught_up, rfc3339
from segment_engine.event_store.port import CatalogEntry, CatalogPage

ERASED_SECONDS = 30.0
MAX_PAGE = 1_000
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]


def profile_routes(services: Services) -> APIRouter:
    router = APIRouter()

    @router.get("/internal/profiles/{user_id:path}")
    async def by_path(user_id: str) -> dict[str, Any]:
        return await _profile(services, user_id)

    @router.get("/internal/profile")
    async def by_id(user_id: str) -> dict[str, Any]:
        """The id is no part of the path: paths are tidied on their way, ids must not be."""
        return await _profile(services, user_id)

    @router.delete("/internal/profile", status_code=204)
    async def erase(user_id: str) -> Response:
        """Everything that was published before the call goes too."""
        if "\x00" in user_id:
            raise _unknown()
        await caught_up(services)
        if not await services.erasures.begin(user_id):
            async with services.database.begin() as tx:
                if not await erasure_table.is_open(tx, user_id):
                    raise _unknown()
        try:
            async with asyncio.timeout(ERASED_SECONDS):
                await services.erasures.finished(user_id)
        except TimeoutError as error:
            title = "The profile is erased; the event store is not done yet and goes on by itself"
            raise Problem(503, title) from error
        return Response(status_code=204)

    return router


def catalog_routes(services: Services) -> APIRouter:
    router = APIRouter()

    @router.get("/internal/catalog/events")
    async def events(prefix: str = "", after: str = "", limit: Limit = 50) -> dict[str, Any]:
        return _page(await services.store.catalog_events(prefix, after, limit), _event)

    @router.get("/internal/catalog/attributes")
    async def attributes(prefix: str = "", after: str = "", limit: Limit = 50) -> dict[str, Any]:
        return _page(await services.store.catalog_attributes(prefix, after, limit), _named)

    return router


async def _profile(services: Services, user_id: str) -> dict[str, Any]:
    if "\x00" in user_id:
        raise _unknown()
    async with services.database.begin() as tx:
        known = (await profile_table.read(tx, [user_id])).get(user_id)
        if known is None or known.deleted:
            raise _unknown()
        phone = known.contact.phone
        reasons = await suppression_table.reasons(tx, [phone] if phone else [], services.phone_hash_key)
        times = await profile_table.times(tx, user_id)
    contact = known.contact
    return {
        "user_id": known.user_id,
        "version": known.version,
        "phone": phone,
        "phone_country": contact.phone_country,
        "country": contact.country,
        "time_zone": contact.time_zone,
        "sms_consent": contact.consent,
        "suppressed": reasons.get(phone) if phone else None,
        "traits": known.traits,
        "created_at": rfc3339(times.created_at),
        "updated_at": rfc3339(times.updated_at),
    }


def _unknown() -> Problem:
    return Problem(404, "There is no such profile")


def _page(page: CatalogPage, show: Any) -> dict[str, Any]:
    return {"items": [show(item) for item in page.items], "more": page.more, "left_out": page.left_out}


def _named(entry: CatalogEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "types": entry.types,
        "examples": entry.examples,
        "count": entry.n,
        "last_seen_at": rfc3339(entry.last_at),
    }


def _event(entry: CatalogEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "count": entry.n,
        "last_seen_at": rfc3339(entry.last_at),
        "properties": [_named(entry) for entry in entry.properties],
        "properties_left_out": entry.left_out,
    }
