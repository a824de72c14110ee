"""The rows of limits and caps: locked together, in one order, by whoever decides about people.

Order of locks, after those of `store`: counters by (campaign, day), then ledgers by person.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from scheduler.domain.caps import Reservation
from scheduler.domain.gate import Books, CounterKey
from scheduler.domain.limits import Counter

_MAKE_COUNTERS = text("""
INSERT INTO limit_counters (campaign_id, day)
SELECT * FROM unnest(CAST(:campaigns AS text[]), CAST(:days AS text[])) ON CONFLICT DO NOTHING
""")
_LOCK_COUNTERS = text("""
SELECT campaign_id, day, taken, given_back FROM limit_counters
WHERE (campaign_id, day) IN (SELECT * FROM unnest(CAST(:campaigns AS text[]), CAST(:days AS text[])))
ORDER BY campaign_id, day FOR UPDATE
""")
_SAVE_COUNTERS = text("""
UPDATE limit_counters c SET taken = v.taken, given_back = v.given_back
FROM unnest(CAST(:campaigns AS text[]), CAST(:days AS text[]), CAST(:taken AS bigint[]), CAST(:given AS bigint[]))
     AS v(campaign_id, day, taken, given_back)
WHERE c.campaign_id = v.campaign_id AND c.day = v.day
""")
_MAKE_LEDGERS = text("""
INSERT INTO cap_ledgers (user_id, entries, last_at)
SELECT user_id, '', (SELECT db_now()) FROM unnest(CAST(:users AS text[])) AS v(user_id) ON CONFLICT DO NOTHING
RETURNING user_id
""")
_LOCK_LEDGERS = text("""
SELECT user_id, entries FROM cap_ledgers WHERE user_id = ANY(CAST(:users AS text[])) ORDER BY user_id FOR UPDATE
""")
_READ_LEDGERS = text("SELECT user_id, entries FROM cap_ledgers WHERE user_id = ANY(CAST(:users AS text[]))")
_SAVE_LEDGERS = text("""
UPDATE cap_ledgers l SET entries = v.entries, last_at = v.last_at
FROM unnest(CAST(:users AS text[]), CAST(:entries AS bytea[]), CAST(:last_ats AS timestamptz[]))
     AS v(user_id, entries, last_at)
WHERE l.user_id = v.user_id
""")
_ADD_SLOTS = text("""
INSERT INTO limit_slots (message_id, campaign_id, day)
SELECT CAST(v.id AS uuid), v.campaign_id, v.day
FROM unnest(CAST(:ids AS text[]), CAST(:campaigns AS text[]), CAST(:days AS text[])) AS v(id, campaign_id, day)
ON CONFLICT DO NOTHING
""")
_GIVE_BACK_SLOTS = text("""
DELETE FROM limit_slots WHERE message_id = ANY(CAST(CAST(:ids AS text[]) AS uuid[])) RETURNING campaign_id, day
""")
_SWEEP_LEDGERS = text("""
DELETE FROM cap_ledgers WHERE user_id IN (
    SELECT user_id FROM cap_ledgers WHERE last_at < (SELECT db_now()) - make_interval(days => :days)
    LIMIT :limit FOR UPDATE SKIP LOCKED)
""")
_SWEEP_SLOTS = text("""
DELETE FROM limit_slots WHERE message_id IN (
    SELECT message_id FROM limit_slots WHERE created_at < (SELECT db_now()) - make_interval(days => :days)
    LIMIT :limit FOR UPDATE SKIP LOCKED)
