"""The tables of the event store, in the order they came to be. Statements are never edited, only appended.

Why the columns are as they are: docs/decisions/event-store-columns.md. Must hold for chDB and for a ClickHouse server.
"""

from __future__ import annotations

from typing import TypeAlias

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

Migrations: TypeAlias = tuple[tuple[int, str], ...]
"""Version and statement; a version may have several, each safe to repeat."""

MIGRATIONS: Migrations = (
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
    (
        8,
        # Of what is known of one message the earliest moment holds, in whatever order it is told.
        f"""CREATE TABLE IF NOT EXISTS outcomes (
  campaign_id LowCardinality(String), what LowCardinality(String), user_id String, message_id String,
  at SimpleAggregateFunction(min, Int64)
) ENGINE = AggregatingMergeTree ORDER BY (campaign_id, what, user_id, message_id) SETTINGS {_DURABLE}""",
    ),
    (
        9,
        f"""CREATE TABLE IF NOT EXISTS user_list_members (
  list_id String, user_id String
) ENGINE = ReplacingMergeTree ORDER BY (list_id, user_id) SETTINGS {_DURABLE}""",
    ),
    (
        10,
        # Approximate by design and written often: not worth waiting for the disk.
        """CREATE TABLE IF NOT EXISTS catalog (
  kind LowCardinality(String), event String, name String, type LowCardinality(String),
  n SimpleAggregateFunction(sum, UInt64), last_at SimpleAggregateFunction(max, Int64),
  examples SimpleAggregateFunction(groupUniqArrayArray(5), Array(String))
) ENGINE = AggregatingMergeTree ORDER BY (kind, event, name, type)""",
    ),
    (
        11,
        # A list whose row is here has all its members; until then nobody may ask it.
        f"""CREATE TABLE IF NOT EXISTS user_lists (
  list_id String, members UInt64
) ENGINE = ReplacingMergeTree ORDER BY list_id SETTINGS {_DURABLE}""",
    ),
    (
        12,
        # What the message log knew before there were outcomes; of each message its last change alone.
        """INSERT INTO outcomes SELECT campaign_id, arrayJoin(if(status = 'delivered', ['accepted', 'delivered'],
  ['accepted'])), user_id, message_id, updated_at
FROM messages FINAL WHERE status IN ('awaiting_receipt', 'sent', 'delivered', 'undelivered')""",
    ),
    (
        13,
        # How far a history that is being filled again is: lost with the store that it is about.
        f"""CREATE TABLE IF NOT EXISTS refills (
  source String, run String, part String, position UInt64, upto UInt64
) ENGINE = ReplacingMergeTree(position) ORDER BY (source, run, part) SETTINGS {_DURABLE}""",
    ),
)
