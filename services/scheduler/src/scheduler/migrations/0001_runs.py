"""Runs, their zones, pages that came ahead of their turn, and the live messages already made."""

from __future__ import annotations

from alembic import op

from postrider.postgres.migrate import kernel_tables_sql

revision = "0001"
down_revision: str | None = None

RUNS = """
CREATE TABLE runs (
    run_id text PRIMARY KEY,
    campaign_id text NOT NULL,
    occurrence text NOT NULL,
    state text NOT NULL CHECK (state IN
        ('planned', 'requested', 'running', 'expanded', 'stopped', 'expired', 'failed')),
    seed bigint NOT NULL,
    definition_version integer NOT NULL,
    definition text NOT NULL,
    account_zone text NOT NULL,
    scheduled_at timestamptz NOT NULL,
    request_at timestamptz NOT NULL,
    requested_at timestamptz,
    total integer NOT NULL DEFAULT 0,
    reachable integer NOT NULL DEFAULT 0,
    reason text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (campaign_id, occurrence)
) WITH (fillfactor = 70)
"""
RUNS_TO_REQUEST = "CREATE INDEX runs_to_request ON runs (request_at) WHERE state = 'planned'"
RUNS_ACTIVE = "CREATE INDEX runs_active ON runs (run_id) WHERE state IN ('planned', 'requested', 'running')"

ZONE_TIMERS = """
CREATE TABLE zone_timers (
    run_id text NOT NULL REFERENCES runs,
    zone text NOT NULL,
    users integer NOT NULL CHECK (users >= 0),
    state text NOT NULL CHECK (state IN
        ('waiting', 'requested', 'expanded', 'dropped', 'expired', 'cancelled')),
    due_at timestamptz NOT NULL,
    send_by timestamptz NOT NULL,
    next_page integer NOT NULL DEFAULT 0,
    expanded_users integer NOT NULL DEFAULT 0,
    reason text NOT NULL DEFAULT '',
    PRIMARY KEY (run_id, zone),
    CHECK (expanded_users <= users)
) WITH (fillfactor = 70)
"""
ZONES_DUE = "CREATE INDEX zone_timers_due ON zone_timers (due_at) WHERE state = 'waiting'"
ZONES_OPEN = "CREATE INDEX zone_timers_open ON zone_timers (run_id) WHERE state IN ('waiting', 'requested')"

PAGES_AHEAD = """
CREATE TABLE pages_ahead (
    run_id text NOT NULL,
    zone text NOT NULL,
    page integer NOT NULL,
    value bytea NOT NULL,
    PRIMARY KEY (run_id, zone, page)
)
"""

LIVE_SENDS = """
CREATE TABLE live_sends (
    message_id uuid PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""
LIVE_SENDS_AGE = "CREATE INDEX live_sends_age ON live_sends USING brin (created_at)"


def upgrade() -> None:
    own = (RUNS, RUNS_TO_REQUEST, RUNS_ACTIVE, ZONE_TIMERS, ZONES_DUE, ZONES_OPEN, PAGES_AHEAD, LIVE_SENDS)
    for statement in (*kernel_tables_sql(), *own, LIVE_SENDS_AGE):
        op.execute(statement)
