"""Table `waits`: what live campaigns keep of people, and when it is due. Batches are locked in the key's order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Row as Found
from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from segment_engine.domain.columns import from_microseconds, microseconds
from segment_engine.domain.waits import Kept, Row, WaitId

_KEYS = "unnest(CAST(:campaigns AS text[]), CAST(:users AS text[]), CAST(:keys AS text[])) AS v(c, u, k)"
_COLUMNS = "w.campaign_id, w.user_id, w.key, w.partition, w.made_by, w.due_at, w.keep_until, w.state"

# A sub-select that locks is never flattened: each key is one look into the index, however large the table is.
_LOCK = text(f"""
SELECT {_COLUMNS} FROM {_KEYS} CROSS JOIN LATERAL (
    SELECT * FROM waits WHERE campaign_id = v.c AND user_id = v.u AND key = v.k FOR UPDATE
) w
""")
_LOCK_USERS = text(f"""
SELECT {_COLUMNS} FROM unnest(CAST(:campaigns AS text[]), CAST(:users AS text[])) AS v(c, u) CROSS JOIN LATERAL (
    SELECT key FROM (
        SELECT key FROM waits WHERE campaign_id = v.c AND user_id = v.u AND due_at IS NOT NULL
        ORDER BY due_at LIMIT :limit
    ) next_due ORDER BY key
) n CROSS JOIN LATERAL (
    SELECT * FROM waits WHERE campaign_id = v.c AND user_id = v.u AND key = n.key FOR UPDATE
) w
""")
# Never due before it was written: a firing that is under way has not waited for what is behind this event in the log.
_INSERT = """
INSERT INTO waits (campaign_id, user_id, key, partition, made_by, due_at, keep_until, state)
SELECT c, u, k, p, m, CASE WHEN due IS NOT NULL THEN greatest(due, db_now()) END, keep, s
FROM unnest(CAST(:campaigns AS text[]), CAST(:users AS text[]), CAST(:keys AS text[]),
    CAST(:partitions AS int[]), CAST(:made_by AS bigint[]), CAST(:dues AS timestamptz[]),
    CAST(:keeps AS timestamptz[]), CAST(:states AS bytea[])) AS v(c, u, k, p, m, due, keep, s)
ON CONFLICT """
_ADD = text(_INSERT + "DO NOTHING")
_WRITE = text(f"""{_INSERT} (campaign_id, user_id, key) DO UPDATE SET
    partition = EXCLUDED.partition, made_by = EXCLUDED.made_by, due_at = EXCLUDED.due_at,
    keep_until = EXCLUDED.keep_until, state = EXCLUDED.state
""")
_REMOVE = text(f"""
DELETE FROM waits WHERE ctid = ANY (ARRAY(
    SELECT w.ctid FROM {_KEYS} CROSS JOIN LATERAL (
        SELECT ctid FROM waits WHERE campaign_id = v.c AND user_id = v.u AND key = v.k OFFSET 0
    ) w
))
""")


# In words that no index knows: the time is what few rows have, whatever statistics say about a new campaign.
_IN_SHARE = "(array_position(CAST(:filtered AS text[]), campaign_id) IS NOT NULL) = :are_filtered"


def _due(locking: str) -> TextClause:
    return text(f"""
SELECT {_COLUMNS} FROM unnest(CAST(:partitions AS int[])) AS p(n) CROSS JOIN LATERAL (
    SELECT * FROM waits WHERE partition = p.n AND due_at IS NOT NULL AND due_at <= :now
    AND {_IN_SHARE} ORDER BY due_at LIMIT :limit {locking}
) w
""")


_PEEK, _TAKE = _due("OFFSET 0"), _due("FOR UPDATE SKIP LOCKED")
_NOW = text("SELECT db_now()")
_LOOK = text(f"""
SELECT now.at AS now, min(w.due_at) AS due
FROM (SELECT db_now() AS at) AS now CROSS JOIN unnest(CAST(:partitions AS int[])) AS p(n) LEFT JOIN LATERAL (
    SELECT due_at FROM waits WHERE partition = p.n AND due_at IS NOT NULL AND due_at <= now.at + :ahead
    AND {_IN_SHARE} ORDER BY due_at LIMIT 1
) w ON true GROUP BY now.at
""")
_SWEEP = text("""
DELETE FROM waits WHERE ctid = ANY (ARRAY(
    SELECT w.ctid FROM unnest(CAST(:partitions AS int[])) AS p(n) CROSS JOIN LATERAL (
        SELECT ctid FROM waits WHERE partition = p.n AND due_at IS NULL AND keep_until < :before
        ORDER BY keep_until LIMIT :limit FOR UPDATE SKIP LOCKED
    ) w
))
""")
_COUNT = text("""
SELECT campaign_id, count(*) AS armed FROM waits
WHERE partition = ANY(CAST(:partitions AS int[])) AND due_at IS NOT NULL GROUP BY campaign_id
""")
_PAGE = text(f"""
SELECT {_COLUMNS} FROM waits w WHERE campaign_id = :campaign AND (user_id, key) > (:user, :key)
ORDER BY user_id, key LIMIT :limit FOR UPDATE
""")


class Share(NamedTuple):
    """Timers of these partitions, and of campaigns that are among the `filtered` or are not."""

    partitions: Sequence[int]
    filtered: Sequence[str]
    are_filtered: bool


class Look(NamedTuple):
    """The database's clock, and when the next timer is due; None: not as soon as was asked for."""

    now: datetime
    due: datetime | None


