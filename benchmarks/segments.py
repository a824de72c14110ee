"""`make bench-segments`: rules on 1 M users and 20 M events: as compiled, as one would write them by hand for the same
store, and in Postgres; all on this machine, and all three must count the same people.

BENCH_SEGMENT_USERS=<n> scales (20 events a user). The data is generated once and kept in .local.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg

from benchmarks.engine import durability
from benchmarks.segment_rules import CASES, HEAVY, MOMENT, NOW, PEOPLE, SMALL, Case
from postrider.local.home import Home, HomeLock
from postrider.local.parts import Parts
from postrider.local.parts import print_line as say
from postrider.rules import parse_rule
from segment_engine.domain.compile_rule import compile_rule
from segment_engine.event_store.chdb_store import ChdbRunner
from segment_engine.event_store.listed_names import ListedNames
from segment_engine.event_store.port import EvaluationContext
from segment_engine.event_store.sql_store import SqlEventStore

USERS = int(os.environ.get("BENCH_SEGMENT_USERS", "1000000"))
EACH = 20
SMALL_USERS, SMALL_EACH = 20_000, 5
ZONE = "UTC"
ROUNDS = 5
AT_ONCE = 1_000_000
COUNT = "SELECT count(*), sum(length(user_id))"
"""The second so that everybody's id is read, as it is by whoever asks for people."""
HOME = Path(".local").resolve() / "bench-segments-2"
"""Another number whenever the data below becomes another."""

# Of event i, in whole numbers: the same in both databases.
MIXED = "(i * 2654435761) % 4294967296"
"""32 bits that look like chance."""
AMOUNT, CITY = f"({MIXED}) % 500", "concat('City ', (i * 17) % 50)"
AT = f"({MOMENT} - (i * 104729) % 31536000)"
"""Seconds; within a year before NOW."""


def user(users: int) -> str:
    return f"concat('u-', (i * 7919) % {users})"


def event(high_bits: str) -> str:
    """`high_bits`: of `MIXED`."""
    return f"concat('Event ', {high_bits} % 20)"


async def fill_store(runner: ChdbRunner, users: int, each: int) -> None:
    for start in range(0, users * each, AT_ONCE):
        await runner.execute(f"""INSERT INTO events (user_id, event, at, received_at, message_id, strs, nums)
SELECT {user(users)}, {event(f"intDiv({MIXED}, 65536)")}, {AT} * 1000000, {AT} * 1000000, concat('m-', i),
  map('city', {CITY}), map('amount', toFloat64({AMOUNT}))
FROM (SELECT toInt64(number) AS i FROM numbers({start}, {min(AT_ONCE, users * each - start)}))""")
    columns = "user_id, version, phone, phone_hash, phone_valid, phone_country, strs"
    for start in range(0, users, AT_ONCE):
        await runner.execute(f"""INSERT INTO profiles ({columns})
SELECT concat('u-', i), 1, concat('+1', 2000000000 + i), hex(SHA256(toString(i))), true, 'US', map('city', {CITY})
FROM (SELECT toInt64(number) AS i FROM numbers({start}, {min(AT_ONCE, users - start)}))""")


async def fill_postgres(connection: asyncpg.Connection, users: int, each: int) -> None:
    """As a careful person lays it out: columns for what every rule asks, JSON for the rest, one fitting index."""
    await connection.execute("DROP TABLE IF EXISTS events, profiles, filled")
    await connection.execute("CREATE TABLE events (user_id text, event text, at timestamptz, properties jsonb)")
    await connection.execute("CREATE TABLE profiles (user_id text PRIMARY KEY, traits jsonb)")
    properties = f"jsonb_build_object('amount', {AMOUNT}, 'city', {CITY})"
    await connection.execute(
        f"INSERT INTO events SELECT {user(users)}, {event(f'(({MIXED}) / 65536)')}, to_timestamp({AT}), {properties} "
        f"FROM generate_series(0::bigint, {users * each - 1}) i",
        timeout=1_800,
    )
    await connection.execute(
        f"INSERT INTO profiles SELECT concat('u-', i), jsonb_build_object('city', {CITY}) "
        f"FROM generate_series(0::bigint, {users - 1}) i",
        timeout=600,
    )
    await connection.execute("CREATE INDEX ON events (event, user_id, at)", timeout=1_800)
    await connection.execute("VACUUM ANALYZE events, profiles", timeout=1_800)
    await connection.execute(f"CREATE TABLE filled AS SELECT {users * each}::bigint AS events")


