"""Streams audiences out, zone by zone, page by page: people as the snapshot ranked them, contacts as they are now.

Pages and the cursor behind them are one transaction, so a crash repeats or skips nobody. A few zones at a time, each a
few pages in turn: a large zone does not keep small ones waiting. A zone's pages have one key, so that they are read in
their order.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Protocol, TypeAlias

from sqlalchemy.ext.asyncio import AsyncConnection

from postrider.contracts.audience import PAGE, AudiencePage
from postrider.contracts.definitions import AccountSettings, CampaignDefinition
from postrider.contracts.envelope import Outgoing
from postrider.contracts.topics import QUALIFIED_USERS_BULK
from postrider.logs import log
from postrider.postgres.database import Database
from postrider.postgres.outbox import Outbox, Pending
from segment_engine import metrics
from segment_engine.adapters import audience_tables, profile_table, suppression_table
from segment_engine.domain.pages import (
    Member,
    Stream,
    after_pages,
    make_page,
    page_user,
    suppressed_phones,
    with_newest_what,
)
from segment_engine.event_store.port import EventStore
from segment_engine.loops.audience_intake import WakeUps
from segment_engine.loops.work import work

Waiting: TypeAlias = deque[tuple[Stream, asyncio.Task[None] | None]]
"""With what is on its way out of each."""
PARALLEL = 3
PAGES_AT_ONCE = 4
"""Of one zone, read and written together."""


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
            waiting: Waiting = deque((stream, None) for stream in await audience_tables.open_streams(tx))
        if not waiting:
            return False
        workers = [self._work(waiting, stop) for _ in range(min(PARALLEL, len(waiting)))]
        for outcome in await asyncio.gather(*workers, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
        return True

    async def _work(self, waiting: Waiting, stop: asyncio.Event) -> None:
        """Makes the next pages while the ones before are on their way out; a zone's go out one behind the other."""
        publishing: asyncio.Task[None] | None = None
        try:
            while waiting and not stop.is_set() and not self._wake.is_set():
                stream, before = waiting.popleft()
                rest, pending = await self._advance(stream)
                for each in (before, publishing):
                    if each is not None:
                        await each
                publishing = asyncio.create_task(self._outbox.publish(pending))
                if rest is not None:
                    waiting.append((rest, publishing))
        except asyncio.CancelledError:
            if publishing is not None:
                publishing.cancel()  # the relay takes what is left
            raise
        finally:
            if publishing is not None:
                await publishing

    async def _advance(self, stream: Stream) -> tuple[Stream | None, Pending | None]:
        """Writes the next pages; what is left of the stream, or None, and what is to be published."""
        if self._is_stopped(stream.campaign_id):
            async with self._database.begin() as tx:
                await audience_tables.move_stream(tx, stream, stream.next_page, stream.after_rank, "stopped")
            log.info("stream_stopped", run_id=stream.run_id, zone=stream.zone, page=stream.next_page)
            return None, None
        stream = with_newest_what(stream, self._definitions.campaigns.get(stream.campaign_id))
        # One more than the pages hold shows whether they are the last.
        most = stream.page_size * PAGES_AT_ONCE
        found = await self._store.page(stream.run_id, stream.zone, stream.after_rank, most + 1)
        members = [Member(*member) for member in found[:most]]
        async with self._database.begin() as tx:
            pages = await self._expand(tx, stream, members, len(found) <= most)
            rest = after_pages(stream, pages)
            is_over = pages[-1].last
            moved = await audience_tables.move_stream(
                tx, stream, rest.next_page, rest.after_rank, "done" if is_over else "open"
            )
            pending = await self._outbox.add(tx, [self._record(page) for page in pages]) if moved else None
        if not moved:
            return None, None
        metrics.PAGES.inc(len(pages))
        return None if is_over else rest, pending

    async def _expand(
        self, tx: AsyncConnection, stream: Stream, members: Sequence[Member], complete: bool
    ) -> list[AudiencePage]:
        """At least one page. `complete`: the zone has no more members than these."""
        profiles = await profile_table.read(tx, [member.user_id for member in members]) if members else {}
        reasons = await suppression_table.reasons(tx, suppressed_phones(profiles), self._key)
        require_consent = self._definitions.settings.require_consent
        pages: list[AudiencePage] = []
        start = 0
        while not pages or start < len(members):
            users = []
            for member in members[start : start + stream.page_size]:
                profile = profiles.get(member.user_id)
                phone = profile.contact.phone if profile is not None else None
                suppression = reasons.get(phone) if phone is not None else None
                users.append(page_user(member, profile, suppression, stream.references, require_consent))
            is_end = complete and start + len(users) == len(members)
            pages.append(make_page(after_pages(stream, pages), users, is_end))
            start += len(pages[-1].users)
            await asyncio.sleep(0)  # a page is as much work as the event loop may be kept from at once
        return pages

    def _record(self, page: AudiencePage) -> Outgoing:
        """Readers keep what comes before its turn: one key for all pages of a zone spares them that."""
        id = f"{PAGE}:{page.run_id}:{page.zone}:{page.page}"
        return self._outbox.outgoing(QUALIFIED_USERS_BULK, f"{page.run_id}:{page.zone}", PAGE, page, id)

    def _is_stopped(self, campaign_id: str) -> bool:
        campaign = self._definitions.campaigns.get(campaign_id)
        return campaign is not None and campaign.status == "stopped"
