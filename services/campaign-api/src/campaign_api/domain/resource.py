"""A resource as it is kept: what the user wrote (`body`), what only we know (`internal`), and its version."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

Kind = Literal["settings", "provider", "provider_group", "segment", "campaign", "user_list"]

SETTINGS_ID = "account"


@dataclass(frozen=True, slots=True)
class Resource:
    """`version` grows by one with each change and is the ETag. `deleted` ones remain until nobody may ask for them."""

    id: str
    kind: Kind
    version: int
    status: str
    body: dict[str, Any]
    internal: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    deleted: bool = False


def rfc3339(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
