"""What happened: conserving funnel moves, states of single messages, states of runs. Stream delivery-events.

FunnelMoved and RunChanged are keyed by campaign_id, so that they arrive in the order published; MessageChanged by
user_id. Funnel moves are not idempotent by content: readers deduplicate them by the envelope's id.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct, field

FUNNEL_MOVED = "funnel.moved"
MESSAGE_CHANGED = "message.changed"
RUN_CHANGED = "run.changed"

NOT_SENT_STATUSES = (
    "control", "not_in_reach", "limited", "capped", "quiet_hours", "unreachable", "duplicate_phone", "suppressed",
    "aborted", "personalisation_failed", "rejected", "expired", "cancelled",
)  # fmt: skip
ACCEPTED_STATUSES = ("awaiting_receipt", "sent", "delivered", "undelivered")
OPEN_STATUSES = ("pending", "in_doubt")
STATUSES = (*OPEN_STATUSES, "unknown", *ACCEPTED_STATUSES, *NOT_SENT_STATUSES)
"""Message `status` of api.md; qualified = their sum (semantics.md §8)."""


class FunnelMoved(Struct, frozen=True, omit_defaults=True):
    """`n` messages moved from one status to another. `from_status` "" = they have just qualified.

    The provider belongs to a status: "" while pending, the attempt's provider from in_doubt on.
    """

    campaign_id: str
    to_status: str = field(name="to")
    n: int
    run_id: str = ""
    variant: str = ""
    from_status: str = field(name="from", default="")
    from_provider_id: str = ""
    provider_id: str = ""
    reason: str = ""


class AttemptSummary(Struct, frozen=True, omit_defaults=True):
    """One provider call. `outcome`: the outcome table of providers.md, or "submitting"."""

    attempt: int
    provider_id: str
    outcome: str
    at: datetime
    code: str = ""


class MessageChanged(Struct, frozen=True, omit_defaults=True):
    """The whole of a message after a change. `seq` grows with each change of one message: the larger wins."""

    message_id: str
    campaign_id: str
    run_id: str
    occurrence: str
    user_id: str
    status: str
    seq: int
    at: datetime
    due_at: datetime
    phone: str = ""
    reason: str = ""
    variant: str = ""
    provider_id: str = ""
    provider_message_id: str = ""
    body: str = ""
    parts: int = 0
    attempts: list[AttemptSummary] = []


class RunChanged(Struct, frozen=True, omit_defaults=True):
    """`state`: requested, running (audience fixed), expanded (every job emitted), stopped, expired, failed."""

    campaign_id: str
    run_id: str
    occurrence: str
    state: str
    at: datetime
    total: int = 0
    reachable: int = 0
    reason: str = ""
