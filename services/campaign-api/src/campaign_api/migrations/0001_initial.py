"""The tables of campaign-api."""

from alembic import op

from postrider.postgres.migrate import kernel_tables_sql

revision = "0001"
down_revision = None

TABLES = [
    # `body` is json, not jsonb: it is answered as it was written, key order and numbers included.
    """
    CREATE TABLE resources (
        id text PRIMARY KEY,
        kind text NOT NULL,
        version bigint NOT NULL DEFAULT 1,
        published_version bigint,
        status text NOT NULL DEFAULT 'active',
        body json NOT NULL,
        internal json NOT NULL DEFAULT '{}',
        deleted boolean NOT NULL DEFAULT false,
        created_at timestamptz NOT NULL DEFAULT db_now(),
        updated_at timestamptz NOT NULL DEFAULT db_now()
    )
    """,
    "CREATE INDEX resources_by_kind ON resources (kind, id DESC) WHERE NOT deleted",
    "CREATE INDEX resources_unpublished ON resources (id) WHERE published_version IS DISTINCT FROM version",
    """
    CREATE TABLE definition_outbox (
        resource_id text PRIMARY KEY,
        settled boolean NOT NULL DEFAULT false,
        again_at timestamptz
    )
    """,
    """
    CREATE TABLE idempotency (
        key_id text NOT NULL,
        key text NOT NULL,
        fingerprint bytea NOT NULL,
        resource_id text NOT NULL,
        status integer NOT NULL,
        reply text NOT NULL,
        etag text,
        created_at timestamptz NOT NULL DEFAULT db_now(),
        PRIMARY KEY (key_id, key)
    )
    """,
    "CREATE INDEX idempotency_by_age ON idempotency (created_at)",
    """
    CREATE TABLE api_keys (
        id text PRIMARY KEY,
        name text NOT NULL,
        scopes text[] NOT NULL,
        secret_hash bytea NOT NULL,
        expires_at timestamptz,
        version bigint NOT NULL DEFAULT 1,
        created_at timestamptz NOT NULL DEFAULT db_now(),
        updated_at timestamptz NOT NULL DEFAULT db_now()
    )
    """,
    """
    CREATE TABLE funnel (
        campaign_id text NOT NULL,
        run_id text NOT NULL,
        variant text NOT NULL,
        provider_id text NOT NULL,
        status text NOT NULL,
        reason text NOT NULL,
        n bigint NOT NULL,
        PRIMARY KEY (campaign_id, run_id, variant, provider_id, status, reason)
    ) WITH (fillfactor = 50)
    """,
    """
    CREATE TABLE runs (
        run_id text PRIMARY KEY,
        campaign_id text NOT NULL,
        occurrence text NOT NULL,
        state text NOT NULL,
        rank integer NOT NULL,
        total bigint NOT NULL DEFAULT 0,
        reachable bigint NOT NULL DEFAULT 0,
        reason text NOT NULL DEFAULT '',
        started_at timestamptz NOT NULL,
        changed_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX runs_by_campaign ON runs (campaign_id)",
    """
    CREATE TABLE applied_events (
        id text PRIMARY KEY,
        at timestamptz NOT NULL DEFAULT db_now()
    )
    """,
    "CREATE INDEX applied_events_by_age ON applied_events (at)",
]


def upgrade() -> None:
    for statement in [*kernel_tables_sql(), *TABLES]:
        op.execute(statement)
