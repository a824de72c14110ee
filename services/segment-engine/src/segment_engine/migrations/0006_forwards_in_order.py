"""Forwards in the order in which they were sent on: whoever waits for those under way remembers one number."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE forwards ADD COLUMN number bigint GENERATED ALWAYS AS IDENTITY")
    op.execute("CREATE INDEX forwards_number ON forwards (number)")