""")

_NEVER = datetime(2000, 1, 1, tzinfo=UTC)
"""Of a person who has no reservation left: the sweep may take the row."""

_entries = msgspec.msgpack.Decoder(list[Reservation])


async def open_books(tx: AsyncConnection, counters: Collection[CounterKey], users: Collection[str]) -> Books:
    """Counters and ledgers, made where there are none yet, locked until the transaction ends."""
    return Books(await _lock_counters(tx, counters), await _lock_ledgers(tx, users))


async def close_books(tx: AsyncConnection, books: Books) -> None:
    """Writes back what was changed."""
    await save_counters(tx, books.counters)
    await save_ledgers(tx, {user: books.ledgers[user] for user in books.changed})
    if books.slots:
        ids, campaigns, days = (list(column) for column in zip(*books.slots, strict=True))
        await tx.execute(_ADD_SLOTS, {"ids": ids, "campaigns": campaigns, "days": days})


async def give_back_slots(tx: AsyncConnection, message_ids: Sequence[str]) -> list[CounterKey]:
    """Forgets the slots of live texts; returns (campaign, day) of each that there was."""
    rows = await tx.execute(_GIVE_BACK_SLOTS, {"ids": list(message_ids)})
    return [(row.campaign_id, row.day) for row in rows]


async def lock_known_counters(tx: AsyncConnection, counters: Collection[CounterKey]) -> dict[CounterKey, Counter]:
    """Those that there are."""
    if not counters:
        return {}
    rows = await tx.execute(_LOCK_COUNTERS, _counter_keys(counters))
    return {(row.campaign_id, row.day): Counter(row.taken, row.given_back) for row in rows}


async def lock_known_ledgers(tx: AsyncConnection, users: Collection[str]) -> dict[str, list[Reservation]]:
    """Of people who have one."""
    rows = await tx.execute(_LOCK_LEDGERS, {"users": sorted(users)})
    return {row.user_id: _read(row.entries) for row in rows}


async def read_ledgers(tx: AsyncConnection, users: Collection[str]) -> dict[str, list[Reservation]]:
    """Of people who have one, as they are at the moment: nothing is locked."""
    rows = await tx.execute(_READ_LEDGERS, {"users": sorted(users)})
    return {row.user_id: _read(row.entries) for row in rows}


async def save_ledgers(tx: AsyncConnection, ledgers: Mapping[str, list[Reservation]]) -> None:
    if not ledgers:
        return
    users = sorted(ledgers)
    values = {
        "users": users,
        "entries": [msgspec.msgpack.encode(ledgers[user]) for user in users],
        "last_ats": [_last_at(ledgers[user]) for user in users],
    }
    await tx.execute(_SAVE_LEDGERS, values)


async def save_counters(tx: AsyncConnection, counters: Mapping[CounterKey, Counter]) -> None:
    if not counters:
        return
    keys = sorted(counters)
    values = {
        "campaigns": [campaign for campaign, _ in keys],
        "days": [day for _, day in keys],
        "taken": [counters[key].taken for key in keys],
        "given": [counters[key].given_back for key in keys],
    }
    await tx.execute(_SAVE_COUNTERS, values)


async def sweep_ledgers(tx: AsyncConnection, days: int, limit: int) -> int:
    """Forgets people whose last reservation is older than any cap reaches."""
    return (await tx.execute(_SWEEP_LEDGERS, {"days": days, "limit": limit})).rowcount


async def sweep_slots(tx: AsyncConnection, days: int, limit: int) -> int:
    """Forgets slots of texts that are long settled: what they took stays taken."""
    return (await tx.execute(_SWEEP_SLOTS, {"days": days, "limit": limit})).rowcount


async def _lock_counters(tx: AsyncConnection, counters: Collection[CounterKey]) -> dict[CounterKey, Counter]:
    if not counters:
        return {}
    await tx.execute(_MAKE_COUNTERS, _counter_keys(counters))
    return await lock_known_counters(tx, counters)


def _counter_keys(counters: Collection[CounterKey]) -> dict[str, list[str]]:
    keys = sorted(counters)
    return {"campaigns": [campaign for campaign, _ in keys], "days": [day for _, day in keys]}


async def _lock_ledgers(tx: AsyncConnection, users: Collection[str]) -> dict[str, list[Reservation]]:
    if not users:
        return {}
    made = set((await tx.execute(_MAKE_LEDGERS, {"users": sorted(users)})).scalars())
    ledgers: dict[str, list[Reservation]] = {user: [] for user in made}
    known = [user for user in users if user not in made]
    return ledgers | await lock_known_ledgers(tx, known) if known else ledgers


def _read(entries: bytes) -> list[Reservation]:
    return _entries.decode(entries) if entries else []


def _last_at(ledger: Sequence[Reservation]) -> datetime:
    return max((reservation.last_at for reservation in ledger), default=_NEVER)
