"""Ends the sessions of replicas that stand still in the middle of a transaction, so that nobody waits for their rows.

Postgres's own time-out (`database.IDLE_SECONDS`) does not see them all: between the parse of a statement and its
execution asyncpg sends no Sync, and a session that stands there counts as active for as long as its machine answers.
"""

from __future__ import annotations

import asyncio

from sqlalchemy import text

from postrider.logs import failure, log
from postrider.postgres.database import Database, is_outage

LOOK_SECONDS = 1.0

_END = text("""
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user
  AND application_name = current_setting('application_name') AND pid <> pg_backend_pid()
  AND state <> 'idle' AND wait_event = 'ClientRead'
  AND state_change < clock_timestamp() - make_interval(secs => :seconds)
""")


class SilentSessions:
    """A component (`run`): the replicas of a service watch each other's sessions. `seconds`: how long one may say
    nothing. Whoever moves again finds its connection gone, and begins anew."""

    def __init__(self, database: Database, seconds: float) -> None:
        self._database = database
        self._seconds = seconds

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await self.end()
            except Exception as error:
                if not is_outage(error):
                    raise
                log.warning("sessions_unseen", **failure(error))
            try:
                await asyncio.wait_for(stop.wait(), LOOK_SECONDS)
            except TimeoutError:
                continue

    async def end(self) -> int:
        """How many there were."""
        async with self._database.begin() as tx:
            ended: int = (await tx.execute(_END, {"seconds": self._seconds})).scalar_one()
        if ended:
            log.warning("silent_sessions_ended", sessions=ended)
        return ended
