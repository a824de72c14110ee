"""Live qualification: a person did what a live campaign waits for. Stream qualified-users, key user_id."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from postrider.contracts.fields import Count, Id, Moment, Name, SmallCount

QUALIFIED = "user.qualified"


class QualifiedUser(Struct, frozen=True, omit_defaults=True):
    """`occurrence` is the triggering event's messageId. `due_at`: event time, the start of the send_by deadline.

    `verdict`: "" = may be texted, otherwise unreachable | suppressed, with a `reason`.
    """

    campaign_id: Id
    campaign_version: Count
    what_version: SmallCount
    occurrence: Name
    user_id: Name
    due_at: Moment
    received_at: Moment
    zone: Id
    verdict: Id = ""
    reason: Name = ""
    phone: Id = ""
    country: Id | None = None
    profile: dict[str, Any] = {}
    event: dict[str, Any] = {}
