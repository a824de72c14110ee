"""Send jobs: self-contained orders to text one person. Lanes: send-jobs (live), send-jobs-bulk (scheduled)."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from postrider.contracts.fields import Id, Moment, Name, SmallCount

SEND_JOB = "send.requested"


class Interval(Struct, frozen=True):
    """A half-open stretch of time [from, to) in UTC in which the text may leave."""

    start: Moment
    end: Moment


class SendJob(Struct, frozen=True, omit_defaults=True):
    """`allowed` empty: any time until `send_by`. `on_hit`: what a miss of all intervals means (discard | delay).

    `message_id` is ids.message_id(campaign_id, occurrence, user_id). `run_id` is "" for live campaigns.
    """

    message_id: Id
    campaign_id: Id
    run_id: Id
    occurrence: Name
    user_id: Name
    what_version: SmallCount
    phone: Id
    zone: Id
    due_at: Moment
    send_by: Moment
    message_class: Id
    country: Id | None = None
    allowed: list[Interval] = []
    on_hit: Id = "discard"
    variant: Id = ""
    profile: dict[str, Any] = {}
    event: dict[str, Any] = {}
