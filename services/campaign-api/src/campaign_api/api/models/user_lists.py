"""Uploaded lists of user ids."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from campaign_api.api.models.base import Framed
from campaign_api.api.models.segments import UsedBy


class UserList(Framed):
    name: str = Field(description="What people call it.")
    state: Literal["loading", "ready"] = Field(description="Rules may name it once it is ready: complete.")
    members: int | None = Field(description="How many different ids it has; null while it is loading.")
    used_by: UsedBy = Field(description="What keeps it from being deleted.")
