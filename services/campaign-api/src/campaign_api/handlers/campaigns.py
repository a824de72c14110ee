"""Campaigns: saved, scheduled, stopped. Validated when saved and again when scheduled, against what they name then."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.domain.campaign_changes import check_change, judged_times, times_of, timing_of, with_what
from campaign_api.domain.campaign_checks import check_campaign, names_of, rules_of
from campaign_api.domain.campaign_states import ACTIVE, LIVE_KINDS, UNPUBLISHED, Event, Status, apply, follow, release
from campaign_api.domain.errors import Conflict, Invalid, NotAllowed
from campaign_api.domain.resource import Resource
from campaign_api.handlers import common
from campaign_api.store import definition_outbox, funnel, references, resources
from postrider.contracts.ids import new_id

MAX_NAME: Final = 200
COPY: Final = " (copy)"


async def create(tx: AsyncConnection, body: dict[str, Any], now: datetime) -> Resource:
    await _check(tx, body, now, dates=True)
    return await resources.insert(tx, new_id("campaign"), "campaign", Status.DRAFT, body, _names(body))


async def put(
    tx: AsyncConnection, id: str, body: dict[str, Any], if_match: common.Version, now: datetime, *, may_approve: bool
) -> Resource:
    """What nobody else knows of is free, and a draft afterwards. Later an edit reaches what is not fixed yet, and a
    changed `what` becomes its next version; where the settings require approval it takes somebody who may approve."""
    current = await common.get_to_change(tx, "campaign", id, if_match)
    status = apply(Status(current.status), Event.EDIT)
    check_change(status, current.body, body)
    is_draft = status is Status.DRAFT
    is_moved = times_of(body) != times_of(current.body)
    judged = frozenset() if is_draft else judged_times(current.body, body)
    settings = await _check(tx, body, now, dates=is_draft or is_moved, judged=judged)
    if not is_draft and settings.body["approval_required"] and not may_approve:
        raise NotAllowed(f"a campaign that is {status} was approved as it is: changing it needs the scope admin")
    internal = {**current.internal, **_names(body)}
    if not is_draft:
        internal = with_what(internal, body, settings.body)
        if body["when"] != current.body["when"]:
            internal = {**internal, **timing_of(body, settings.body)}
        if is_moved:
            internal["times_changed_at"] = now.isoformat()
        if body["kind"] in LIVE_KINDS:  # a total that was lowered may be reached already
            status = follow(status, body, await funnel.progress_of(tx, id))
    return await common.store(tx, replace(current, status=status, body=body, internal=internal))


async def clone(tx: AsyncConnection, id: str) -> Resource:
    """A draft with the same body; what it names may be gone, which is told when it is saved or scheduled."""
    original = await common.get(tx, "campaign", id)
    name = f"{original.body['name'][: MAX_NAME - len(COPY)]}{COPY}"
    body = {**original.body, "name": name}
    return await resources.insert(tx, new_id("campaign"), "campaign", Status.DRAFT, body, _names(body))


async def delete(tx: AsyncConnection, id: str) -> None:
    await resources.lock_configuration(tx)
    current = await common.get(tx, "campaign", id, for_update=True)
    if current.status not in UNPUBLISHED:
        raise Conflict(f"only what was never scheduled can be deleted, this campaign is {current.status}")
    users = (await references.users_of(tx, [id]))[id]
    if users:
        raise common.in_use("rules ask about texts of this campaign", users)
    await resources.remove(tx, id)


async def schedule(tx: AsyncConnection, id: str, if_match: common.Version, now: datetime) -> Resource:
    """From here on the other services know it, or, where the settings want it, somebody has to approve it first."""
    current, is_repeated = await _get_to_move(tx, id, ACTIVE, if_match)
    if is_repeated:
        return current
    submitted = apply(Status(current.status), Event.SUBMIT)
    settings = await _check(tx, current.body, now, dates=True)
    if settings.body["approval_required"]:
        return await common.store(tx, replace(current, status=submitted))
    return await _release(tx, current, Event.SCHEDULE, settings, now)


async def approve(tx: AsyncConnection, id: str, if_match: common.Version, now: datetime) -> Resource:
    """Judged again: what it names, and its date, may be gone by now."""
    current, is_repeated = await _get_to_move(tx, id, ACTIVE, if_match)
    if is_repeated:
        return current
    apply(Status(current.status), Event.APPROVE)
    settings = await _check(tx, current.body, now, dates=True)
    return await _release(tx, current, Event.APPROVE, settings, now)


async def reject(tx: AsyncConnection, id: str, if_match: common.Version) -> Resource:
    current, _ = await _get_to_move(tx, id, (), if_match)
    return await common.store(tx, replace(current, status=apply(Status(current.status), Event.REJECT)))


async def pause(tx: AsyncConnection, id: str, if_match: common.Version) -> Resource:
    """Holds what is queued."""
    current, is_repeated = await _get_to_move(tx, id, (Status.PAUSED,), if_match)
    if is_repeated:
        return current
    return await common.store(tx, replace(current, status=apply(Status(current.status), Event.PAUSE)))


async def resume(tx: AsyncConnection, id: str, if_match: common.Version) -> Resource:
    """What is still inside its deadline is sent; a campaign whose texts are all settled meanwhile is completed."""
    current, is_repeated = await _get_to_move(tx, id, (Status.SCHEDULED, Status.RUNNING, Status.COMPLETED), if_match)
    if is_repeated:
        return current
    released = release(Status(current.status), Event.RESUME, current.body["kind"])
    status = follow(released, current.body, await funnel.progress_of(tx, id))
    return await common.store(tx, replace(current, status=status))


async def stop(tx: AsyncConnection, id: str, if_match: common.Version) -> Resource:
    """Cancels what is not sent."""
    current, is_repeated = await _get_to_move(tx, id, (Status.STOPPED,), if_match)
    if is_repeated:
        return current
    return await common.store(tx, replace(current, status=apply(Status(current.status), Event.STOP)))


async def _get_to_move(
    tx: AsyncConnection, id: str, after: Collection[str], if_match: common.Version
) -> tuple[Resource, bool]:
    """The campaign, locked, and whether the move was made already and is not published yet: whoever repeats it then
    waits for the same publishing, instead of being refused. `after`: the states it leads to. `if_match`: the version
    that was looked at, of whoever wants no other moved."""
    await resources.lock_configuration(tx)
    current = await common.get(tx, "campaign", id, for_update=True)
    if current.status in after and await definition_outbox.is_waiting(tx, id):
        return current, True
    if if_match is not None:
        common.check_version(current, if_match)
    return current, False


async def _release(tx: AsyncConnection, current: Resource, event: Event, settings: Resource, now: datetime) -> Resource:
    internal = {
        **with_what(current.internal, current.body, settings.body),
        **timing_of(current.body, settings.body),
        "scheduled_at": now.isoformat(),
    }
    status = release(Status(current.status), event, current.body["kind"])
    return await common.store(tx, replace(current, status=status, internal=internal))


async def _check(
    tx: AsyncConnection, body: Mapping[str, Any], now: datetime, *, dates: bool, judged: frozenset[str] = frozenset()
) -> Resource:
    """Returns the settings it was judged by. Raises `Invalid`."""
    settings = await resources.get_settings(tx)
    around = await resources.surroundings(tx, settings, names_of(rules_of(body["who"])))
    problems = check_campaign(body, around, now, dates=dates, judged=judged)
    if problems:
        raise Invalid(problems)
    return settings


def _names(body: Mapping[str, Any]) -> dict[str, list[str]]:
    """What its rules name, kept beside it: who asks what uses a segment need not read every rule."""
    return {"names": names_of(rules_of(body["who"]))}
