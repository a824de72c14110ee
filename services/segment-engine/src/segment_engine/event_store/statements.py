"""The SQL of the event store, as text with placeholders; the same for chDB and for a ClickHouse server.

Must not run anything, and puts into the text only names of its own: values are bound.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from postrider.contracts.delivery_events import TEST_RUN
from segment_engine.domain.columns import EventRow, MessageRow, OutcomeRow, ProfileRow, SuppressionRow

SESSION_SETTINGS = {
    # A rule may have a thousand conditions and lists of ten thousand values.
    "max_query_size": 64 << 20,
    "max_ast_elements": 2_000_000,
    "max_expanded_ast_elements": 5_000_000,
    "max_ast_depth": 5_000,
    # An insert that returns is on the disk, in one block: a token stands for a block.
    "async_insert": 0,
    "min_insert_block_size_rows": 4_000_000_000,
    "min_insert_block_size_bytes": 0,
    "max_insert_threads": 1,
    "insert_deduplicate": 1,
    "precise_float_parsing": 1,
    "input_format_json_named_tuples_as_objects": 0,
    "output_format_json_quote_64bit_integers": 0,
    # A filter must see the winning version of a row, never an older one.
    "optimize_move_to_prewhere_if_final": 0,
    "mutations_sync": 2,
    "lightweight_deletes_sync": 2,
}


EVALUATION_SECONDS = 45
SNAPSHOT_SECONDS = 100
EVALUATION_BYTES = 4 << 30
SNAPSHOT_BYTES = 8 << 30
"""What one evaluation of a rule may take. A snapshot sorts all who qualify, and its run waits for it."""
_BOUND = "max_execution_time = {seconds}, timeout_overflow_mode = 'throw', max_memory_usage = {bytes}"
TOO_LARGE = {"MEMORY_LIMIT_EXCEEDED": "Query memory limit exceeded", "TIMEOUT_EXCEEDED": ""}
"""Names of errors of a statement that needs more, and what their texts say then: the memory of all may be short too."""


def bounded(sql: str) -> str:
    """A SELECT that evaluates a rule, within what one evaluation may take."""
    return f"{sql}\nSETTINGS {_BOUND.format(seconds=EVALUATION_SECONDS, bytes=EVALUATION_BYTES)}"


def is_too_large(sql: str, name: str, text: str) -> bool:
    """Whether a statement failed by its own size: `name` of the error, and its text."""
    return "max_memory_usage = " in sql and name in TOO_LARGE and TOO_LARGE[name] in text


HAS_SCHEMA_VERSIONS = "SELECT 1 FROM system.tables WHERE database = currentDatabase() AND name = 'schema_versions'"
CREATE_SCHEMA_VERSIONS = (
    "CREATE TABLE IF NOT EXISTS schema_versions (version UInt32) ENGINE = MergeTree ORDER BY version"
)
SCHEMA_VERSIONS = "SELECT version FROM schema_versions"


def token_setting(token: str) -> str:
    """The clause that makes a repeat of an insert with the same token change nothing."""
    return f"SETTINGS insert_deduplication_token = '{hashlib.sha256(token.encode()).hexdigest()}'"


def insert_rows(table: str, columns: tuple[str, ...], token: str | None = None) -> str:
    """To be followed by rows, one JSON array a line."""
    clause = f" {token_setting(token)}" if token is not None else ""
    return f"INSERT INTO {table} ({', '.join(columns)}){clause} FORMAT JSONCompactEachRow\n"


EVENT_COLUMNS = EventRow._fields
PROFILE_COLUMNS = ProfileRow._fields
SUPPRESSION_COLUMNS = SuppressionRow._fields
MESSAGE_COLUMNS = MessageRow._fields
OUTCOME_COLUMNS = OutcomeRow._fields
LIST_MEMBER_COLUMNS = ("list_id", "user_id")
LIST_COLUMNS = ("list_id", "members")
AUDIENCE_COLUMNS = ("run_id", "campaign_id", "occurrence", "zone", "rank", "user_id", "verdict")
SNAPSHOT_COLUMNS = ("run_id", "total", "reachable", "zones")


def people(condition: str, *, once_per_phone: bool = True) -> str:
    """user_id, zone, country, verdict, reason of everybody who qualifies. The first verdict that applies counts
    (semantics.md §8). `once_per_phone` False: nobody is a duplicate (live campaigns text each).

    Bound besides the condition's own: countries, country_zones (parallel), account_zone, consent_default.
    """
    # Sorted by 128 bits of a hash: half the time of sorting the 64 letters of phone_hash.
    first = "min(user_id) OVER (PARTITION BY phone_key, base)"
    duplicate = f"base = '' AND user_id != {first}" if once_per_phone else "false"
    return f"""SELECT user_id, zone, country,
  multiIf({duplicate}, 'duplicate_phone', base IN ('no_valid_phone', 'no_consent'), 'unreachable', base) AS verdict,
  if(verdict = 'unreachable', base, '') AS reason
