"""What a look-up has to ask, kept with each mark; and indexes by age, for forgetting.

BRIN: rows come in the order of time and are never looked up by it but to be deleted, and a summary costs the way of a
text nothing (it is updated in place, without new entries).
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STATEMENTS = (
    "ALTER TABLE ledger ADD COLUMN origin text NOT NULL DEFAULT ''",
    "CREATE INDEX ledger_age ON ledger USING brin (created_at) WITH (autosummarize = on)",
    "CREATE INDEX receipts_age ON receipts USING brin (received_at) WITH (autosummarize = on)",
    "CREATE INDEX inbound_age ON inbound USING brin (received_at) WITH (autosummarize = on)",
    "CREATE INDEX sandbox_inbox_age ON sandbox_inbox USING brin (at) WITH (autosummarize = on)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise RuntimeError("the ledger is never taken back")
