"""Live qualification: a person did what a live campaign waits for. Stream qualified-users, key user_id."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct

QUALIFIED = "user.qualified"


class QualifiedUser(Struct, frozen=True, omit_defaults=True):
    """`occurrence` is the triggering event's messageId. `due_at`: event time, the start of the send_by deadline.

    `verdict`: "" = may be texted, otherwise unreachable | suppressed, with a `reason`.
    """

    campaign_id: str
    campaign_version: int
    what_version: int
    occurrence: str
    user_id: str
    due_at: datetime
    received_at: datetime
    zone: str
    verdict: str = ""
    reason: str = ""
    phone: str = ""
    country: str | None = None
    profile: dict[str, Any] = {}
    event: dict[str, Any] = {}
