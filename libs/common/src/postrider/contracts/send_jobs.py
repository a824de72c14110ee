"""Send jobs: self-contained orders to text one person. Lanes: send-jobs (live), send-jobs-bulk (scheduled)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct

SEND_JOB = "send.requested"


class Interval(Struct, frozen=True):
    """A half-open stretch of time [from, to) in UTC in which the text may leave."""

    start: datetime
    end: datetime


class SendJob(Struct, frozen=True, omit_defaults=True):
    """`allowed` empty: any time until `send_by`. `on_hit`: what a miss of all intervals means (discard | delay).

    `message_id` is ids.message_id(campaign_id, occurrence, user_id). `run_id` is "" for live campaigns.
    """

    message_id: str
    campaign_id: str
    run_id: str
    occurrence: str
    user_id: str
    what_version: int
    phone: str
    zone: str
    due_at: datetime
    send_by: datetime
    message_class: str
    country: str | None = None
    allowed: list[Interval] = []
    on_hit: str = "discard"
    variant: str = ""
    profile: dict[str, Any] = {}
    event: dict[str, Any] = {}
