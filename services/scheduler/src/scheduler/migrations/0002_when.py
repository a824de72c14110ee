"""Every schedule: many runs a campaign, pauses, limits, caps, letters to owners."""

from alembic import op

revision = "0002"
down_revision = "0001"

RUNS = """
ALTER TABLE runs
    DROP CONSTRAINT runs_state_check,
    ADD CONSTRAINT runs_state_check CHECK (state IN ('planned', 'requested', 'running', 'expanded', 'stopped',
        'expired', 'failed', 'stopped_by_safety_check', 'removed')),
    ADD COLUMN paused boolean NOT NULL DEFAULT false,
    ADD COLUMN resumed_at timestamptz,
    ADD COLUMN cut integer
"""
RUNS_TO_REQUEST = """
DROP INDEX runs_to_request;
CREATE INDEX runs_to_request ON runs (request_at) WHERE state = 'planned' AND NOT paused
"""
ZONES = "ALTER TABLE zone_timers ADD COLUMN following_at timestamptz"
ZONES_DEADLINE = "CREATE INDEX zone_timers_deadline ON zone_timers (send_by) WHERE state = 'waiting'"

# `day` "" counts the whole campaign.
LIMIT_COUNTERS = """
CREATE TABLE limit_counters (
    campaign_id text NOT NULL,
    day text NOT NULL,
    taken bigint NOT NULL DEFAULT 0,
    given_back bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (campaign_id, day),
    CHECK (given_back <= taken)
) WITH (fillfactor = 50)
"""
LIMIT_SLOTS = """
CREATE TABLE limit_slots (
    message_id uuid PRIMARY KEY,
    campaign_id text NOT NULL,
    day text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""
LIMIT_SLOTS_AGE = "CREATE INDEX limit_slots_age ON limit_slots USING brin (created_at)"

# All reservations of a person in one row, so that one lock decides about a person.
CAP_LEDGERS = """
CREATE TABLE cap_ledgers (
    user_id text PRIMARY KEY,
    entries bytea NOT NULL,
    last_at timestamptz NOT NULL
) WITH (fillfactor = 70)
"""
CAP_LEDGERS_AGE = "CREATE INDEX cap_ledgers_age ON cap_ledgers (last_at)"

LETTERS = """
CREATE TABLE letters (
    id text PRIMARY KEY,
    recipient text NOT NULL,
    subject text NOT NULL,
    body text NOT NULL,
    next_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempts integer NOT NULL DEFAULT 0,
    sent_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""
LETTERS_WAITING = "CREATE INDEX letters_waiting ON letters (next_at) WHERE sent_at IS NULL"


def upgrade() -> None:
    statements = (RUNS, *RUNS_TO_REQUEST.split(";"), ZONES, ZONES_DEADLINE, LIMIT_COUNTERS, LIMIT_SLOTS)
    for statement in (*statements, LIMIT_SLOTS_AGE, CAP_LEDGERS, CAP_LEDGERS_AGE, LETTERS, LETTERS_WAITING):
        op.execute(statement)
