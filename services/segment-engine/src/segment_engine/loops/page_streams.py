"""Streams audiences out, zone by zone, page by page: people as the snapshot ranked them, contacts as they are now.

The page and the cursor behind it are one transaction, so a crash repeats or skips nobody. A few zones at a time, each
one page in turn: a large zone does not keep small ones waiting.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from postrider.contracts.audience import PAGE, AudiencePage
from postrider.contracts.definitions import AccountSettings, CampaignDefinition
from postrider.contracts.topics import QUALIFIED_USERS_BULK
from postrider.logs import log
from postrider.postgres.database import Database
from postrider.postgres.outbox import Outbox, Pending
from segment_engine import metrics
from segment_engine.adapters import audience_tables, profile_table, suppression_table
from segment_engine.domain.pages import (
    Member,
    Stream,
    after_page,
    make_page,
    page_user,
    suppressed_phones,
    with_newest_what,
)
from segment_engine.event_store.port import EventStore
from segment_engine.loops.audience_intake import WakeUps
from segment_engine.loops.work import work

PARALLEL = 3


class Definitions(Protocol):
    """What the streams need of `DefinitionsReader`."""

    campaigns: dict[str, CampaignDefinition]
    settings: AccountSettings


class PageStreams:
    """A component (`run`). Pages of different zones are published side by side."""

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        store: EventStore,
        definitions: Definitions,
        wake_ups: WakeUps,
        phone_hash_key: bytes,
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._store = store
        self._definitions = definitions
        self._wake = wake_ups.streams
        self._key = phone_hash_key

    async def run(self, stop: asyncio.Event) -> None:
        await work(stop, self._wake, "page_streams", lambda: self._step(stop))

    async def _step(self, stop: asyncio.Event) -> bool:
        """One round: every zone that is open until it is over, or until more zones are asked for."""
        async with self._database.begin() as tx:
            waiting = deque(await audience_tables.open_streams(tx))
        if not waiting:
            return False
        workers = [self._work(waiting, stop) for _ in range(min(PARALLEL, len(waiting)))]
        for outcome in await asyncio.gather(*workers, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
        return True

    async def _work(self, waiting: deque[Stream], stop: asyncio.Event) -> None:
        while waiting:
            rest = await self._advance(waiting.popleft())
            if rest is not None:
                waiting.append(rest)
            if stop.is_set() or self._wake.is_set():
                return

    async def _advance(self, stream: Stream) -> Stream | None:
        """Publishes the next page; what is left of the stream, or None."""
        if self._is_stopped(stream.campaign_id):
            async with self._database.begin() as tx:
                await audience_tables.move_stream(tx, stream, stream.next_page, stream.after_rank, "stopped")
            log.info("stream_stopped", run_id=stream.run_id, zone=stream.zone, page=stream.next_page)
            return None
        stream = with_newest_what(stream, self._definitions.campaigns.get(stream.campaign_id))
        # One more than a page shows whether the page is the last.
        found = await self._store.page(stream.run_id, stream.zone, stream.after_rank, stream.page_size + 1)
        members = [Member(m.rank, m.user_id, m.verdict) for m in found[: stream.page_size]]
        async with self._database.begin() as tx:
            page = await self._expand(tx, stream, members, len(found) <= stream.page_size)
            rest = after_page(stream, page)
            moved = await audience_tables.move_stream(
                tx, stream, rest.next_page, rest.after_rank, "done" if page.last else "open"
            )
            pending = await self._add(tx, page) if moved else None
        await self._outbox.publish(pending)
        if not moved:
            return None
        metrics.PAGES.inc()
        return None if page.last else rest

    async def _expand(self, tx: AsyncConnection, stream: Stream, members: Sequence[Member], last: bool) -> AudiencePage:
        profiles = await profile_table.read(tx, [member.user_id for member in members]) if members else {}
        reasons = await suppression_table.reasons(tx, suppressed_phones(profiles), self._key)
        require_consent = self._definitions.settings.require_consent
        users = []
        for member in members:
            profile = profiles.get(member.user_id)
            phone = profile.contact.phone if profile is not None else None
            suppression = reasons.get(phone) if phone is not None else None
            users.append(page_user(member, profile, suppression, stream.references, require_consent))
        return make_page(stream, users, last)

    async def _add(self, tx: AsyncConnection, page: AudiencePage) -> Pending | None:
        key = f"{page.run_id}:{page.zone}:{page.page}"
        record = self._outbox.outgoing(QUALIFIED_USERS_BULK, key, PAGE, page, f"{PAGE}:{key}")
        return await self._outbox.add(tx, [record])

    def _is_stopped(self, campaign_id: str) -> bool:
        campaign = self._definitions.campaigns.get(campaign_id)
        return campaign is not None and campaign.status == "stopped"
