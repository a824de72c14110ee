"""What is held has an index of its own: no claim, and no look for queues, reads past the million texts of a paused
campaign.
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

STATEMENTS = (
    "CREATE INDEX ledger_claimable ON ledger (lane, queue, next_at) WHERE state IN ('QUEUED', 'DEFERRED')",
    "DROP INDEX ledger_waiting",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise RuntimeError("the ledger is never taken back")
