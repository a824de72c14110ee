"""Providers: accounts at vendors. Credentials come in, are sealed, and never go out again."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.domain.errors import Conflict, FieldProblem, Invalid
from campaign_api.domain.resource import Resource
from campaign_api.handlers import common
from campaign_api.sealing import Sealer
from campaign_api.store import funnel, resources
from postrider.contracts.ids import new_id
from postrider.contracts.provider_fields import Problem, check_kept_credentials, check_provider
from postrider.contracts.what_fields import what_fields

ARCHIVED = "archived"


async def create(
    tx: AsyncConnection, body: dict[str, Any], credentials: Mapping[str, Any] | None, sealer: Sealer
) -> Resource:
    given = dict(credentials or {})
    _check(body, given)
    internal = {**_sealed(given, sealer), "token": secrets.token_urlsafe(24)}
    created = await resources.insert(tx, new_id("provider"), "provider", "active", body, internal)
    await common.publish(tx, created)
    return created


async def put(
    tx: AsyncConnection,
    id: str,
    body: dict[str, Any],
    credentials: Mapping[str, Any] | None,
    sealer: Sealer,
    if_match: common.Version,
) -> Resource:
    """Without credentials those stored are kept."""
    current = await common.get_to_change(tx, "provider", id, if_match)
    if body["kind"] != current.body["kind"]:
        raise Invalid([FieldProblem("/kind", "cannot change: make a new provider")])
    _check(body, credentials)
    internal = current.internal
    if credentials is None:
        _refuse(check_kept_credentials(body["kind"], current.body["settings"], body["settings"]))
    else:
        internal = {**internal, **_sealed(credentials, sealer)}
    around = await resources.surroundings(tx, await resources.get_settings(tx))
    takes = {**around.takes, id: what_fields(body["kind"], body["settings"])}
    await common.check_nobody_misfits(tx, around, replace(around, takes=takes))
    return await common.store(tx, replace(current, body=body, internal=internal))


async def archive(tx: AsyncConnection, id: str) -> Resource:
    """Not while a campaign under way would be left without a provider: semantics.md §7."""
    await resources.lock_configuration(tx)
    current = await common.get(tx, "provider", id, for_update=True)
    if current.status == ARCHIVED:
        raise Conflict("the provider is archived already")
    around = await resources.surroundings(tx, await resources.get_settings(tx))
    after = replace(around, providers={**around.providers, id: ARCHIVED})
    await common.check_nobody_is_stranded(tx, around, after)
    return await common.store(tx, replace(current, status=ARCHIVED))


async def delete(tx: AsyncConnection, id: str) -> Resource:
    """Only what nothing uses and nothing was sent with."""
    await resources.lock_configuration(tx)
    current = await common.get(tx, "provider", id, for_update=True)
    groups = [group for group in await resources.all_of(tx, "provider_group") if id in members_of(group.body)]
    if groups:
        raise common.in_use("the provider is in groups", groups)
    campaigns = await resources.campaigns_naming(tx, id)
    if campaigns:
        raise common.in_use("the provider is used by campaigns (archive it instead)", campaigns)
    if await funnel.uses_provider(tx, id):
        raise Conflict("texts were given to this provider: archive it instead, receipts still need it")
    return await common.store(tx, replace(current, deleted=True))


def _sealed(credentials: Mapping[str, Any], sealer: Sealer) -> dict[str, str]:
    return {"sealed_credentials": sealer.seal(credentials), "sealed_to": sealer.key_name}


def members_of(group: Mapping[str, Any]) -> list[str]:
    """All providers of a group's body, those of its routes too."""
    routed = (id for ids in resources.routes_of(group).values() for id in ids)
    return list(dict.fromkeys((*group["provider_ids"], *routed)))


def _check(body: Mapping[str, Any], credentials: Mapping[str, Any] | None) -> None:
    _refuse(check_provider(body["kind"], body["settings"], credentials, body.get("parts_per_second")))


def _refuse(found: list[Problem]) -> None:
    if found:
        raise Invalid([FieldProblem(problem.pointer, problem.message) for problem in found])
