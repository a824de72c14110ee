"""Profiles, deduplication, suppressions, audiences."""

from __future__ import annotations

from alembic import op

from postrider.postgres.migrate import kernel_tables_sql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = (
    # `traits` is json, not jsonb: it keeps numbers as they were written, and nothing here looks inside.
    """
    CREATE TABLE profiles (
        user_id text COLLATE "C" PRIMARY KEY,
        version bigint NOT NULL DEFAULT 1,
        copied_version bigint NOT NULL DEFAULT 0,
        deleted boolean NOT NULL DEFAULT false,
        traits json NOT NULL DEFAULT '{}',
        phone text,
        phone_country text,
        country text,
        time_zone text,
        consent boolean,
        created_at timestamptz NOT NULL DEFAULT db_now(),
        updated_at timestamptz NOT NULL DEFAULT db_now()
    ) WITH (fillfactor = 80)
    """,
    "CREATE INDEX profiles_to_copy ON profiles (user_id) WHERE version > copied_version",
    "CREATE TABLE event_dedup (hash bigint, day date, PRIMARY KEY (hash, day)) PARTITION BY RANGE (day)",
    "CREATE TABLE identify_dedup (hash bigint, day date, PRIMARY KEY (hash, day)) PARTITION BY RANGE (day)",
    "CREATE TABLE event_dedup_older PARTITION OF event_dedup FOR VALUES FROM (MINVALUE) TO ('0001-01-02')",
    "CREATE TABLE identify_dedup_older PARTITION OF identify_dedup FOR VALUES FROM (MINVALUE) TO ('0001-01-02')",
    """
    CREATE TABLE suppressions (
        phone_hash text PRIMARY KEY,
        suppressed boolean NOT NULL,
        version bigint NOT NULL,
        reason text NOT NULL
    )
    """,
    """
    CREATE TABLE audience_runs (
        run_id text PRIMARY KEY,
        campaign_id text NOT NULL,
        occurrence text NOT NULL,
        seed bigint NOT NULL,
        rule json,
        segment_id text,
        requested_at timestamptz NOT NULL,
        state text NOT NULL DEFAULT 'requested' CHECK (state IN ('requested', 'done', 'refused')),
        total bigint,
        reachable bigint,
        reason text,
        received_at timestamptz NOT NULL DEFAULT db_now(),
        settled_at timestamptz
    )
    """,
    "CREATE INDEX audience_runs_open ON audience_runs (received_at) WHERE state = 'requested'",
    """
    CREATE TABLE page_streams (
        run_id text NOT NULL,
        zone text NOT NULL,
        campaign_id text NOT NULL,
        occurrence text NOT NULL,
        what_version integer NOT NULL,
        profile_references json NOT NULL,
        page_size integer NOT NULL,
        next_page integer NOT NULL DEFAULT 0,
        after_rank bigint NOT NULL DEFAULT -1,
        state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'done', 'stopped')),
        received_at timestamptz NOT NULL DEFAULT db_now(),
        PRIMARY KEY (run_id, zone)
    )
    """,
    "CREATE INDEX page_streams_open ON page_streams (received_at) WHERE state = 'open'",
    """
    CREATE TABLE settlements (
        id text PRIMARY KEY,
        request json NOT NULL,
        done boolean NOT NULL DEFAULT false,
        received_at timestamptz NOT NULL DEFAULT db_now()
    )
    """,
    "CREATE INDEX settlements_open ON settlements (received_at) WHERE NOT done",
)

# Partitions belong to the table's owner, which the service's role is not.
ENSURE = """
CREATE FUNCTION ensure_dedup_days(parent text, days date[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE d date;
BEGIN
    IF parent NOT IN ('event_dedup', 'identify_dedup') THEN RAISE EXCEPTION 'no such table'; END IF;
    PERFORM pg_advisory_xact_lock(hashtext(parent));
    FOREACH d IN ARRAY days LOOP
        EXECUTE format('CREATE TABLE IF NOT EXISTS %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)',
                       parent || to_char(d, '"_"YYYYMMDD'), parent, d, d + 1);
    END LOOP;
END $$
"""
DROP = """
CREATE FUNCTION drop_dedup_days(parent text, before date) RETURNS SETOF date
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE name text; d date;
BEGIN
    IF parent NOT IN ('event_dedup', 'identify_dedup') THEN RAISE EXCEPTION 'no such table'; END IF;
    PERFORM pg_advisory_xact_lock(hashtext(parent));
    FOR name IN SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                WHERE i.inhparent = parent::regclass AND c.relname ~ '_[0-9]{8}$' LOOP
        d := to_date(right(name, 8), 'YYYYMMDD');
        IF d < before THEN
            EXECUTE format('DROP TABLE %I', name);
            RETURN NEXT d;
        END IF;
    END LOOP;
END $$
"""


def upgrade() -> None:
    for statement in (*kernel_tables_sql(), *TABLES, ENSURE, DROP):
        op.execute(statement)
