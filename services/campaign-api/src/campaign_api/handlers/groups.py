"""Provider groups: providers by priority; one group at most is the default."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import phonenumbers
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.domain.campaign_states import ACTIVE, TERMINAL
from campaign_api.domain.errors import FieldProblem, Invalid
from campaign_api.domain.resource import Resource
from campaign_api.handlers import common
from campaign_api.store import resources
from postrider.contracts.ids import new_id


async def create(tx: AsyncConnection, body: dict[str, Any]) -> tuple[Resource, list[str]]:
    """The group, and the ids of those that are not the default any longer."""
    await resources.lock_configuration(tx)
    await _check_members(tx, body, {"provider_ids": []})
    await _check_campaigns(tx, "", body)
    former = await _depose(tx, "") if body["is_default"] else []
    created = await resources.insert(tx, new_id("provider_group"), "provider_group", "active", body, {})
    await common.publish(tx, created)
    return created, former


async def put(
    tx: AsyncConnection, id: str, body: dict[str, Any], if_match: common.Version
) -> tuple[Resource, list[str]]:
    current = await common.get_to_change(tx, "provider_group", id, if_match)
    await _check_members(tx, body, current.body)
    await _check_campaigns(tx, id, body)
    former = []
    if body["is_default"] and not current.body["is_default"]:
        former = await _depose(tx, id)
    elif current.body["is_default"] and not body["is_default"]:
        await _check_default_not_needed(tx)
    return await common.store(tx, replace(current, body=body)), former


async def delete(tx: AsyncConnection, id: str) -> Resource:
    """Only while no campaign that can still run uses it."""
    await resources.lock_configuration(tx)
    current = await common.get(tx, "provider_group", id, for_update=True)
    users = [user for user in await resources.campaigns_naming(tx, id) if user.status not in TERMINAL]
    if users:
        raise common.in_use("the group is used by campaigns", users)
    if current.body["is_default"]:
        await _check_default_not_needed(tx)
    return await common.store(tx, replace(current, deleted=True))


async def _depose(tx: AsyncConnection, but: str) -> list[str]:
    """There is one default group: naming a new one takes it from the old one."""
    former = []
    for group in await resources.all_of(tx, "provider_group"):
        if group.id != but and group.body["is_default"]:
            await common.store(tx, replace(group, body={**group.body, "is_default": False}))
            former.append(group.id)
    return former


async def _check_default_not_needed(tx: AsyncConnection) -> None:
    users = [user for user in await resources.campaigns_by_default_group(tx) if user.status in ACTIVE]
    if users:
        raise common.in_use("campaigns go by the default group: make another group the default first", users)


async def _check_campaigns(tx: AsyncConnection, id: str, body: dict[str, Any]) -> None:
    """An archived provider may stay in a group, but not alone while a campaign under way goes by it; and whoever joins
    has to take what those campaigns send."""
    around = await resources.surroundings(tx, await resources.get_settings(tx))
    after = replace(
        around,
        groups={**around.groups, id: tuple(body["provider_ids"])},
        routes={**around.routes, id: resources.routes_of(body)},
        default_group_id=id if body["is_default"] else around.default_group_id,
    )
    await common.check_nobody_is_stranded(tx, around, after)
    await common.check_nobody_misfits(tx, around, after)


async def _check_members(tx: AsyncConnection, body: dict[str, Any], former: dict[str, Any]) -> None:
    """Of the group's list and of each route's."""
    providers = {provider.id: provider.status for provider in await resources.all_of(tx, "provider")}
    problems = _wrong_ids("/provider_ids", body["provider_ids"], former["provider_ids"], providers)
    before, seen = resources.routes_of(former), set()
    for number, route in enumerate(body["routes"]):
        pointer, country = f"/routes/{number}", route["country"]
        if country not in phonenumbers.SUPPORTED_REGIONS:
            problems.append(FieldProblem(f"{pointer}/country", "is no ISO 3166-1 alpha-2 country with phone numbers"))
        elif country in seen:
            problems.append(FieldProblem(f"{pointer}/country", "has a route already"))
        seen.add(country)
        problems += _wrong_ids(f"{pointer}/provider_ids", route["provider_ids"], before.get(country, ()), providers)
    if problems:
        raise Invalid(problems)


def _wrong_ids(root: str, ids: Sequence[str], kept: Sequence[str], providers: Mapping[str, str]) -> list[FieldProblem]:
    """An archived provider may stay in a list, and not join one."""
    problems = []
    for index, id in enumerate(ids):
        pointer = f"{root}/{index}"
        if id not in providers:
            problems.append(FieldProblem(pointer, "there is no such provider"))
        elif id in ids[:index]:
            problems.append(FieldProblem(pointer, "is in the list already"))
        elif providers[id] != "active" and id not in kept:
            problems.append(FieldProblem(pointer, "the provider is archived"))
    return problems
