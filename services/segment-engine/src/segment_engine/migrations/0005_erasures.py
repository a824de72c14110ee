"""Erased people, and with which default country phones were last read."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0003"
branch_labels = None
depends_on = None

STATEMENTS = (
    # Stays when the person is heard of again: of what was said before, nothing may come back.
    "ALTER TABLE profiles ADD COLUMN erased_at timestamptz",
    "CREATE INDEX profiles_erased ON profiles (erased_at) WHERE erased_at IS NOT NULL",
    # Erasures that the event store has not finished; `texts`: what was in the traits, to be taken out of examples.
    """
    CREATE TABLE erasures (
        user_id text COLLATE "C" PRIMARY KEY,
        version bigint NOT NULL,
        erased_at timestamptz NOT NULL,
        texts json NOT NULL
    )
    """,
    # One row: the default country that all phones kept as they came were read with, and how far that is.
    """
    CREATE TABLE phone_reading (
        only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
        default_country text,
        after_user_id text COLLATE "C" NOT NULL DEFAULT '',
        finished boolean NOT NULL DEFAULT true
    )
    """,
    "INSERT INTO phone_reading DEFAULT VALUES",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
