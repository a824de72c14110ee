"""Attempts are kept by the day of their text. Ids are random: in an index over all that the ledger remembers each
text touches a page of its own, and after a checkpoint Postgres writes every page that is touched into its log in full.
Those of one day share a few. The day is the ledger row's, hence the same for all attempts of a text, whenever they end.
An id of a provider's belongs to one message of a day by its index, and to one of all days by store/settles.py.

The table is made anew and is locked meanwhile. The default is for a dispatcher of the version before that still runs.
"""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

STATEMENTS = (
    "ALTER TABLE attempts RENAME TO attempts_before",
    "SET LOCAL maintenance_work_mem = '256MB'",
    """
    CREATE TABLE attempts (
        day date NOT NULL DEFAULT CAST(db_now() AT TIME ZONE 'UTC' AS date),
        message_id uuid NOT NULL,
        attempt integer NOT NULL,
        provider_id text NOT NULL,
        started_at timestamptz NOT NULL,
        outcome text NOT NULL,
        code text NOT NULL DEFAULT '',
        provider_message_id text,
        ended_at timestamptz
    )
    """,
    """
    INSERT INTO attempts
    SELECT CAST(l.created_at AT TIME ZONE 'UTC' AS date), a.message_id, a.attempt, a.provider_id, a.started_at,
        a.outcome, a.code, a.provider_message_id, a.ended_at
    FROM attempts_before a JOIN ledger l USING (message_id)
    """,
    "DROP TABLE attempts_before",
    "ALTER TABLE attempts ADD CONSTRAINT attempts_pkey PRIMARY KEY (day, message_id, attempt)",
    """
    CREATE UNIQUE INDEX attempts_provider_message ON attempts (day, provider_message_id, provider_id)
    WHERE provider_message_id IS NOT NULL
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise RuntimeError("the ledger is never taken back")
