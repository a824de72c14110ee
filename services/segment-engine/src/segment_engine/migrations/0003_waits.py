"""Waits of live campaigns (timers and what may still disarm them), their alignment with definitions, forwards."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = (
    # `due_at` null: nothing is armed, and the row is of no use after `keep_until`. `made_by`: hash of the trigger that
    # made the row. Rows come and go by the second: vacuum early, before the index of what is due is full of the dead.
    """
    CREATE TABLE waits (
        campaign_id text COLLATE "C" NOT NULL,
        user_id text COLLATE "C" NOT NULL,
        key text COLLATE "C" NOT NULL,
        partition integer NOT NULL,
        made_by bigint NOT NULL,
        due_at timestamptz,
        keep_until timestamptz,
        state bytea NOT NULL,
        PRIMARY KEY (campaign_id, user_id, key),
        CHECK (due_at IS NOT NULL OR keep_until IS NOT NULL)
    ) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000)
    """,
    "CREATE INDEX waits_due ON waits (partition, due_at) WHERE due_at IS NOT NULL",
    "CREATE INDEX waits_kept ON waits (partition, keep_until) WHERE due_at IS NULL",
    # One row a campaign that has waits: which definition they are in line with, and how far the work on that is.
    """
    CREATE TABLE alignments (
        campaign_id text PRIMARY KEY,
        plan bigint NOT NULL,
        phase text NOT NULL CHECK (phase IN ('clear', 'replan', 'profiles', 'events', 'done')),
        cursor json NOT NULL DEFAULT '[]',
        updated_at timestamptz NOT NULL DEFAULT db_now()
    )
    """,
    # Misplaced records between their commit here and their arrival in their user's partition.
    'CREATE TABLE forwards (origin text COLLATE "C" PRIMARY KEY)',
)


def upgrade() -> None:
    for statement in TABLES:
        op.execute(statement)