FROM (
  SELECT user_id, sipHash128(phone_hash) AS phone_key, toString(phone_country) AS country,
    if(time_zone != '', toString(time_zone), transform(country, {{countries:Array(String)}},
      {{country_zones:Array(String)}}, {{account_zone:String}})) AS zone,
    multiIf(NOT phone_valid, 'no_valid_phone', NOT ifNull(consent, {{consent_default:Bool}}), 'no_consent',
      phone_hash IN (SELECT phone_hash FROM suppressions FINAL WHERE suppressed), 'suppressed', '') AS base
  FROM profiles FINAL WHERE NOT deleted AND ({condition})
)"""


def matching(condition: str) -> str:
    return bounded(f"SELECT user_id FROM profiles FINAL WHERE NOT deleted AND ({condition})")


def store_audience(source: str, run_id: str) -> str:
    """`source`: user_id, zone, verdict. One block, hence all or nothing. The rank is a random order made of the seed:
    SHA-256(seed, newline, user_id), those to be texted before all others."""
    return f"""INSERT INTO audiences ({", ".join(AUDIENCE_COLUMNS)})
{token_setting(run_id)}, {_BOUND.format(seconds=SNAPSHOT_SECONDS, bytes=SNAPSHOT_BYTES)}
SELECT {{run_id:String}}, {{campaign_id:String}}, {{occurrence:String}}, zone,
  row_number() OVER (ORDER BY verdict != '', SHA256(concat({{seed:String}}, '\\n', user_id)), user_id) - 1,
  user_id, verdict
FROM ({source})"""


AUDIENCE_ZONES = """SELECT zone, count(), countIf(verdict = '') FROM audiences
WHERE run_id = {run_id:String} GROUP BY zone"""

STORED_SNAPSHOT = "SELECT total, reachable, zones FROM snapshots WHERE run_id = {run_id:String} LIMIT 1"

PAGE = """SELECT rank, user_id, verdict FROM audiences
WHERE run_id = {run_id:String} AND zone = {zone:String} AND rank > {after_rank:Int64} ORDER BY rank
LIMIT {limit:UInt64}"""

UNEXPANDED = f"""INSERT INTO messages ({", ".join(MESSAGE_COLUMNS)})
SELECT campaign_id,
  concat(substring(lower(hex(SHA256(concat(campaign_id, '\\n', occurrence)))), 1, 8),
         substring(lower(hex(SHA256(concat(campaign_id, '\\n', occurrence, '\\n', user_id)))), 1, 24)),
  run_id, occurrence, user_id, phone, {{status:String}}, {{reason:String}}, '', 0, '', '[]', '',
  {{due_at:Int64}}, {{updated_at:Int64}}, {{seq:UInt64}}
FROM (
  SELECT run_id, campaign_id, occurrence, zone, user_id, row_number() OVER (PARTITION BY zone ORDER BY rank) AS position
  FROM audiences WHERE run_id = {{run_id:String}} AND zone IN {{zones:Array(String)}}
) AS members
LEFT ANY JOIN (SELECT user_id, phone FROM profiles FINAL WHERE NOT deleted) AS phones USING user_id
WHERE position > transform(toString(zone), {{zones:Array(String)}}, {{expanded:Array(Int64)}}, toInt64(0))"""

MESSAGE_FILTERS = ("campaign_id", "run_id", "user_id", "phone", "status", "reason", "variant")


def messages(filters: tuple[str, ...], *, after: bool, test: bool | None = None) -> str:
    """`filters`: some of MESSAGE_FILTERS, bound by their own names. `after`: begin behind after_campaign, after_id.
    `test`: test sends alone, or none of them."""
    tests = [f"{name} = {{{name}:String}}" for name in filters]
    if test is not None:
        tests.append(f"run_id {'=' if test else '!='} '{TEST_RUN}'")
    if after:
        tests.append("(campaign_id, message_id) > ({after_campaign:String}, {after_id:String})")
    return f"""SELECT {", ".join(MESSAGE_COLUMNS)} FROM messages FINAL WHERE {" AND ".join(tests) or "true"}
