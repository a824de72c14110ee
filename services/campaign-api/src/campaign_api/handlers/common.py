"""What every change of a resource has in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.definitions import request
from campaign_api.domain.campaign_checks import Surroundings
from campaign_api.domain.campaign_states import ACTIVE, LIVE_KINDS
from campaign_api.domain.errors import Conflict, FieldProblem, Invalid, NotFound, StaleVersion, VersionMissing
from campaign_api.domain.resource import Kind, Resource
from campaign_api.domain.snapshots import is_published, snapshot_of
from campaign_api.domain.what_checks import check_carrier, misfits
from campaign_api.store import resources
from campaign_api.store.references import User
from postrider.contracts import codec

ANY_VERSION: Final = "*"
NO_VERSION: Final = 0
"""A tag that we never gave: it is stale, whatever the version is."""
MOVES_ON: Final = frozenset({"version", "updated_at", "status", "scheduled_at", "end_reason"})
MAX_DEFINITION_BYTES: Final = 900_000
NAMES: Final[Mapping[Kind, str]] = {
    "settings": "settings",
    "provider": "provider",
    "provider_group": "provider group",
    "segment": "segment",
    "campaign": "campaign",
    "user_list": "user list",
}

Version = int | str | None
"""What `If-Match` says: a version, "*" for any, None when it is absent."""


async def get(tx: AsyncConnection, kind: Kind, id: str, *, for_update: bool = False) -> Resource:
    """Raises `NotFound`."""
    found = await resources.get(tx, kind, id, for_update=for_update)
    if found is None:
        raise NotFound(f"there is no such {NAMES[kind]}")
    return found


async def get_to_change(tx: AsyncConnection, kind: Kind, id: str, if_match: Version) -> Resource:
    """The resource, locked, at the version the caller read. Raises `NotFound`, `VersionMissing`, `StaleVersion`."""
    await resources.lock_configuration(tx)
    found = await get(tx, kind, id, for_update=True)
    if if_match is None:
        raise VersionMissing("a change needs If-Match with the version that was read (the ETag)")
    check_version(found, if_match)
    return found


def check_version(found: Resource, if_match: Version) -> None:
    """Raises `StaleVersion`."""
    if if_match not in (ANY_VERSION, found.version):
        raise StaleVersion(f"it is at version {found.version} now: read it again")


async def store(tx: AsyncConnection, changed: Resource) -> Resource:
    """Stores a change and, unless it is a draft, asks for its definition to be published."""
    stored = await resources.update(tx, changed)
    await publish(tx, stored)
    return stored


async def publish(tx: AsyncConnection, resource: Resource) -> None:
    if not is_published(resource):
        return
    if len(codec.encode(snapshot_of(resource).definition)) > MAX_DEFINITION_BYTES:
        raise Invalid([FieldProblem("", f"its definition would be larger than {MAX_DEFINITION_BYTES} bytes")])
    await request(tx, [resource.id])


async def stranded(tx: AsyncConnection, before: Surroundings, after: Surroundings) -> list[Resource]:
    """Live campaigns under way that a change would leave without a provider (semantics.md §7)."""
    return [
        campaign
        for campaign in await resources.campaigns_in(tx, ACTIVE)
        if campaign.body["kind"] in LIVE_KINDS
        and not check_carrier(campaign.body["what"], before)
        and check_carrier(campaign.body["what"], after)
    ]


async def check_nobody_misfits(tx: AsyncConnection, before: Surroundings, after: Surroundings) -> None:
    """Raises `Conflict` for a change that would leave campaigns under way with a `what` that a provider cannot send."""
    broken: list[Resource] = []
    reasons: set[str] = set()
    for campaign in await resources.campaigns_in(tx, ACTIVE):
        what = campaign.body["what"]
        if not misfits(what, before) and (found := misfits(what, after)):
            broken.append(campaign)
            reasons |= {f"{problem.pointer} {problem.message}" for problem in found}
    if broken:
        raise in_use(f"campaigns under way could not be sent ({'; '.join(sorted(reasons)[:3])})", broken)


async def first_carrier(tx: AsyncConnection, what: Mapping[str, Any]) -> Resource | None:
    """The provider that would be tried first, where the recipient's country does not matter."""
    providers = {provider.id: provider for provider in await resources.all_of(tx, "provider")}
    if what.get("provider_id") is not None:
        return providers.get(what["provider_id"])
    wanted = what.get("provider_group_id")
    for group in await resources.all_of(tx, "provider_group"):
        if group.body["is_default"] if wanted is None else group.id == wanted:
            members = [providers[id] for id in group.body["provider_ids"] if id in providers]
            return next((provider for provider in members if provider.status == "active"), None)
    return None


def check_read_only(given: Mapping[str, Any], shown: Mapping[str, Any], if_match: Version) -> None:
    """Read-only fields may be sent back as read, and not otherwise. Who changes any version may have read an older
    one: then what moves on by itself says nothing."""
    moved_on = MOVES_ON if if_match == ANY_VERSION else frozenset()
    problems = [
        FieldProblem(f"/{name}", "is read-only")
        for name, value in given.items()
        if name not in moved_on and value != shown.get(name)
    ]
    if problems:
        raise Invalid(problems)


def in_use(what: str, users: Sequence[Resource | User]) -> Conflict:
    """Lists up to ten of those that stand in the way."""
    names = [(user.id, user.name if isinstance(user, User) else user.body["name"]) for user in users[:10]]
    shown = ", ".join(f"{id} ({name})" for id, name in names)
    more = f" and {len(users) - 10} more" if len(users) > 10 else ""
    return Conflict(f"{what}: {shown}{more}")
