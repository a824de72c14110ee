"""Answers to keyword texts, with a little ledger of their own; and suppressions by their time, for those who ask what
is new.
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE keyword_replies (
        provider_id text NOT NULL,
        inbound_id text NOT NULL,
        reply_id uuid NOT NULL,
        keyword text NOT NULL,
        phone_hash bytea NOT NULL,
        phone text NOT NULL,
        sender text NOT NULL,
        body text NOT NULL,
        state text NOT NULL DEFAULT 'waiting',
        code text NOT NULL DEFAULT '',
        provider_message_id text NOT NULL DEFAULT '',
        owner text,
        next_at timestamptz,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        PRIMARY KEY (provider_id, inbound_id)
    ) WITH (fillfactor = 70)
    """,
    "CREATE INDEX keyword_replies_open ON keyword_replies (next_at) WHERE next_at IS NOT NULL",
    "CREATE INDEX keyword_replies_phone ON keyword_replies (phone_hash, created_at)",
    "CREATE INDEX keyword_replies_age ON keyword_replies USING brin (created_at) WITH (autosummarize = on)",
    "CREATE INDEX suppressions_at ON suppressions (at, phone_hash)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise RuntimeError("the ledger is never taken back")
