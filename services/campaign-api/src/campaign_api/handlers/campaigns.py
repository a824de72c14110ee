"""Campaigns: saved, scheduled, stopped. Validated when saved and again when scheduled, against what they name then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.domain.campaign_changes import check_change, send_by_of, with_what
from campaign_api.domain.campaign_checks import check_campaign, names_of, rules_of
from campaign_api.domain.campaign_states import Event, Status, apply, schedule
from campaign_api.domain.errors import Conflict, Invalid
from campaign_api.domain.resource import Resource
from campaign_api.handlers import common
from campaign_api.store import definition_outbox, references, resources
from postrider.contracts.ids import new_id


async def create(tx: AsyncConnection, body: dict[str, Any], now: datetime) -> Resource:
    await _check(tx, body, now, dates=True)
    return await resources.insert(tx, new_id("campaign"), "campaign", Status.DRAFT, body, _names(body))


async def put(tx: AsyncConnection, id: str, body: dict[str, Any], if_match: common.Version, now: datetime) -> Resource:
    """A draft is free; later the name and the texts may change, and a changed `what` becomes its next version. Of a
    live campaign `when` and `who` too."""
    current = await common.get_to_change(tx, "campaign", id, if_match)
    status = Status(current.status)
    check_change(status, current.body, body)
    settings = await _check(tx, body, now, dates=status is Status.DRAFT)
    internal = {**current.internal, **_names(body)}
    if status is not Status.DRAFT:
        internal = with_what(internal, body, settings.body)
        if body["when"] != current.body["when"]:
            internal = {**internal, "send_by_seconds": int(send_by_of(body, settings.body).total_seconds())}
    return await common.store(tx, replace(current, body=body, internal=internal))


async def delete(tx: AsyncConnection, id: str) -> None:
    await resources.lock_configuration(tx)
    current = await common.get(tx, "campaign", id, for_update=True)
    if current.status != Status.DRAFT:
        raise Conflict(f"only a draft can be deleted, this campaign is {current.status}")
    users = (await references.users_of(tx, [id]))[id]
    if users:
        raise common.in_use("rules ask about texts of this campaign", users)
    await resources.remove(tx, id)


async def start(tx: AsyncConnection, id: str, now: datetime) -> Resource:
    """`schedule`: from here on the other services know it. Whoever repeats it before the definition is published
    waits for the same publishing, instead of a refusal."""
    await resources.lock_configuration(tx)
    current = await common.get(tx, "campaign", id, for_update=True)
    if current.status in (Status.SCHEDULED, Status.RUNNING) and await definition_outbox.is_waiting(tx, id):
        return current
    status = schedule(Status(current.status), current.body["kind"])
    settings = await _check(tx, current.body, now, dates=True)
    internal = {
        **with_what(current.internal, current.body, settings.body),
        "scheduled_at": now.isoformat(),
        "send_by_seconds": int(send_by_of(current.body, settings.body).total_seconds()),
    }
    return await common.store(tx, replace(current, status=status, internal=internal))


async def stop(tx: AsyncConnection, id: str) -> Resource:
    """Cancels what is not sent. Repeated before the definition is published, it waits for the same publishing."""
    await resources.lock_configuration(tx)
    current = await common.get(tx, "campaign", id, for_update=True)
    if current.status == Status.STOPPED and await definition_outbox.is_waiting(tx, id):
        return current
    status = apply(Status(current.status), Event.STOP)
    return await common.store(tx, replace(current, status=status))


async def _check(tx: AsyncConnection, body: Mapping[str, Any], now: datetime, *, dates: bool) -> Resource:
    """Returns the settings it was judged by. Raises `Invalid`."""
    settings = await resources.get_settings(tx)
    around = await resources.surroundings(tx, settings, names_of(rules_of(body["who"])))
    problems = check_campaign(body, around, now, dates=dates)
    if problems:
        raise Invalid(problems)
    return settings


def _names(body: Mapping[str, Any]) -> dict[str, list[str]]:
    """What its rules name, kept beside it: who asks what uses a segment need not read every rule."""
    return {"names": names_of(rules_of(body["who"]))}
