"""/v1/providers, /v1/provider-groups and the sandbox's inbox."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.api import answers
from campaign_api.api.auth import ProviderWriter, Reader
from campaign_api.api.models.base import Page
from campaign_api.api.models.providers import Inbox, Provider, ProviderGroup, ProviderGroupIn, ProviderIn
from campaign_api.api.problems import BODY_ERRORS, documented
from campaign_api.api.requests import StrictRoute
from campaign_api.api.services import FromServices, Services
from campaign_api.domain.errors import FieldProblem, Invalid
from campaign_api.domain.resource import Resource
from campaign_api.handlers import common, groups, providers
from campaign_api.handlers.providers import members_of
from campaign_api.store import resources
from postrider.contracts.what_fields import what_fields
from postrider.phones import normalise

router = APIRouter(prefix="/v1", tags=["providers"], route_class=StrictRoute)


def shown_provider(services: Services, resource: Resource) -> dict[str, Any]:
    """Never the credentials, sealed or not."""
    tail = f"{resource.id}/{resource.internal['token']}"
    return {
        "id": resource.id,
        **resource.body,
        "callback_url": f"{services.public_url}/receipts/{tail}",
        "inbound_url": f"{services.public_url}/inbound/{tail}",
        "what_fields": _takes(resource),
        "status": resource.status,
        **answers.frame(resource),
    }


def _takes(provider: Resource) -> Any:
    """As JSON has it, lists and no tuples: it is compared with what is sent back."""
    return msgspec.json.decode(msgspec.json.encode(what_fields(provider.body["kind"], provider.body["settings"])))


async def shown_groups(tx: AsyncConnection, groups: Sequence[Resource]) -> dict[str, dict[str, Any]]:
    """By id. Bodies saved before a field was built have none of it."""
    active = {each.id: _takes(each) for each in await resources.all_of(tx, "provider") if each.status == "active"}
    return {
        group.id: {
            "id": group.id,
            "failover_on_rate_limit": False,
            **group.body,
            "routes": group.body.get("routes") or [],
            "what_fields": {id: active[id] for id in members_of(group.body) if id in active},
            **answers.frame(group),
        }
        for group in groups
    }


async def shown_group(tx: AsyncConnection, group: Resource) -> dict[str, Any]:
    return (await shown_groups(tx, [group]))[group.id]


@router.post("/providers", status_code=201, response_model=Provider, responses=documented(*BODY_ERRORS, 409))
async def create_provider(
    body: ProviderIn,
    request: Request,
    services: FromServices,
    caller: ProviderWriter,
    key: answers.IdempotencyKey = None,
) -> Response:
    """Add an account at a vendor. Credentials are sealed at once and can never be read back."""

    async def make(tx: AsyncConnection) -> answers.Created:
        made = await providers.create(tx, body.content(), body.credentials, services.sealer)
        return answers.Created(shown_provider(services, made), (made.id,))

    return await answers.create(services, request, caller, key, body, make)


@router.get("/providers", response_model=Page[Provider], responses=documented(422))
async def list_providers(
    services: FromServices, caller: Reader, limit: answers.Limit = 50, cursor: answers.Cursor = None
) -> Response:
    """Providers, archived ones too."""
    before = answers.decode_cursor(cursor)
    async with services.database.begin() as tx:
        found = await resources.page(tx, "provider", limit + 1, before)
    return answers.page(found, limit, lambda resource: shown_provider(services, resource))


@router.get("/providers/{id}", response_model=Provider, responses=documented(404))
async def read_provider(services: FromServices, id: answers.ProviderId, caller: Reader) -> Response:
    """One provider, without its credentials."""
    async with services.database.begin() as tx:
        return answers.with_etag(shown_provider(services, await common.get(tx, "provider", id)))


@router.put("/providers/{id}", response_model=Provider, responses=documented(*BODY_ERRORS, 404, 412, 428))
async def change_provider(
    body: ProviderIn, services: FromServices, if_match: answers.IfMatch, id: answers.ProviderId, caller: ProviderWriter
) -> Response:
    """Change a provider as a whole. Without `credentials` those stored are kept."""
    async with services.database.begin() as tx:
        current = await common.get_to_change(tx, "provider", id, if_match)
        common.check_read_only(body.read_only(), shown_provider(services, current), if_match)
        changed = await providers.put(tx, id, body.content(), body.credentials, services.sealer, current.version)
    await services.definitions.published([id])
    return answers.with_etag(shown_provider(services, changed))


@router.post("/providers/{id}/archive", response_model=Provider, responses=documented(404, 409))
async def archive_provider(services: FromServices, id: answers.ProviderId, caller: ProviderWriter) -> Response:
    """No new texts from now on: what is queued goes to the others of its group, what is accepted keeps this provider
    for receipts and look-ups. 409 lists the groups and campaigns under way that would be left without a provider."""
    async with services.database.begin() as tx:
        archived = await providers.archive(tx, id)
    await services.definitions.published([id])
    return answers.with_etag(shown_provider(services, archived))


@router.delete("/providers/{id}", status_code=204, response_model=None, responses=documented(404, 409))
async def delete_provider(services: FromServices, id: answers.ProviderId, caller: ProviderWriter) -> Response:
    """Only what nothing uses and nothing was sent with; otherwise archive it."""
    async with services.database.begin() as tx:
        await providers.delete(tx, id)
    await services.definitions.published([id])
    return Response(status_code=204)


@router.post("/provider-groups", status_code=201, response_model=ProviderGroup,
             responses=documented(*BODY_ERRORS, 409))  # fmt: skip
async def create_group(
    body: ProviderGroupIn,
    request: Request,
    services: FromServices,
    caller: ProviderWriter,
    key: answers.IdempotencyKey = None,
) -> Response:
    """Make a group. `is_default` takes the default from the group that had it."""

    async def make(tx: AsyncConnection) -> answers.Created:
        made, former = await groups.create(tx, body.content())
        return answers.Created(await shown_group(tx, made), (made.id, *former))

    return await answers.create(services, request, caller, key, body, make)


@router.get("/provider-groups", response_model=Page[ProviderGroup], responses=documented(422))
async def list_groups(
    services: FromServices, caller: Reader, limit: answers.Limit = 50, cursor: answers.Cursor = None
) -> Response:
    """Provider groups."""
    before = answers.decode_cursor(cursor)
    async with services.database.begin() as tx:
        found = await resources.page(tx, "provider_group", limit + 1, before)
        shown = await shown_groups(tx, found)
    return answers.page(found, limit, lambda group: shown[group.id])


@router.get("/provider-groups/{id}", response_model=ProviderGroup, responses=documented(404))
async def read_group(services: FromServices, id: answers.GroupId, caller: Reader) -> Response:
    """One group."""
    async with services.database.begin() as tx:
        return answers.with_etag(await shown_group(tx, await common.get(tx, "provider_group", id)))


@router.put("/provider-groups/{id}", response_model=ProviderGroup,
            responses=documented(*BODY_ERRORS, 404, 409, 412, 428))  # fmt: skip
async def change_group(
    body: ProviderGroupIn,
    services: FromServices,
    if_match: answers.IfMatch,
    id: answers.GroupId,
    caller: ProviderWriter,
) -> Response:
    """Change a group as a whole. What is queued goes by the new group; what is accepted keeps its provider. 409 lists
    campaigns under way that would be left without an active provider, or that a new member cannot send."""
    async with services.database.begin() as tx:
        current = await common.get_to_change(tx, "provider_group", id, if_match)
        # What its members take moves on with each of them: whatever was read may be sent back.
        given = {name: value for name, value in body.read_only().items() if name != "what_fields"}
        common.check_read_only(given, await shown_group(tx, current), if_match)
        changed, former = await groups.put(tx, id, body.content(), current.version)
        shown = await shown_group(tx, changed)
    await services.definitions.published([id, *former])
    return answers.with_etag(shown)


@router.delete("/provider-groups/{id}", status_code=204, response_model=None, responses=documented(404, 409))
async def delete_group(services: FromServices, id: answers.GroupId, caller: ProviderWriter) -> Response:
    """Only while no campaign that can still run uses it."""
    async with services.database.begin() as tx:
        await groups.delete(tx, id)
    await services.definitions.published([id])
    return Response(status_code=204)


@router.get("/sandbox/inbox", response_model=Inbox, responses=documented(422))
async def read_inbox(
    services: FromServices,
    caller: Reader,
    phone: str | None = Query(None, max_length=64, description="Only texts to this phone."),
    limit: answers.Limit = 50,
    cursor: str | None = Query(None, max_length=1_000, description="`next_cursor` of the page before."),
) -> Response:
    """Texts that sandbox providers "delivered"."""
    e164 = None if phone is None else await phone_of(services, phone, "/query/phone")
    filters = {"phone": e164, "limit": limit, "cursor": cursor}
    found = await answers.page_of(services.dispatcher, "/internal/sandbox/inbox", filters)
    return answers.answer({"next_cursor": None, **found})


async def phone_of(services: Services, spelt: str, pointer: str) -> str:
    """E.164, national spellings read by the default country. A `+` in a query that became a space is understood."""
    async with services.database.begin() as tx:
        country = (await resources.get_settings(tx)).body.get("default_country")
    text = "+" + spelt.strip() if spelt.startswith(" ") else spelt
    e164 = normalise(text, country).e164
    if e164 is None:
        raise Invalid([FieldProblem(pointer, "is no phone number")])
    return e164
