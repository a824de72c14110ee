"""People of `make bench-audience`, put straight into both stores: how they got there is not what it measures."""

from __future__ import annotations

from pathlib import Path

import asyncpg

from segment_engine.event_store.chdb_store import ChdbRunner
from segment_engine.event_store.sql_store import SqlEventStore

ZONES = (
    "Pacific/Kiritimati", "Pacific/Auckland", "Pacific/Chatham", "Pacific/Fiji", "Australia/Sydney",
    "Australia/Lord_Howe", "Australia/Adelaide", "Asia/Tokyo", "Asia/Shanghai", "Australia/Eucla", "Asia/Bangkok",
    "Asia/Yangon", "Asia/Dhaka", "Asia/Kathmandu", "Asia/Kolkata", "Asia/Karachi", "Asia/Kabul", "Asia/Dubai",
    "Asia/Tehran", "Europe/Istanbul", "Africa/Nairobi", "Europe/Berlin", "Africa/Cairo", "Europe/London",
    "Atlantic/Azores", "America/Noronha", "America/Sao_Paulo", "America/St_Johns", "America/Halifax",
    "America/New_York", "America/Chicago", "America/Denver", "America/Phoenix", "America/Los_Angeles",
    "America/Anchorage", "Pacific/Marquesas", "Pacific/Honolulu", "Pacific/Pago_Pago",
)  # fmt: skip
"""38, of as many offsets as there are."""
AREA_CODES = (202, 206, 212, 213, 303, 305, 312, 401, 404, 405, 410, 502, 505, 602, 612, 617, 701, 702, 801, 808)
"""Of states with laws of their own, and of others."""
IN_ONE_ZONE = 50_000
"""The first of the people, all in the first zone."""
AT_ONCE = 500_000
_COLUMNS = "user_id, version, phone, phone_hash, phone_valid, phone_country, time_zone, strs, nums"


def zone_of(number: int) -> str:
    return ZONES[0 if number < IN_ONE_ZONE else number % len(ZONES)]


def phone_of(number: int) -> str:
    return f"+1{AREA_CODES[number % len(AREA_CODES)]}{2_000_000 + number:07}"


async def fill_postgres(connection: asyncpg.Connection, people: int) -> None:
    await connection.execute(
        f"""
INSERT INTO segment_engine.profiles (user_id, version, copied_version, traits, phone, phone_country, country, time_zone)
SELECT 'user-' || n, 1, 1,
  json_build_object('phone', phone, 'first_name', 'Name' || n % 1000, 'last_name', 'Surname' || n % 5000,
    'email', 'user' || n || '@example.com', 'city', 'City ' || n % 50, 'plan', 'plan ' || n % 3, 'number', n,
    'timezone', zone),
  phone, 'US', 'US', zone
FROM (
  SELECT n, '+1' || ($1::int[])[1 + n % {len(AREA_CODES)}] || lpad((2000000 + n)::text, 7, '0') AS phone,
    ($2::text[])[CASE WHEN n < {IN_ONE_ZONE} THEN 1 ELSE 1 + n % {len(ZONES)} END] AS zone
  FROM generate_series(0, $3::int - 1) n
) people
""",
        list(AREA_CODES),
        list(ZONES),
        people,
        timeout=600,
    )
    await connection.execute("VACUUM ANALYZE segment_engine.profiles", timeout=600)


async def fill_store(folder: Path, people: int) -> None:
    """The engine's own event store, while no engine runs: the same people, and one event of each for best times."""
    runner = ChdbRunner(folder)
    store = SqlEventStore(runner)
    await store.open()
    codes, zones = ", ".join(map(str, AREA_CODES)), ", ".join(f"'{zone}'" for zone in ZONES)
    try:
        for start in range(0, people, AT_ONCE):
            numbers = f"(SELECT toInt64(number) AS n FROM numbers({start}, {min(AT_ONCE, people - start)}))"
            await runner.execute(f"""INSERT INTO profiles ({_COLUMNS})
SELECT concat('user-', n), 1, concat('+1', [{codes}][1 + n % {len(AREA_CODES)}], leftPad(toString(2000000 + n), 7, '0'))
  AS number, hex(SHA256(number)), true, 'US', [{zones}][if(n < {IN_ONE_ZONE}, 1, 1 + n % {len(ZONES)})],
  map('city', concat('City ', n % 50)), map('number', toFloat64(n))
FROM {numbers}""")
            await runner.execute(f"""INSERT INTO events (user_id, event, at, received_at, message_id)
SELECT concat('user-', n), 'Seen', (toUnixTimestamp(now()) - n * 7919 % 15000000) * 1000000 AS at, at, concat('m-', n)
FROM {numbers}""")
    finally:
        await store.close()
