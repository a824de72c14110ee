"""Ledger rows as domain messages: the one list of columns, in one order."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from dispatcher.domain.admission import Interval
from dispatcher.domain.ledger import State
from dispatcher.domain.message import Message

_NAMES = (
    "message_id", "campaign_id", "run_id", "occurrence", "user_id", "what_version", "lane", "phone", "country",
    "variables", "variant", "due_at", "send_by", "allowed", "on_hit", "queue", "state", "cause", "reason", "attempt",
    "provider_id", "provider_message_id", "tried", "marked_at", "not_before", "look_ups", "body", "encoding", "parts",
    "seq", "owner", "origin",
)  # fmt: skip

COLUMNS = ", ".join(f"l.{name}" for name in _NAMES)
"""For SELECT and RETURNING over `ledger l`; what else a query returns comes after them."""

WIDTH = len(_NAMES)

CLOCK = "clock AS MATERIALIZED (SELECT db_now() AS now)"
"""One moment for a whole statement: db_now() is the only clock of due times and leases."""

BY_ID = """clock AS MATERIALIZED (
    SELECT db_now() AS now, 'QUEUED' AS queued, 'SUBMITTING' AS submitting, 'IN_DOUBT' AS in_doubt
)"""
"""CLOCK for statements that find their rows by message_id and compare the state: with a value that the planner cannot
see. It would take a literal for a reason to read the whole index of what waits, where few rows did when it last looked,
instead of the primary key: a mark then costs as much as the backlog is long."""

DAY = "CAST(l.created_at AT TIME ZONE 'UTC' AS date)"
"""Of a row of `ledger l`: the day that keys of its attempts begin with. They are found by it and the message's id."""

DAYS = """days AS (
    SELECT max(day) AS day FROM attempts
    UNION ALL
    SELECT (SELECT max(a.day) FROM attempts a WHERE a.day < d.day) FROM days d WHERE d.day IS NOT NULL
)"""
"""For WITH RECURSIVE: every day that has attempts, one index probe each: to look for a provider's id in all of them."""

CLAIMABLE = "('QUEUED', 'DEFERRED')"
"""States of what may be claimed when its moment has come; these words are the index's too."""

WAITING = "('QUEUED', 'DEFERRED', 'HELD')"

_STATES = {state.value: state for state in State}
"""Looked up, where each row of a claim asks: an enum's own call takes five times as long."""
_NO_MOMENT = datetime(1970, 1, 1, tzinfo=UTC)
NEVER: tuple[Interval, ...] = ((_NO_MOMENT, _NO_MOMENT),)
"""The intervals of a job that has some, none of which holds a moment: not the same as a job that may leave any time."""


def message_of(row: Any) -> Message:
    (
        message_id, campaign_id, run_id, occurrence, user_id, what_version, lane, phone, country, variables, variant,
        due_at, send_by, allowed, on_hit, queue, state, cause, reason, attempt, provider_id, provider_message_id,
        tried, marked_at, not_before, look_ups, body, encoding, parts, seq, owner,
        origin,
    ) = tuple(row)[:WIDTH]  # fmt: skip
    intervals = () if allowed is None else tuple((each.lower, each.upper) for each in allowed) or NEVER
    return Message(
        message_id.hex, campaign_id, run_id, occurrence, user_id, what_version, lane, phone, country, variables,
        variant, due_at, send_by, intervals, on_hit, queue, _STATES[state], cause, reason, attempt, provider_id,
        provider_message_id, tuple(tried), marked_at, not_before, look_ups, body, encoding, parts, seq, owner,
        origin,
    )  # fmt: skip
