"""The ledger, its attempts, the receipts inbox, suppressions, the providers' shared budgets, the sandbox's texts."""

from __future__ import annotations

from alembic import op

from postrider.postgres.migrate import kernel_tables_sql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

LEDGER = """
CREATE TABLE ledger (
    message_id uuid PRIMARY KEY,
    campaign_id text NOT NULL,
    run_id text NOT NULL,
    occurrence text NOT NULL,
    user_id text NOT NULL,
    what_version integer NOT NULL,
    lane smallint NOT NULL,
    phone text NOT NULL,
    phone_hash bytea NOT NULL,
    country text,
    variables bytea NOT NULL,
    variant text NOT NULL,
    message_class text NOT NULL,
    zone text NOT NULL,
    due_at timestamptz NOT NULL,
    send_by timestamptz NOT NULL,
    allowed tstzmultirange,
    on_hit text NOT NULL,
    queue text COLLATE "C" NOT NULL,
    state text NOT NULL DEFAULT 'QUEUED',
    cause text NOT NULL DEFAULT '',
    reason text NOT NULL DEFAULT '',
    attempt integer NOT NULL DEFAULT 0,
    provider_id text NOT NULL DEFAULT '',
    provider_message_id text NOT NULL DEFAULT '',
    tried text[] NOT NULL DEFAULT '{}',
    owner text,
    lease_until timestamptz,
    next_at timestamptz NOT NULL,
    marked_at timestamptz,
    not_before timestamptz,
    look_ups integer NOT NULL DEFAULT 0,
    body text NOT NULL DEFAULT '',
    encoding text NOT NULL DEFAULT '',
    parts integer NOT NULL DEFAULT 0,
    seq integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000,
        autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 1)
"""

# A claim changes neither state nor anything indexed, so it is a HOT update; the index of what waits is also the list
# of queues (their first rows), and a campaign's rows are one stretch of it.
STATEMENTS = (
    LEDGER,
    "CREATE INDEX ledger_waiting ON ledger (lane, queue, next_at) WHERE state IN ('QUEUED', 'DEFERRED', 'HELD')",
    "CREATE INDEX ledger_deadline ON ledger (send_by) WHERE state IN ('QUEUED', 'DEFERRED', 'HELD')",
    "CREATE INDEX ledger_waiting_phone ON ledger (phone_hash) WHERE state IN ('QUEUED', 'DEFERRED', 'HELD')",
    "CREATE INDEX ledger_held ON ledger (campaign_id) WHERE state = 'HELD'",
    "CREATE INDEX ledger_submitting ON ledger (lease_until) WHERE state = 'SUBMITTING'",
    "CREATE INDEX ledger_in_doubt ON ledger (next_at) WHERE state = 'IN_DOUBT'",
    """
    CREATE TABLE attempts (
        message_id uuid NOT NULL,
        attempt integer NOT NULL,
        provider_id text NOT NULL,
        started_at timestamptz NOT NULL,
        outcome text NOT NULL,
        code text NOT NULL DEFAULT '',
        provider_message_id text,
        PRIMARY KEY (message_id, attempt)
    )
    """,
    """
    CREATE UNIQUE INDEX attempts_provider_message ON attempts (provider_message_id, provider_id)
    WHERE provider_message_id IS NOT NULL
    """,
    """
    CREATE TABLE receipts (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        provider_id text NOT NULL,
        provider_message_id text NOT NULL,
        status text NOT NULL,
        raw_status text NOT NULL,
        code text NOT NULL DEFAULT '',
        reference text,
        suppress text,
        received_at timestamptz NOT NULL,
        next_at timestamptz,
        result text NOT NULL DEFAULT '',
        UNIQUE (provider_message_id, provider_id, status, code)
    ) WITH (fillfactor = 80)
    """,
    "CREATE INDEX receipts_open ON receipts (next_at) WHERE next_at IS NOT NULL",
    """
    CREATE TABLE inbound (
        provider_id text NOT NULL,
        provider_message_id text NOT NULL,
        keyword text NOT NULL,
        received_at timestamptz NOT NULL,
        PRIMARY KEY (provider_id, provider_message_id)
    )
    """,
    """
    CREATE TABLE suppressions (
        phone_hash bytea PRIMARY KEY,
        suppressed boolean NOT NULL,
        version bigint NOT NULL,
        reason text NOT NULL,
        source text NOT NULL,
        phone text NOT NULL,
        at timestamptz NOT NULL
    )
    """,
    """
    CREATE TABLE provider_budget (
        provider_id text PRIMARY KEY,
        tokens double precision NOT NULL,
        granted integer NOT NULL DEFAULT 0,
        refilled_at timestamptz NOT NULL
    ) WITH (fillfactor = 20)
    """,
    """
    CREATE TABLE sandbox_inbox (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        provider_id text NOT NULL,
        message_id uuid NOT NULL,
        attempt integer NOT NULL,
        provider_message_id text NOT NULL,
        sent_to text NOT NULL,
        sent_from text NOT NULL,
        body text NOT NULL,
        parts integer NOT NULL,
        at timestamptz NOT NULL,
        UNIQUE (message_id, attempt, provider_id)
    )
    """,
    "CREATE INDEX sandbox_inbox_phone ON sandbox_inbox (sent_to, id)",
    # Rows live for milliseconds: compressing them costs more than writing them.
    "ALTER TABLE outbox ALTER COLUMN records SET STORAGE EXTERNAL",
)


def upgrade() -> None:
    for statement in (*kernel_tables_sql(), *STATEMENTS):
        op.execute(statement)


def downgrade() -> None:
    raise RuntimeError("the ledger is never taken back")
