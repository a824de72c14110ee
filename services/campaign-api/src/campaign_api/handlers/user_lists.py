"""User lists: made while their ids are uploaded, used when they are complete, deleted when nobody asks them.

A row is here from the first byte on, so that whatever a crash leaves in the event store is found and removed.
"""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.domain.campaign_checks import LIST_READY
from campaign_api.domain.errors import Conflict
from campaign_api.domain.resource import Resource
from campaign_api.handlers import common
from campaign_api.store import references, resources
from postrider.contracts.ids import new_id

LOADING = "loading"


async def begin(tx: AsyncConnection, name: str) -> Resource:
    body = {"name": name, "members": None}
    return await resources.insert(tx, new_id("user_list"), "user_list", LOADING, body, {})


async def complete(tx: AsyncConnection, id: str, members: int) -> Resource:
    """Raises `Conflict` when it was deleted while its ids were coming."""
    current = await resources.get(tx, "user_list", id, for_update=True)
    if current is None or current.status != LOADING:
        raise Conflict("the list was deleted while it was being uploaded")
    ready = replace(current, status=LIST_READY, body={**current.body, "members": members})
    return await resources.update(tx, ready)


async def delete(tx: AsyncConnection, id: str) -> None:
    """Only while no rule that can still be evaluated names it. Its members go when the caller has removed them."""
    await resources.lock_configuration(tx)
    current = await common.get(tx, "user_list", id, for_update=True)
    users = (await references.users_of(tx, [id]))[id]
    if users:
        raise common.in_use("rules ask this list", users)
    await resources.update(tx, replace(current, deleted=True))


async def give_up(tx: AsyncConnection, id: str) -> None:
    """An upload failed: nobody saw a list."""
    current = await resources.get(tx, "user_list", id, for_update=True)
    if current is not None and current.status == LOADING:
        await resources.update(tx, replace(current, deleted=True))
