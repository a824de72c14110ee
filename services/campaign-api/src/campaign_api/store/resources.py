"""The resources table: insert, read, change, page, and who refers to whom.

Writers take `lock_configuration` first: configuration changes rarely, and one at a time needs no cleverness to keep
references whole (a provider cannot be archived while a campaign that uses it is being scheduled).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.domain.campaign_checks import Surroundings
from campaign_api.domain.errors import NotReady
from campaign_api.domain.resource import SETTINGS_ID, Kind, Resource
from campaign_api.store import references
from postrider.contracts.what_fields import what_fields

_CONFIGURATION_LOCK = 7_711_860_101
_COLUMNS = (
    "id, kind, version, status, CAST(body AS text) AS body, CAST(internal AS text) AS internal,"
    " deleted, created_at, updated_at"
)

_LOCK = text("SELECT pg_advisory_xact_lock(:key)")
_INSERT = text(f"""
INSERT INTO resources (id, kind, status, body, internal)
VALUES (:id, :kind, :status, CAST(:body AS json), CAST(:internal AS json)) RETURNING {_COLUMNS}
""")
_INSERT_SETTINGS = text("""
INSERT INTO resources (id, kind, version, published_version, body)
VALUES (:id, 'settings', 1, NULL, CAST(:body AS json)) ON CONFLICT (id) DO NOTHING
""")
_GET = text(f"SELECT {_COLUMNS} FROM resources WHERE id = :id AND kind = :kind AND NOT deleted")
_GET_FOR_UPDATE = text(f"SELECT {_COLUMNS} FROM resources WHERE id = :id AND kind = :kind AND NOT deleted FOR UPDATE")
_LOCK_MANY = text(
    f"SELECT {_COLUMNS} FROM resources WHERE id = ANY(CAST(:ids AS text[])) AND kind = 'campaign' AND NOT deleted"
    " ORDER BY id FOR UPDATE"
)
_GET_MANY = text(f"SELECT {_COLUMNS} FROM resources WHERE id = ANY(CAST(:ids AS text[])) ORDER BY id")
_UPDATE = text(f"""
UPDATE resources SET version = version + 1, status = :status, body = CAST(:body AS json),
       internal = CAST(:internal AS json), deleted = :deleted, updated_at = db_now()
WHERE id = :id RETURNING {_COLUMNS}
""")
_REMOVE = text("DELETE FROM resources WHERE id = :id")
_PAGE = text(f"""
SELECT {_COLUMNS} FROM resources
WHERE kind = :kind AND NOT deleted AND (CAST(:before AS text) IS NULL OR id < :before)
ORDER BY id DESC LIMIT :limit
""")
_ALL_OF_KIND = text(f"SELECT {_COLUMNS} FROM resources WHERE kind = :kind AND NOT deleted ORDER BY id")
_EXISTING = text("SELECT id FROM resources WHERE kind = :kind AND NOT deleted AND id = ANY(CAST(:ids AS text[]))")
_CAMPAIGNS_NAMING = text(f"""
SELECT {_COLUMNS} FROM resources
WHERE kind = 'campaign' AND NOT deleted AND (
    body->'who'->>'segment_id' = :id OR body->'what'->>'provider_id' = :id
    OR body->'what'->>'provider_group_id' = :id)
ORDER BY id
""")
_LISTS_LEFT = text("""
SELECT id FROM resources
WHERE kind = 'user_list'
  AND (deleted OR status = 'loading' AND created_at < db_now() - make_interval(secs => :seconds))
ORDER BY id LIMIT 100
""")
_CAMPAIGNS_IN = text(f"""
SELECT {_COLUMNS} FROM resources
WHERE kind = 'campaign' AND NOT deleted AND status = ANY(CAST(:statuses AS text[])) ORDER BY id
""")
_CAMPAIGNS_BY_DEFAULT = text(f"""
SELECT {_COLUMNS} FROM resources
WHERE kind = 'campaign' AND NOT deleted
  AND body->'what'->>'provider_id' IS NULL AND body->'what'->>'provider_group_id' IS NULL
