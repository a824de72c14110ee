"""How far a consumer group is: the offset lives in Postgres, changed only together with the effects of the records.

Owners are fenced by an epoch: whoever takes a partition over adds one, and an older owner's advance changes no row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from postrider.postgres.database import Database

Partition = tuple[str, int]

TABLE = """
CREATE TABLE IF NOT EXISTS consumer_progress (
    consumer_group text NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    epoch bigint NOT NULL,
    next_offset bigint NOT NULL,
    planned_to bigint,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (consumer_group, topic, partition)
) WITH (fillfactor = 50)
"""

_TAKE_OVER = text("""
INSERT INTO consumer_progress AS p (consumer_group, topic, partition, epoch, next_offset)
SELECT :group, v.topic, v.partition, 1, v.start
FROM unnest(CAST(:topics AS text[]), CAST(:partitions AS int[]), CAST(:starts AS bigint[]))
     AS v(topic, partition, start)
ORDER BY 2, 3
ON CONFLICT (consumer_group, topic, partition) DO UPDATE SET epoch = p.epoch + 1, updated_at = clock_timestamp()
RETURNING topic, partition, epoch, next_offset, planned_to
""")

_ADVANCE = text("""
UPDATE consumer_progress p
SET next_offset = v.upto, planned_to = NULL, updated_at = clock_timestamp()
FROM unnest(CAST(:topics AS text[]), CAST(:partitions AS int[]), CAST(:epochs AS bigint[]),
            CAST(:froms AS bigint[]), CAST(:uptos AS bigint[])) AS v(topic, partition, epoch, start, upto)
WHERE p.consumer_group = :group AND p.topic = v.topic AND p.partition = v.partition
  AND p.epoch = v.epoch AND p.next_offset = v.start
""")

_PLAN = text("""
UPDATE consumer_progress p
SET planned_to = v.upto, updated_at = clock_timestamp()
FROM unnest(CAST(:topics AS text[]), CAST(:partitions AS int[]), CAST(:epochs AS bigint[]),
            CAST(:froms AS bigint[]), CAST(:uptos AS bigint[])) AS v(topic, partition, epoch, start, upto)
WHERE p.consumer_group = :group AND p.topic = v.topic AND p.partition = v.partition
  AND p.epoch = v.epoch AND p.next_offset = v.start AND (p.planned_to IS NULL OR p.planned_to = v.upto)
""")


class Fenced(Exception):
    """Somebody else owns a partition now, or the commit before this one was not what it seemed: re-read and seek."""


@dataclass(frozen=True, slots=True)
class Ownership:
    """What a takeover found. `planned_to`: a range [next_offset, planned_to) that must be replayed exactly."""

    epoch: int
    next_offset: int
    planned_to: int | None


@dataclass(frozen=True, slots=True)
class Advance:
    topic: str
    partition: int
    epoch: int
    from_offset: int
    to_offset: int


async def take_over(tx: AsyncConnection, group: str, starts: Mapping[Partition, int]) -> dict[Partition, Ownership]:
    """Takes the next epoch of each partition. `starts` is where a partition begins that was never read."""
    rows = await tx.execute(
        _TAKE_OVER,
        {
            "group": group,
            "topics": [topic for topic, _ in starts],
            "partitions": [partition for _, partition in starts],
            "starts": list(starts.values()),
        },
    )
    return {(row.topic, row.partition): Ownership(row.epoch, row.next_offset, row.planned_to) for row in rows}


async def advance(tx: AsyncConnection, group: str, advances: Sequence[Advance]) -> None:
    """Compare-and-set, first statement of a batch's transaction. Raises `Fenced`: roll back, drop the batch, seek."""
    await _move(tx, _ADVANCE, group, advances)


async def plan(tx: AsyncConnection, group: str, advances: Sequence[Advance]) -> None:
    """Commits the ranges that are going to be written, so that a takeover replays exactly these."""
    await _move(tx, _PLAN, group, advances)


async def _move(tx: AsyncConnection, statement: object, group: str, advances: Sequence[Advance]) -> None:
    result = await tx.execute(
        statement,  # type: ignore[call-overload]
        {
            "group": group,
            "topics": [a.topic for a in advances],
            "partitions": [a.partition for a in advances],
            "epochs": [a.epoch for a in advances],
            "froms": [a.from_offset for a in advances],
            "uptos": [a.to_offset for a in advances],
        },
    )
    if result.rowcount != len(advances):
        raise Fenced(f"{group}: {len(advances) - result.rowcount} of {len(advances)} partitions moved on without us")


async def positions(database: Database, group: str) -> dict[Partition, int]:
    """Committed next offsets of a group, whoever owns the partitions."""
    async with database.begin() as tx:
        rows = await tx.execute(
            text("SELECT topic, partition, next_offset FROM consumer_progress WHERE consumer_group = :group"),
            {"group": group},
        )
        return {(row.topic, row.partition): row.next_offset for row in rows}
