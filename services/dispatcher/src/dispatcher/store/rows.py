"""Ledger rows as domain messages: the one list of columns, in one order."""

from __future__ import annotations

from typing import Any

from dispatcher.domain.ledger import State
from dispatcher.domain.message import Message

_NAMES = (
    "message_id", "campaign_id", "run_id", "occurrence", "user_id", "what_version", "lane", "phone", "country",
    "variables", "variant", "due_at", "send_by", "allowed", "on_hit", "queue", "state", "cause", "reason", "attempt",
    "provider_id", "provider_message_id", "tried", "marked_at", "not_before", "look_ups", "body", "encoding", "parts",
    "seq",
)  # fmt: skip

COLUMNS = ", ".join(f"l.{name}" for name in _NAMES)
"""For SELECT and RETURNING over `ledger l`; what else a query returns comes after them."""

WIDTH = len(_NAMES)

CLOCK = "clock AS MATERIALIZED (SELECT db_now() AS now)"
"""One moment for a whole statement: db_now() is the only clock of due times and leases."""

WAITING = "('QUEUED', 'DEFERRED', 'HELD')"


def message_of(row: Any) -> Message:
    (
        message_id, campaign_id, run_id, occurrence, user_id, what_version, lane, phone, country, variables, variant,
        due_at, send_by, allowed, on_hit, queue, state, cause, reason, attempt, provider_id, provider_message_id,
        tried, marked_at, not_before, look_ups, body, encoding, parts, seq,
    ) = tuple(row)[:WIDTH]  # fmt: skip
    intervals = tuple((each.lower, each.upper) for each in allowed) if allowed else ()
    return Message(
        message_id.hex, campaign_id, run_id, occurrence, user_id, what_version, lane, phone, country, variables,
        variant, due_at, send_by, intervals, on_hit, queue, State(state), cause, reason, attempt, provider_id,
        provider_message_id, tuple(tried), marked_at, not_before, look_ups, body, encoding, parts, seq,
    )  # fmt: skip