ORDER BY id
""")


async def lock_configuration(tx: AsyncConnection) -> None:
    await tx.execute(_LOCK, {"key": _CONFIGURATION_LOCK})


async def insert(
    tx: AsyncConnection, id: str, kind: Kind, status: str, body: dict[str, Any], internal: dict[str, Any]
) -> Resource:
    values = {"id": id, "kind": kind, "status": status, "body": _json(body), "internal": _json(internal)}
    return _resource((await tx.execute(_INSERT, values)).one())


async def ensure_settings(tx: AsyncConnection, body: dict[str, Any]) -> bool:
    """The settings exist from the first start on; True when they are new."""
    return bool((await tx.execute(_INSERT_SETTINGS, {"id": SETTINGS_ID, "body": _json(body)})).rowcount)


async def get(tx: AsyncConnection, kind: Kind, id: str, *, for_update: bool = False) -> Resource | None:
    row = (await tx.execute(_GET_FOR_UPDATE if for_update else _GET, {"id": id, "kind": kind})).one_or_none()
    return None if row is None else _resource(row)


async def get_settings(tx: AsyncConnection) -> Resource:
    """Raises `NotReady` in the moments before the first start has made them."""
    row = (await tx.execute(_GET, {"id": SETTINGS_ID, "kind": "settings"})).one_or_none()
    if row is None:
        raise NotReady("the service is starting: its settings are not there yet")
    return _resource(row)


async def get_many(tx: AsyncConnection, ids: Collection[str]) -> list[Resource]:
    """Of any kind, deleted ones too."""
    return [_resource(row) for row in await tx.execute(_GET_MANY, {"ids": list(ids)})]


async def lock_campaigns(tx: AsyncConnection, ids: Collection[str]) -> list[Resource]:
    """In the order of their ids, so that two who lock several do not wait for each other."""
    return [_resource(row) for row in await tx.execute(_LOCK_MANY, {"ids": sorted(ids)})]


async def update(tx: AsyncConnection, resource: Resource) -> Resource:
    """Stores status, body, internal and deleted under the next version."""
    values = {
        "id": resource.id,
        "status": resource.status,
        "body": _json(resource.body),
        "internal": _json(resource.internal),
        "deleted": resource.deleted,
    }
    return _resource((await tx.execute(_UPDATE, values)).one())


async def remove(tx: AsyncConnection, id: str) -> None:
    """For what was never published."""
    await tx.execute(_REMOVE, {"id": id})


async def page(tx: AsyncConnection, kind: Kind, limit: int, before: str | None) -> list[Resource]:
    """Newest first: ids sort by creation."""
    rows = await tx.execute(_PAGE, {"kind": kind, "limit": limit, "before": before})
    return [_resource(row) for row in rows]


async def all_of(tx: AsyncConnection, kind: Kind) -> list[Resource]:
    return [_resource(row) for row in await tx.execute(_ALL_OF_KIND, {"kind": kind})]


async def existing(tx: AsyncConnection, kind: Kind, ids: Sequence[str]) -> frozenset[str]:
    return frozenset(row.id for row in await tx.execute(_EXISTING, {"kind": kind, "ids": list(ids)}))


async def campaigns_naming(tx: AsyncConnection, id: str) -> list[Resource]:
    """Campaigns whose body names this segment, provider or group."""
    return [_resource(row) for row in await tx.execute(_CAMPAIGNS_NAMING, {"id": id})]


async def lists_left(tx: AsyncConnection, seconds: float) -> list[str]:
    """User lists that are deleted, or whose upload began longer ago than any takes: their members are to be removed."""
    return [row.id for row in await tx.execute(_LISTS_LEFT, {"seconds": seconds})]


async def campaigns_in(tx: AsyncConnection, statuses: Collection[str]) -> list[Resource]:
    return [_resource(row) for row in await tx.execute(_CAMPAIGNS_IN, {"statuses": sorted(statuses)})]


async def campaigns_by_default_group(tx: AsyncConnection) -> list[Resource]:
    """Campaigns that name no provider: they go by the default group."""
    return [_resource(row) for row in await tx.execute(_CAMPAIGNS_BY_DEFAULT)]


async def surroundings(tx: AsyncConnection, settings: Resource, named: Collection[str] = ()) -> Surroundings:
    """What a campaign may refer to; of segments, campaigns and lists those that are named, by those again too."""
    around = await references.reached(tx, named)
    providers = await all_of(tx, "provider")
    groups = await all_of(tx, "provider_group")
    return Surroundings(
        account_time_zone=settings.body["account_time_zone"],
        segments=around.segments,
        campaigns=around.campaigns,
        user_lists=around.user_lists,
        providers={provider.id: provider.status for provider in providers},
        groups={group.id: tuple(group.body["provider_ids"]) for group in groups},
        routes={group.id: routes_of(group.body) for group in groups},
        default_group_id=next((group.id for group in groups if group.body["is_default"]), None),
        takes={provider.id: what_fields(provider.body["kind"], provider.body["settings"]) for provider in providers},
    )


def routes_of(group: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Country → provider ids, of a group's body."""
    return {route["country"]: tuple(route["provider_ids"]) for route in group.get("routes") or ()}


def _resource(row: Row[Any]) -> Resource:
    return Resource(
        id=row.id,
        kind=row.kind,
        version=row.version,
        status=row.status,
        body=msgspec.json.decode(row.body),
        internal=msgspec.json.decode(row.internal),
        created_at=row.created_at,
        updated_at=row.updated_at,
        deleted=row.deleted,
    )


def _json(value: dict[str, Any]) -> str:
    return msgspec.json.encode(value).decode()
