"""Tables `event_dedup` and `identify_dedup`: messageIds seen, as keyed hashes, a partition per day."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from postrider.postgres.database import Database
from segment_engine.domain.dedup_keys import OLDER, DedupKey, first_day_kept

_ENSURE = text("SELECT ensure_dedup_days(CAST(:parent AS text), CAST(:days AS date[]))")
_DROP = text("SELECT drop_dedup_days(CAST(:parent AS text), CAST(:before AS date))")


class DedupTable:
    """`name`: event_dedup or identify_dedup. One writer per user at a time (the partition's owner)."""

    def __init__(self, database: Database, name: str, horizon_days: int) -> None:
        self._database = database
        self._name = name
        self._horizon_days = horizon_days
        self._days: set[date] = {OLDER}
        # One array comes back and not a row for each: the driver makes nothing of them but integers.
        self._insert = text(f"""
            WITH fresh AS (
                INSERT INTO {name} (hash, day)
                SELECT * FROM unnest(CAST(:hashes AS bigint[]), CAST(:days AS date[]))
                ON CONFLICT DO NOTHING RETURNING hash
            )
            SELECT coalesce(array_agg(hash), '{{}}') FROM fresh
        """)
        self._look_up = text(f"SELECT hash FROM {name} WHERE hash = ANY(CAST(:hashes AS bigint[]))")

    async def first_seen(self, tx: AsyncConnection, keys: Sequence[DedupKey]) -> list[bool]:
        """For each key: has it never been seen, in this batch either? Remembers them in the caller's transaction.

        Before anything else in the transaction touches the table: new days are created on the side (`ensure`).
        """
        await self.ensure({key.day for key in keys})
        unique: dict[int, DedupKey] = {}
        for key in keys:
            unique.setdefault(key.hash, key)
        asked = [key.hash for key in unique.values() if key.everywhere]
        if asked:
            for known in (await tx.execute(self._look_up, {"hashes": asked})).scalars():
                unique.pop(known, None)
        fresh: set[int] = set()
        if unique:
            rows = await tx.execute(
                self._insert, {"hashes": list(unique), "days": [key.day for key in unique.values()]}
            )
            fresh = set(rows.scalar_one())
        answers = []
        for key in keys:
            answers.append(key.hash in fresh)
            fresh.discard(key.hash)
        return answers

    async def ensure(self, days: set[date]) -> None:
        """Makes room for keys of these days, before a transaction that asks about them more than once."""
        missing = sorted(days - self._days)
        if not missing:
            return
        async with self._database.begin() as own:
            await own.execute(_ENSURE, {"parent": self._name, "days": missing})
        self._days.update(missing)

    async def sweep(self, today: date) -> int:
        """Drops the days past the horizon; returns how many."""
        before = first_day_kept(today, self._horizon_days)
        # Forgotten first: a batch that needs one of them meanwhile creates it again.
        self._days = {day for day in self._days if day == OLDER or day >= before}
        async with self._database.begin() as own:
            dropped = (await own.execute(_DROP, {"parent": self._name, "before": before})).scalars().all()
        return len(dropped)
