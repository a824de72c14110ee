"""Saved segments: a name and a rule. Edited later, the next evaluation uses the new rule.

Who uses a segment is judged with its new rule before that is saved: nothing that is saved can lead back to itself or
grow past the limits of a rule.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.domain.campaign_checks import check_rule, names_of, rules_of, saved_rules
from campaign_api.domain.errors import FieldProblem, Invalid
from campaign_api.domain.resource import Resource
from campaign_api.handlers import common
from campaign_api.store import references, resources
from postrider.contracts.ids import new_id

MAX_USERS_NAMED = 10
"""In one refusal."""


async def create(tx: AsyncConnection, body: dict[str, Any]) -> Resource:
    await _check(tx, body["rule"])
    created = await resources.insert(tx, new_id("segment"), "segment", "active", body, _names(body))
    await common.publish(tx, created)
    return created


async def put(tx: AsyncConnection, id: str, body: dict[str, Any], if_match: common.Version) -> Resource:
    current = await common.get_to_change(tx, "segment", id, if_match)
    await _check(tx, body["rule"], id)
    await _check_users(tx, id, body["rule"])
    return await common.store(tx, replace(current, body=body, internal=_names(body)))


async def delete(tx: AsyncConnection, id: str) -> Resource:
    """Only while no campaign that can still run and no other segment uses it."""
    await resources.lock_configuration(tx)
    current = await common.get(tx, "segment", id, for_update=True)
    users = (await references.users_of(tx, [id]))[id]
    if users:
        raise common.in_use("the segment is used", users)
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
    await _check(tx, rule)
    return rule


async def _check(tx: AsyncConnection, rule: object, own_id: str | None = None) -> None:
    around = await resources.surroundings(tx, await resources.get_settings(tx), names_of([rule]))
    problems = check_rule(rule, "/rule", around, own_id)
    if problems:
        raise Invalid(problems)


async def _check_users(tx: AsyncConnection, id: str, rule: object) -> None:
    """Those who use it, near or far, must still mean something. That none of them is in a cycle follows from `_check`:
    a cycle would lead through this segment."""
    users = await references.all_users_of(tx, id)
    if not users:
        return
    current = await resources.get_many(tx, users)
    rules = {user.id: [user.body["rule"]] if user.kind == "segment" else rules_of(user.body["who"]) for user in current}
    named = names_of([rule, *(one for several in rules.values() for one in several)])
    around = await resources.surroundings(tx, await resources.get_settings(tx), named)
    around = replace(around, segments={**around.segments, id: rule})
    saved = saved_rules(around)
    problems = [
        FieldProblem("/rule", f"{user_id} ({users[user_id].name}) uses this segment: {problem.message}")
        for user_id, several in rules.items()
        for one in several
        for problem in check_rule(one, "", around, saved=saved)[:1]
    ]
    if problems:
        raise Invalid(problems[:MAX_USERS_NAMED])


def _names(body: dict[str, Any]) -> dict[str, list[str]]:
    return {"names": names_of([body["rule"]])}
