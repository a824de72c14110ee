"""Runs are known from their planning on: a state before all others."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("UPDATE runs SET rank = rank + 1")
