"""What happened: conserving funnel moves, states of single messages, states of runs. Stream delivery-events.

FunnelMoved and RunChanged are keyed by campaign_id, so that they arrive in the order published; MessageChanged by
user_id. Funnel moves are not idempotent by content: readers deduplicate them by the envelope's id.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct, field

from postrider.contracts.fields import Count, Id, Moment, Name

Moved = Annotated[int, Meta(ge=0, le=2**53)]
Parts = Annotated[int, Meta(ge=0, le=65_535)]

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

    campaign_id: Id
    to_status: Id = field(name="to")
    n: Moved
    run_id: Id = ""
    variant: Id = ""
    from_status: Id = field(name="from", default="")
    from_provider_id: Id = ""
    provider_id: Id = ""
    reason: Name = ""


class AttemptSummary(Struct, frozen=True, omit_defaults=True):
    """One provider call, begun `at`. `outcome`: the outcome table of providers.md, "submitting", or "not_found": proven
    not sent by a look-up. `ended_at` None: it has not ended, or nobody saw it end."""

    attempt: Count
    provider_id: Id
    outcome: Id
    at: Moment
    code: str = ""
    ended_at: Moment | None = None


TEST_RUN = "test"
"""`run_id` of a test send: outside of caps, limits, reports and of what rules ask. `campaign_id` is then "" where a
provider was tried by itself, and `user_id` "" where no person's values were used."""


class MessageChanged(Struct, frozen=True, omit_defaults=True):
    """The whole of a message after a change. `seq` grows with each change of one message: the larger wins."""

    message_id: Id
    campaign_id: Id
    run_id: Id
    occurrence: Name
    user_id: Name
    status: Id
    seq: Count
    at: Moment
    due_at: Moment
    phone: Id = ""
    reason: Name = ""
    variant: Id = ""
    provider_id: Id = ""
    provider_message_id: str = ""
    body: str = ""
    parts: Parts = 0
    attempts: list[AttemptSummary] = []


class RunChanged(Struct, frozen=True, omit_defaults=True):
    """`state`: requested, running (audience fixed), expanded (every job emitted), stopped, expired, failed."""

    campaign_id: Id
    run_id: Id
    occurrence: Name
    state: Id
    at: Moment
    total: Count = 0
    reachable: Count = 0
    reason: Name = ""
