"""The account's settings: one row, there from the first start on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import phonenumbers
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.definitions import request
from campaign_api.domain.campaign_checks import EMAIL
from campaign_api.domain.errors import FieldProblem, Invalid
from campaign_api.domain.resource import SETTINGS_ID, Resource
from campaign_api.domain.when_checks import MAX_GAP, MAX_SEND_BY, check_duration, check_quiet_hours
from campaign_api.handlers import common
from campaign_api.store import resources
from postrider.zones import is_zone


async def ensure(tx: AsyncConnection, defaults: Mapping[str, Any]) -> None:
    if await resources.ensure_settings(tx, dict(defaults)):
        await request(tx, [SETTINGS_ID])


async def put(tx: AsyncConnection, body: dict[str, Any], if_match: common.Version) -> Resource:
    current = await common.get_to_change(tx, "settings", SETTINGS_ID, if_match)
    problems = check(body)
    if problems:
        raise Invalid(problems)
    return await common.store(tx, replace(current, body=body))


def check(body: Mapping[str, Any]) -> list[FieldProblem]:
    problems = []
    if not is_zone(body["account_time_zone"]):
        problems.append(FieldProblem("/account_time_zone", "is no IANA time zone"))
    country = body.get("default_country")
    if country is not None and country not in phonenumbers.SUPPORTED_REGIONS:
        problems.append(FieldProblem("/default_country", "is no ISO 3166-1 alpha-2 country with phone numbers"))
    for lane, value in (body.get("send_by") or {}).items():
        problems += check_duration(value, f"/send_by/{lane}", MAX_SEND_BY)
    problems += check_duration(body.get("min_gap"), "/min_gap", MAX_GAP)
    problems += check_quiet_hours(body.get("quiet_hours"), "/quiet_hours")
    sender = body.get("smtp_from")
    if sender is not None and not EMAIL.fullmatch(sender):
        problems.append(FieldProblem("/smtp_from", "is not an e-mail address"))
    return problems
