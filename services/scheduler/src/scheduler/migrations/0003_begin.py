"""Many texts that are due at one moment are made before it."""

from alembic import op

revision = "0003"
down_revision = "0002"

STATEMENTS = (
    "ALTER TABLE zone_timers ADD COLUMN begin_at timestamptz",
    "UPDATE zone_timers SET begin_at = due_at",
    "ALTER TABLE zone_timers ALTER COLUMN begin_at SET NOT NULL",
    "DROP INDEX zone_timers_due",
    "CREATE INDEX zone_timers_begin ON zone_timers (begin_at) WHERE state = 'waiting'",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
