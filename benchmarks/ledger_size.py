"""`make bench-ledger`: texts a second with an empty ledger and with one that remembers ten million texts, in turns in
one run, each with its housekeeping (discovery of queues, sweeps, retention) beside it. A checkpoint comes right before
the first round: the texts have to write each page that they touch into Postgres's log in full.

Two worlds on one Kafka and one Postgres, alike but for what their ledgers remember; one dispatcher at a time has work.
BENCH_LEDGER (10000000) rows, BENCH_TEXTS (20000) a round, BENCH_ROUNDS (8). Ten million rows and their attempts take
some 14 GB below .local, which are gone afterwards; a filler that finds less room on the disk says so and stops.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from collections import defaultdict
from datetime import UTC, datetime

import asyncpg

from benchmarks import nginx_sink
from benchmarks.debian import unpacked
from benchmarks.sending import TEXTS, WARM_UP, define_generic, tell
from benchmarks.sending_stage import Cost, Sending, running_parts, sending, told
from postrider.local.parts import print_line as say
from tests.support.dispatching import Stage

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "8"))
"""A fraction of the time from one checkpoint to the next at this pace, the dear one."""
ROWS = int(os.environ.get("BENCH_LEDGER", "10000000"))
AT_ONCE = 500_000
BYTES_A_ROW = 1_500
DAYS = 25
"""The texts are spread over so many days before today: below the retention, so that none of them is forgotten."""

FILLFACTOR = """
SELECT option_value FROM pg_class, pg_options_to_table(reloptions)
WHERE oid = 'dispatcher.ledger'::regclass AND option_name = 'fillfactor'
"""
GROWN = 60
"""Per cent of a page."""

AT = """
SELECT CAST(:today AS timestamptz) - make_interval(days => :days) * (1 - n::float8 / :rows) - interval '1 day' AS at
"""
LEDGER = f"""
INSERT INTO ledger (message_id, campaign_id, run_id, occurrence, user_id, what_version, lane, phone, phone_hash,
    country, variables, variant, message_class, zone, due_at, send_by, on_hit, queue, state, attempt, provider_id,
    provider_message_id, next_at, marked_at, body, encoding, parts, seq, created_at, updated_at)
SELECT md5('old-' || n)::uuid, c.name, 'run_old', 'once', 'old-' || n, 1, 1, '+1444' || (1000000 + n % 9000000),
    decode(md5('p-' || n) || md5('q-' || n), 'hex'), 'US', '{{"profile":{{"name":"old"}},"event":{{}}}}', '',
    'transactional', 'UTC', t.at, t.at + interval '1 hour', 'expire', c.name || '|1|US|',
    (ARRAY['ACCEPTED', 'DELIVERED', 'DELIVERED', 'UNDELIVERED', 'EXPIRED'])[1 + n % 5], 1, 'prv_a', md5('id-' || n),
    t.at, t.at, 'Hi old-' || n, 'GSM-7', 1, 2, t.at, t.at
FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) n,
    LATERAL (SELECT 'cmp_old_' || n % 200 AS name) c,
    LATERAL ({AT}) t
"""
ATTEMPTS = f"""
INSERT INTO attempts (day, message_id, attempt, provider_id, started_at, outcome, provider_message_id, ended_at)
SELECT CAST(t.at AT TIME ZONE 'UTC' AS date), md5('old-' || n)::uuid, 1, 'prv_a', t.at, 'accepted', md5('id-' || n),
    t.at
FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) n,
    LATERAL ({AT}) t
"""


async def fill(world: Stage, rows: int) -> None:
    """Rows as sending leaves them, made by Postgres itself, then vacuumed as autovacuum would have.

    Pages are filled further than for rows that are still to grow. Filled to the brim of what intake leaves free, each
    had a gap for just one more, and every new text went into an old page of its own: after real texts and a vacuum that
    happens to three in a hundred.
    """
    free = shutil.disk_usage(".local").free
    if free < rows * BYTES_A_ROW * 1.3:
        needed = rows * BYTES_A_ROW * 1.3
        raise SystemExit(f"{rows:,} rows need {needed / 1e9:.0f} GB of disk; {free / 1e9:.0f} are free")
    began, today = time.monotonic(), datetime.now(UTC)
    owner = await asyncpg.connect(world.database_url)
    fillfactor = await owner.fetchval(FILLFACTOR)
    await owner.execute(f"ALTER TABLE dispatcher.ledger SET (fillfactor = {GROWN})")
    for first in range(1, rows + 1, AT_ONCE):
        last = min(first + AT_ONCE - 1, rows)
        for statement in (LEDGER, ATTEMPTS):
            await world.execute(statement, first=first, last=last, rows=rows, days=DAYS, today=today)
        say(f"  {last:,} texts after {time.monotonic() - began:.0f} s")
    await owner.execute(f"ALTER TABLE dispatcher.ledger SET (fillfactor = {fillfactor})")
    for statement in ("VACUUM (ANALYZE) dispatcher.ledger", "VACUUM (ANALYZE) dispatcher.attempts", "CHECKPOINT"):
        await owner.execute(statement, timeout=600)
    await owner.close()
    say(f"filled: {rows:,} texts in {time.monotonic() - began:.0f} s")


async def told_sizes(world: Stage) -> None:
    sizes = await world.rows(
        "SELECT relname, pg_relation_size(oid) AS bytes FROM pg_class WHERE relnamespace = 'dispatcher'::regnamespace"
        " AND relkind IN ('r', 'i') AND pg_relation_size(oid) > 50000000 ORDER BY 2 DESC"
    )
    say("  " + ", ".join(f"{row.relname} {row.bytes / 1e9:.2f} GB" for row in sizes))


def rate_of(costs: list[Cost]) -> float:
    """Of all rounds as one."""
    return sum(cost.texts for cost in costs) / sum(cost.texts / cost.per_second for cost in costs)


async def main() -> int:
    async with running_parts() as parts:
        async with nginx_sink.sink(unpacked("nginx", nginx_sink.PACKAGES)) as sink:
            define = define_generic(sink.port)
            pids = {"nginx": sink.pid}
            async with sending(parts, define, pids) as small, sending(parts, define, pids) as large:
                say(f"Postgres: {await small.durability()}; {os.cpu_count()} cores")
                await fill(large.world, ROWS)
                await told_sizes(large.world)
                costs: dict[str, list[Cost]] = defaultdict(list)
                worlds: dict[str, Sending] = {"an empty ledger": small, f"{ROWS:,} texts": large}
                for each in worlds.values():
                    await each.send(WARM_UP, sink.texts)
                for number in range(ROUNDS):
                    # In turns, the other first each time.
                    for name, each in list(worlds.items())[:: 1 if number % 2 else -1]:
                        costs[name].append(await each.send(TEXTS, sink.texts))
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    say(f"{TEXTS:,} texts a round, {ROUNDS} rounds in turns; load average {load}")
    for name in worlds:
        best = min(costs[name], key=lambda cost: sum(cost.cpu.values()))
        say(f"{name}: {tell(costs[name])}")
        say(f"  least CPU s per 1,000 texts: {told(best.cpu_per_thousand)}; WAL {best.wal_per_text:,.0f} bytes a text")
    small_rate, large_rate = (rate_of(costs[name]) for name in worlds)
    first_small, first_large = (costs[name][0].per_second for name in worlds)
    say(f"all rounds together: {small_rate:,.0f} texts/s without, {large_rate:,.0f} with {ROWS:,} texts in the ledger,")
    say(f"  {large_rate / small_rate:.0%}; in the round after the checkpoint {first_large / first_small:.0%}")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
