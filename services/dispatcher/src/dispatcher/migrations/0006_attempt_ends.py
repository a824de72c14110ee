"""When a call ended, as its settlement saw it; null where nobody did: a crash, or proof that came otherwise."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE attempts ADD COLUMN ended_at timestamptz")


def downgrade() -> None:
    raise RuntimeError("the ledger is never taken back")
