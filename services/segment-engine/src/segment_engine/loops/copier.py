"""Writes changed profiles through to the event store. Versions make every write harmless to repeat."""

from __future__ import annotations

import asyncio

from postrider.phones import phone_hash
from postrider.postgres.database import Database
from segment_engine import metrics
from segment_engine.adapters import profile_table
from segment_engine.domain.columns import ProfileRow, profile_row
from segment_engine.domain.profiles import Profile
from segment_engine.event_store.port import EventStore
from segment_engine.loops.work import work

BATCH = 2_000


class ProfileCopier:
    """A component (`run`). One pass visits everything that was not copied when it began."""

    def __init__(self, database: Database, store: EventStore, phone_hash_key: bytes) -> None:
        self._database = database
        self._store = store
        self._key = phone_hash_key
        self._wake = asyncio.Event()
        self._begun = 0
        self._finished = 0
        self._progress = asyncio.Condition()

    def wake(self) -> None:
        self._wake.set()

    async def wait_until_copied(self) -> None:
        """Until all that is committed now is in the event store."""
        wanted = self._begun + 1
        self._wake.set()
        async with self._progress:
            await self._progress.wait_for(lambda: self._finished >= wanted)

    async def run(self, stop: asyncio.Event) -> None:
        await work(stop, self._wake, "profile_copier", self._pass)

    async def _pass(self) -> bool:
        self._begun += 1
        after, copied = "", 0
        while True:
            async with self._database.begin() as tx:
                profiles = await profile_table.to_copy(tx, after, BATCH)
            if not profiles:
                break
            await self._store.upsert_profiles([self._row(profile) for profile in profiles])
            async with self._database.begin() as tx:
                await profile_table.mark_copied(tx, profiles)
            after = profiles[-1].user_id
            copied += len(profiles)
            metrics.PROFILES_COPIED.inc(len(profiles))
        async with self._progress:
            self._finished = self._begun
            self._progress.notify_all()
        return copied > 0 or self._wake.is_set()

    def _row(self, profile: Profile) -> ProfileRow:
        contact = profile.contact
        phone = contact.phone or ""
        return profile_row(
            profile.user_id,
            profile.version,
            {} if profile.deleted else profile.traits,
            phone=phone,
            phone_hash=phone_hash(phone, self._key) if phone else "",
            phone_country=contact.phone_country or contact.country or "",
            time_zone=contact.time_zone or "",
            consent=contact.consent,
            deleted=profile.deleted,
        )