async def lock(tx: AsyncConnection, ids: Sequence[WaitId]) -> dict[WaitId, Row]:
    """Those of the rows that exist, locked until the transaction ends. `ids` in their own order."""
    return {row.id: row for row in map(_row, await tx.execute(_LOCK, _keys(ids)))}


async def lock_users(tx: AsyncConnection, pairs: Sequence[tuple[str, str]], limit: int) -> list[Row]:
    """The timers of these (campaign, user), locked: of each pair up to `limit`, the next due first. `pairs` in their
    own order."""
    values = {
        "campaigns": [campaign for campaign, _ in pairs],
        "users": [user for _, user in pairs],
        "limit": limit,
    }
    found = await tx.execute(_LOCK_USERS, values)
    return [_row(row) for row in found]


async def add(tx: AsyncConnection, rows: Iterable[Row]) -> int:
    """Those of the rows that do not exist; returns how many that were. The others stay as they are, not locked."""
    values = _values(rows)
    return (await tx.execute(_ADD, values)).rowcount if values["states"] else 0


async def write(tx: AsyncConnection, rows: Iterable[Row]) -> None:
    """New and changed rows."""
    values = _values(rows)
    if values["states"]:
        await tx.execute(_WRITE, values)


async def remove(tx: AsyncConnection, ids: Iterable[WaitId]) -> None:
    """Rows that this transaction has locked."""
    ordered = sorted(ids)
    if ordered:
        await tx.execute(_REMOVE, _keys(ordered))


async def db_now(tx: AsyncConnection) -> datetime:
    now: datetime = (await tx.execute(_NOW)).scalar_one()
    return now


async def look(tx: AsyncConnection, share: Share, ahead: timedelta) -> Look:
    """`share` has partitions."""
    row = (await tx.execute(_LOOK, {**share._asdict(), "ahead": ahead})).one()
    return Look(row.now, row.due)


async def peek(tx: AsyncConnection, share: Share, now: datetime, limit: int) -> list[Row]:
    """What is due, up to `limit` of each partition, not locked."""
    return [_row(r) for r in await tx.execute(_PEEK, {**share._asdict(), "now": now, "limit": limit})]


async def take(tx: AsyncConnection, share: Share, now: datetime, limit: int) -> list[Row]:
    """The same, locked; what an event is changing at this moment is left out, and comes next time."""
    return [_row(r) for r in await tx.execute(_TAKE, {**share._asdict(), "now": now, "limit": limit})]


async def sweep(tx: AsyncConnection, partitions: Sequence[int], before: datetime, limit: int) -> int:
    """Forgets rows that are of no use since `before`; returns how many."""
    return (await tx.execute(_SWEEP, {"partitions": partitions, "before": before, "limit": limit})).rowcount


async def count(tx: AsyncConnection, partitions: Sequence[int]) -> dict[str, int]:
    """Armed timers by campaign."""
    return {row.campaign_id: row.armed for row in await tx.execute(_COUNT, {"partitions": partitions})}


async def page(tx: AsyncConnection, campaign_id: str, after: tuple[str, str], limit: int) -> list[Row]:
    """The next rows of a campaign behind (user, key), locked."""
    values = {"campaign": campaign_id, "user": after[0], "key": after[1], "limit": limit}
    return [_row(row) for row in await tx.execute(_PAGE, values)]


def _keys(ids: Sequence[WaitId]) -> dict[str, list[str]]:
    return {
        "campaigns": [campaign for campaign, _, _ in ids],
        "users": [user for _, user, _ in ids],
        "keys": [key for _, _, key in ids],
    }


def _values(rows: Iterable[Row]) -> dict[str, list[Any]]:
    ordered = sorted(rows, key=lambda row: row.id)
    return {
        **_keys([row.id for row in ordered]),
        "partitions": [row.partition for row in ordered],
        "made_by": [row.made_by for row in ordered],
        "dues": [_moment(row.kept.due) for row in ordered],
        "keeps": [_moment(row.kept.keep_until) for row in ordered],
        "states": [row.kept.state for row in ordered],
    }


def _row(row: Found[Any]) -> Row:
    due = None if row.due_at is None else microseconds(row.due_at)
    keep_until = None if row.keep_until is None else microseconds(row.keep_until)
    return Row(
        (row.campaign_id, row.user_id, row.key), row.partition, row.made_by, Kept(due, keep_until, row.state)
    )  # fmt: skip


def _moment(us: int | None) -> datetime | None:
    return None if us is None else from_microseconds(us)
