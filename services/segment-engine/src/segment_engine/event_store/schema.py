"""The tables of the event store, in the order they came to be. Statements are never edited, only appended.

Why the columns are as they are: docs/decisions/event-store-columns.md. Must hold for chDB and for a ClickHouse server.
"""

from __future__ import annotations

_VALUES = """
  strs Map(LowCardinality(String), String),
  nums Map(LowCardinality(String), Float64),
  bools Map(LowCardinality(String), Bool),
  dates Map(LowCardinality(String), Tuple(kind UInt8, us Int64)),
  lists Map(LowCardinality(String), Tuple(strs Array(String), nums Array(Float64), bools Array(Bool),
                                          dates Array(Tuple(kind UInt8, us Int64)))),
  others Array(LowCardinality(String))"""

# A part is on the disk, name and all, before an insert returns: progress is committed on that promise.
_DURABLE = "fsync_after_insert = 1, fsync_part_directory = 1"
# More than the planned ranges that can be open at once (one per partition), by far.
_TOKENS = f"{_DURABLE}, non_replicated_deduplication_window = 10000"

MIGRATIONS: tuple[tuple[int, str], ...] = (
    (
        1,
        f"""CREATE TABLE IF NOT EXISTS events (
  user_id String, event LowCardinality(String), at Int64, received_at Int64, message_id String, {_VALUES},
  at_time DateTime64(6, 'UTC') ALIAS fromUnixTimestamp64Micro(at, 'UTC')
) ENGINE = MergeTree ORDER BY (event, user_id, at) SETTINGS {_TOKENS}""",
    ),
    (
        2,
        f"""CREATE TABLE IF NOT EXISTS profiles (
  user_id String, version UInt64, deleted Bool, phone String, phone_hash String, phone_valid Bool,
  phone_country LowCardinality(String), time_zone LowCardinality(String), consent Nullable(Bool), {_VALUES}
) ENGINE = ReplacingMergeTree(version) ORDER BY user_id SETTINGS {_DURABLE}""",
    ),
    (
        3,
        f"""CREATE TABLE IF NOT EXISTS suppressions (
  phone_hash String, suppressed Bool, version UInt64
) ENGINE = ReplacingMergeTree(version) ORDER BY phone_hash SETTINGS {_DURABLE}""",
    ),
    (
        4,
        f"""CREATE TABLE IF NOT EXISTS audiences (
  run_id String, campaign_id String, occurrence String, zone LowCardinality(String), rank UInt32, user_id String,
  verdict LowCardinality(String)
) ENGINE = MergeTree ORDER BY (run_id, zone, rank) SETTINGS {_TOKENS}""",
    ),
    (
        5,
        f"""CREATE TABLE IF NOT EXISTS snapshots (
  run_id String, total UInt64, reachable UInt64, zones Map(String, UInt64)
) ENGINE = ReplacingMergeTree ORDER BY run_id SETTINGS {_DURABLE}""",
    ),
    (
        6,
        f"""CREATE TABLE IF NOT EXISTS messages (
  campaign_id String, message_id String, run_id String, occurrence String, user_id String, phone String,
  status LowCardinality(String), reason LowCardinality(String), body String, parts UInt16,
  provider_id LowCardinality(String), attempts String, variant LowCardinality(String), due_at Int64, updated_at Int64,
  seq UInt64
) ENGINE = ReplacingMergeTree(seq) ORDER BY (campaign_id, message_id) SETTINGS {_DURABLE}""",
    ),
    (
        7,
        # Merges of many small parts cost more than the inserts: fewer rounds, a few dozen parts more.
        "ALTER TABLE events MODIFY SETTING merge_selector_base = 25",
    ),
)