async def timed(*runs: Callable[[], Awaitable[int]], rounds: int = ROUNDS) -> list[tuple[int, float]]:
    """Of each, what it found, and the best of some rounds in seconds. Taking turns, so that none has the cold caches or
    the busy moments for itself."""
    found = [(0, float("inf"))] * len(runs)
    for _ in range(rounds):
        for place, run in enumerate(runs):
            began = time.monotonic()
            count = await run()
            found[place] = count, min(found[place][1], time.monotonic() - began)
    return found


async def measure(case: Case, runner: ChdbRunner, connection: asyncpg.Connection) -> bool:
    """Whether all three found as many people."""
    listed = ListedNames()
    await listed.load(runner)
    compiled = compile_rule(parse_rule(case.rule), now=NOW, account_zone=ZONE, listed=listed.known())

    async def as_compiled() -> int:
        rows = await runner.rows(f"{COUNT} FROM ({PEOPLE} ({compiled.sql}))", compiled.params)
        return int(rows[0][0])

    async def by_hand() -> int:
        return int((await runner.rows(f"{COUNT} FROM ({case.by_hand})"))[0][0])

    async def in_postgres() -> int:
        return int(await connection.fetchval(f"{COUNT} FROM ({case.in_postgres}) q", timeout=600))

    (ours, seconds), (theirs, hand) = await timed(as_compiled, by_hand)
    [(rows, postgres)] = await timed(in_postgres, rounds=2)
    same = ours == theirs == rows
    told = "" if same else f"  DIFFERENT: {theirs:,} by hand, {rows:,} in Postgres"
    say(
        f"{case.name:33} {ours:>9,} {seconds * 1e3:>6.0f} ms {hand * 1e3:>6.0f} ms {seconds / hand:>6.2f} "
        f"{postgres * 1e3:>7,.0f} ms {seconds / postgres:>6.2f}{told}"
    )
    return same


async def estimates(store: SqlEventStore, title: str, case: Case) -> None:
    context, rule = EvaluationContext(NOW, ZONE), parse_rule(case.rule)

    async def estimate() -> int:
        return (await store.estimate(rule, context)).qualified

    [(found, seconds)] = await timed(estimate)
    say(f"{title}: whole estimate of “{case.name}”, with reach and zones: {seconds * 1e3:.0f} ms, {found:,} people")


async def opened(name: str, users: int, each: int) -> tuple[ChdbRunner, SqlEventStore]:
    runner = ChdbRunner(HOME / f"{name}-{users}")
    store = SqlEventStore(runner)
    await store.open()
    if await store.count_events() != users * each:
        await store.clear_events()
        began = time.monotonic()
        await fill_store(runner, users, each)
        say(f"{name} store: {users:,} users, {users * each:,} events generated in {time.monotonic() - began:.0f} s")
    return runner, store


async def rows_in(connection: asyncpg.Connection) -> int:
    """Events of a filling that was finished."""
    if await connection.fetchval("SELECT to_regclass('filled')") is None:
        return 0
    return int(await connection.fetchval("SELECT events FROM filled"))


async def compare(url: str) -> bool:
    connection = await asyncpg.connect(url)
    runner, store = await opened("large", USERS, EACH)
    try:
        if await rows_in(connection) != USERS * EACH:
            began = time.monotonic()
            await fill_postgres(connection, USERS, EACH)
            say(f"Postgres: filled and indexed in {time.monotonic() - began:.0f} s")
        say(f"\n{USERS:,} users, {USERS * EACH:,} events; best of {ROUNDS} runs (Postgres: of 2)")
        say(f"{os.cpu_count()} cores for everything")
        say(f"Postgres: {await durability(url)}")
        say(f"{'rule':33} {'people':>9} {'compiled':>9} {'by hand':>9} {'ratio':>6} {'Postgres':>10} {'ratio':>6}")
        agreed = [await measure(case, runner, connection) for case in CASES]
        await estimates(store, f"{USERS:,} users, {USERS * EACH:,} events", HEAVY)
        return all(agreed)
    finally:
        await store.close()
        await connection.close()


async def main() -> int:
    home = Home(HOME)
    home.create()
    with HomeLock(home):
        _, small = await opened("small", SMALL_USERS, SMALL_EACH)
        await estimates(small, f"{SMALL_USERS:,} users, {SMALL_USERS * SMALL_EACH:,} events", SMALL)
        await small.close()
        parts = Parts(home, os.environ, say)
        try:
            agreed = await compare(await parts.start_postgres())
        finally:
            await parts.stop()
    return 0 if agreed else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
