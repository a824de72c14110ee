"""A request for an audience is kept whole: whom to leave out and the best time are part of the question."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

KEEP = """
UPDATE audience_runs SET request = (jsonb_strip_nulls(jsonb_build_object(
    'run_id', run_id, 'campaign_id', campaign_id, 'occurrence', occurrence, 'seed', seed,
    'requested_at', to_char(requested_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    'segment_id', segment_id)) || jsonb_build_object('rule', rule::jsonb))::text
"""


def upgrade() -> None:
    op.execute("ALTER TABLE audience_runs ADD COLUMN request text")
    op.execute(KEEP)
    op.execute("ALTER TABLE audience_runs ALTER COLUMN request SET NOT NULL")
    for name in ("campaign_id", "occurrence", "seed", "rule", "segment_id", "requested_at"):
        op.execute(f"ALTER TABLE audience_runs DROP COLUMN {name}")
