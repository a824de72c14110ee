"""What every change of a resource has in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.definitions import request
from campaign_api.domain.campaign_checks import Surroundings
from campaign_api.domain.campaign_states import ACTIVE
from campaign_api.domain.errors import Conflict, FieldProblem, Invalid, NotFound, StaleVersion, VersionMissing
from campaign_api.domain.resource import Kind, Resource
from campaign_api.domain.snapshots import is_published, snapshot_of
from campaign_api.domain.what_checks import check_carrier, group_of, misfits
from campaign_api.store import resources
from campaign_api.store.references import User
from postrider.contracts import codec

ANY_VERSION: Final = "*"
NO_VERSION: Final = 0
"""A tag that we never gave: it is stale, whatever the version is."""
MOVES_ON: Final = frozenset({"version", "updated_at", "status", "scheduled_at", "end_reason"})
MOST_LISTED: Final = 100
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


async def check_nobody_is_stranded(tx: AsyncConnection, before: Surroundings, after: Surroundings) -> None:
    """Raises `Conflict`, which lists groups and campaigns, for a change that would leave campaigns under way without a
    provider: at all, or for a country with a route of its own (semantics.md §7)."""
    by_group: dict[str, list[Resource]] = {}
    problems: list[FieldProblem] = []
    names = {group.id: group.body["name"] for group in await resources.all_of(tx, "provider_group")}
    for campaign in await resources.campaigns_in(tx, ACTIVE):
        what = campaign.body["what"]
        known = check_carrier(what, before)
        new = [problem.message for problem in check_carrier(what, after) if problem not in known]
        if new:
            group_id = group_of(what, after)
            by = f"group {group_id} ({names.get(group_id, 'new')})" if group_id is not None else "by itself"
            by_group.setdefault(by, []).append(campaign)
            problems.append(FieldProblem("", f"{campaign.id} ({campaign.body['name']}), {by}: {'; '.join(new)}"))
    if problems:
        listed = "; ".join(f"{by}: {_listed(campaigns)}" for by, campaigns in by_group.items())
        raise Conflict(f"campaigns under way would be left without a provider: {listed}", problems[:MOST_LISTED])


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
    return Conflict(f"{what}: {_listed(users)}")


def _listed(users: Sequence[Resource | User]) -> str:
    names = [(user.id, user.name if isinstance(user, User) else user.body["name"]) for user in users[:10]]
    shown = ", ".join(f"{id} ({name})" for id, name in names)
    return f"{shown} and {len(users) - 10} more" if len(users) > 10 else shown
