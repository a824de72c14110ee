"""Receipts of single parts: which they are, and an index that finds those of one text. Other vendors' receipts are in
no entry of it.
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

STATEMENTS = (
    "ALTER TABLE receipts ADD COLUMN is_part boolean NOT NULL DEFAULT false",
    "CREATE INDEX receipts_parts ON receipts (reference, provider_id) WHERE is_part",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise RuntimeError("the ledger is never taken back")