ORDER BY campaign_id, message_id LIMIT {{limit:UInt64}}"""


def count_events(filters: tuple[str, ...]) -> str:
    return (
        f"SELECT count() FROM events WHERE {' AND '.join(f'{name} = {{{name}:String}}' for name in filters) or 'true'}"
    )


ERASE_EVENTS = "DELETE FROM events WHERE user_id = {user_id:String} AND received_at <= {until:Int64}"
ERASE_OUTCOMES = "DELETE FROM outcomes WHERE user_id = {user_id:String} AND at <= {until:Int64}"
ERASE_MESSAGES = """ALTER TABLE messages UPDATE phone = '', body = ''
WHERE user_id = {user_id:String} AND updated_at <= {until:Int64}"""
TEXTS_OF = """SELECT arrayJoin(groupUniqArrayArray(10000)(
  arrayConcat(mapValues(strs), arrayFlatten(arrayMap(x -> tupleElement(x, 'strs'), mapValues(lists))))))
FROM events WHERE user_id = {user_id:String}"""

COMPLETE_LISTS = "SELECT DISTINCT list_id FROM user_lists WHERE list_id IN {list_ids:Array(String)}"
COUNT_LIST_MEMBERS = "SELECT uniqExact(user_id) FROM user_list_members WHERE list_id = {list_id:String}"
DROP_LIST = "DELETE FROM user_lists WHERE list_id = {list_id:String}"
DROP_LIST_MEMBERS = "DELETE FROM user_list_members WHERE list_id = {list_id:String}"

KNOWN_RUNS = "SELECT run_id FROM audiences UNION DISTINCT SELECT run_id FROM snapshots"
REFILLS = "SELECT source, run, part, position, upto FROM refills FINAL ORDER BY part"
REFILL_COLUMNS = ("source", "run", "part", "position", "upto")
FINISH_REFILL = "TRUNCATE TABLE refills"


class Kept(NamedTuple):
    """A table that an export has besides the events: nothing else can bring it back. `key` is unique."""

    columns: tuple[str, ...]
    key: tuple[str, ...]
    final: bool = True


KEPT = {
    "outcomes": Kept(OUTCOME_COLUMNS, ("campaign_id", "what", "user_id", "message_id")),
    "messages": Kept(MESSAGE_COLUMNS, ("campaign_id", "message_id")),
    "user_list_members": Kept(LIST_MEMBER_COLUMNS, ("list_id", "user_id")),
    "audiences": Kept(AUDIENCE_COLUMNS, ("run_id", "zone", "rank"), final=False),
    # Those say that the ones before are complete.
    "user_lists": Kept(LIST_COLUMNS, ("list_id",)),
    "snapshots": Kept(SNAPSHOT_COLUMNS, ("run_id",)),
}
_KEY_TYPES = {"rank": "UInt32"}


def kept(table: str, *, after: bool) -> str:
    """`after`: bound as after_<column of the key>."""
    columns, key, final = KEPT[table]
    order = ", ".join(key)
    place = ", ".join(f"{{after_{name}:{_KEY_TYPES.get(name, 'String')}}}" for name in key)
    where = f" WHERE ({order}) > ({place})" if after else ""
    return (
        f"SELECT {', '.join(columns)} FROM {table}{' FINAL' if final else ''}{where} "
        f"ORDER BY {order} LIMIT {{limit:UInt64}}"
    )


EVENT_ORDER = ("event", "user_id", "at", "message_id")
CLEAR_EVENTS = "TRUNCATE TABLE events"


def events(*, after: bool) -> str:
    """Rows as they are inserted: tuples without names are arrays in JSON. `after`: bound as after_event and so on."""
    order = ", ".join(EVENT_ORDER)
    place = "({after_event:String}, {after_user_id:String}, {after_at:Int64}, {after_message_id:String})"
    where = f"WHERE ({order}) > {place}" if after else ""
    casts = {
        "dates": "Map(String, Tuple(UInt8, Int64))",
        "lists": "Map(String, Tuple(Array(String), Array(Float64), Array(Bool), Array(Tuple(UInt8, Int64))))",
    }
    columns = ", ".join(f"CAST({name}, '{casts[name]}')" if name in casts else name for name in EVENT_COLUMNS)
    return f"SELECT {columns} FROM events {where} ORDER BY {order} LIMIT {{limit:UInt64}}"


def listed_names(table: str, most: int) -> str:
    return f"SELECT DISTINCT arrayJoin(mapKeys(lists)) FROM {table} LIMIT {most:d}"


PARTS = "SELECT table, name, path, bytes_on_disk FROM system.parts WHERE active AND database = currentDatabase()"


def drop_part(table: str, name: str) -> str:
    """Takes a part out, and the token it was inserted with. Both names are the store's own."""
    return f"ALTER TABLE {table} DROP PART '{name}'"
