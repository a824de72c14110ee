"""Message ids begin with their run since this version. A job of the version before that comes again under its new id,
or the other way round, is the same text: while there is a row in `former_ids`, intake looks for both.
"""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

STATEMENTS = (
    "CREATE TABLE former_ids (at timestamptz NOT NULL)",
    # Not where nothing has ever been consumed.
    "INSERT INTO former_ids SELECT db_now() WHERE EXISTS (SELECT 1 FROM consumer_progress)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise RuntimeError("the ledger is never taken back")
