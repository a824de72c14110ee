"""Saved segments: a name and a rule. Edited later, the next evaluation uses the new rule."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.domain.campaign_checks import check_rule
from campaign_api.domain.campaign_states import TERMINAL
from campaign_api.domain.errors import FieldProblem, Invalid
from campaign_api.domain.resource import Resource
from campaign_api.handlers import common
from campaign_api.store import resources
from postrider.contracts.ids import new_id


async def create(tx: AsyncConnection, body: dict[str, Any]) -> Resource:
    _check(body)
    created = await resources.insert(tx, new_id("segment"), "segment", "active", body, {})
    await common.publish(tx, created)
    return created


async def put(tx: AsyncConnection, id: str, body: dict[str, Any], if_match: common.Version) -> Resource:
    current = await common.get_to_change(tx, "segment", id, if_match)
    _check(body)
    return await common.store(tx, replace(current, body=body))


async def delete(tx: AsyncConnection, id: str) -> Resource:
    """Only while no campaign that can still run uses it."""
    await resources.lock_configuration(tx)
    current = await common.get(tx, "segment", id, for_update=True)
    users = [user for user in await resources.campaigns_naming(tx, id) if user.status not in TERMINAL]
    if users:
        raise common.in_use("the segment is used by campaigns", users)
    return await common.store(tx, replace(current, deleted=True))


async def rule_of(tx: AsyncConnection, rule: object, segment_id: str | None) -> Any:
    """The rule to estimate: given whole or by its segment. Raises `Invalid`."""
    if (rule is None) == (segment_id is None):
        raise Invalid([FieldProblem("", "needs exactly one of rule and segment_id")])
    if segment_id is not None:
        segment = await resources.get(tx, "segment", segment_id)
        if segment is None:
            raise Invalid([FieldProblem("/segment_id", "there is no such segment")])
        return segment.body["rule"]
    _check({"rule": rule})
    return rule


def _check(body: dict[str, Any]) -> None:
    problems = check_rule(body["rule"], "/rule")
    if problems:
        raise Invalid(problems)
