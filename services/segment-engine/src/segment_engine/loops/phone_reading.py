"""Reads phones again that nobody understood, when the account's default country changes.

A phone that was understood is kept in E.164 and means the same for ever. One that was not is kept as it came: it may be
a national spelling, so a new default country is tried on it, page by page, once; a crash goes on where it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from postrider.contracts.definitions import AccountSettings
from postrider.postgres.database import Database
from segment_engine import metrics
from segment_engine.adapters import phone_reading_table, profile_table
from segment_engine.domain.profiles import Contact, settle
from segment_engine.loops.work import work

PAGE = 500


class Definitions(Protocol):
    """What is needed of `DefinitionsReader`."""

    settings: AccountSettings


class PhoneReading:
    """A component (`run`). `on_profiles_changed` is called after a commit that changed profiles."""

    def __init__(self, database: Database, definitions: Definitions, on_profiles_changed: Callable[[], None]) -> None:
        self._database = database
        self._definitions = definitions
        self._on_profiles_changed = on_profiles_changed
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
            for user_id, traits in found.items():
                kept, contact = settle(traits, country)
                if contact.phone is not None:
                    changed[user_id] = kept, contact
            if changed:
                await profile_table.write(tx, changed)
            last = next(reversed(found), "")
            await phone_reading_table.advance(tx, country, last, finished=len(found) < PAGE)
        if changed:
            metrics.PROFILES_CHANGED.inc(len(changed))
            self._on_profiles_changed()
        return True
