"""Reads phones again that nobody understood, when the account's default country changes. A phone that is understood
may tell the person's zone: their timers move with it.

A phone that was understood is kept in E.164 and means the same for ever. One that was not is kept as it came: it may be
a national spelling, so a new default country is tried on it, page by page, once; a crash goes on where it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from postrider.contracts.definitions import AccountSettings
from postrider.postgres.database import Database
from segment_engine import metrics
from segment_engine.adapters import phone_reading_table, profile_table, wait_table
from segment_engine.domain.live_campaigns import LiveCampaigns
from segment_engine.domain.profiles import Contact, settle
from segment_engine.loops.wait_changes import Identified, WaitChanges
from segment_engine.loops.work import work

PAGE = 500


class Definitions(Protocol):
    """What is needed of `DefinitionsReader`."""

    settings: AccountSettings


class PhoneReading:
    """A component (`run`). `on_profiles_changed` is called after a commit that changed profiles; `on_armed` after one
    that moved timers, with the due time of the earliest."""

    def __init__(
        self,
        database: Database,
        definitions: Definitions,
        campaigns: Callable[[], LiveCampaigns],
        waits: WaitChanges,
        on_profiles_changed: Callable[[], None],
        on_armed: Callable[[datetime], None],
    ) -> None:
        self._database = database
        self._definitions = definitions
        self._campaigns = campaigns
        self._waits = waits
        self._on_profiles_changed = on_profiles_changed
        self._on_armed = on_armed
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Settings may have changed."""
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        await work(stop, self._wake, "phone_reading", self._step)

    async def _step(self) -> bool:
        country = self._definitions.settings.default_country
        async with self._database.begin() as tx:
            state = await phone_reading_table.lock(tx)
            if state.finished and state.default_country == country:
                return False
            after = state.after_user_id if state.default_country == country else ""
            found = await phone_reading_table.unread(tx, after, PAGE)
            changed: dict[str, tuple[dict[str, object], Contact]] = {}
            moved: set[str] = set()
            due: datetime | None = None
            for user_id, traits in found.items():
                kept, contact = settle(traits, country)
                if contact.phone is not None:
                    changed[user_id] = kept, contact
                    before = contact._replace(phone=None, phone_country=None)
                    if contact.zone("") != before.zone(""):
                        moved.add(user_id)
            if changed:
                await profile_table.write(tx, changed)
            if moved:
                now = await wait_table.db_now(tx)
                people = {user_id: Identified(changed[user_id][0], True, received=now) for user_id in sorted(moved)}
                account_zone = self._definitions.settings.account_time_zone
                due = await self._waits.apply(tx, self._campaigns(), account_zone, [], people)
            last = next(reversed(found), "")
            await phone_reading_table.advance(tx, country, last, finished=len(found) < PAGE)
        if changed:
            metrics.PROFILES_CHANGED.inc(len(changed))
            self._on_profiles_changed()
        if due is not None:
            self._on_armed(due)
        return True
