"""A claim writes into no index: the lease it sets is in none any more, and its page has room for a second version of
every row, all of which one claim may take at once. What is being called is found by an index that its own dead entries
leave, since the ids of new ones fall between them.
"""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

STATEMENTS = (
    "CREATE INDEX ledger_calling ON ledger (message_id) WHERE state = 'SUBMITTING'",
    "DROP INDEX ledger_submitting",
    "ALTER TABLE ledger SET (fillfactor = 48)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise RuntimeError("the ledger is never taken back")
