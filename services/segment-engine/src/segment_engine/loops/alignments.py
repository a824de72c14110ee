"""Brings waits in line with the definitions: launch, edits, ends. In pages, each a transaction with its cursor, so that
a crash, an edit in between or another replica leaves nothing undone and does nothing twice.

Nothing depends on it in time: whatever fires is judged by the definition as it is then. This moves what is due earlier
than before, arms what a date campaign finds at its launch, and takes away what has lost its meaning.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from postrider.contracts.definitions import AccountSettings
from postrider.postgres.database import Database
from postrider.rules import Matcher, compile_where, parse_where
from segment_engine import metrics
from segment_engine.adapters import alignment_table, profile_table, wait_table
from segment_engine.adapters.alignment_table import Alignment
from segment_engine.domain import wait_kinds
from segment_engine.domain.columns import from_microseconds, microseconds
from segment_engine.domain.inaction import Happening
from segment_engine.domain.live_campaigns import LiveCampaign, LiveCampaigns, is_due_at_once, pick
from segment_engine.domain.profiles import Profile
from segment_engine.domain.wait_kinds import Change, ReadUntil, Trait
from segment_engine.domain.waits import WaitId, short
from segment_engine.event_store.port import DatedEvent, EventStore
from segment_engine.loops.wait_changes import WaitChanges, zones_of
from segment_engine.loops.work import unless, work

PAGE = 1_000
CLOCKS = timedelta(days=3)
"""No local reading of a date is further from UTC than this."""


class Definitions(Protocol):
    settings: AccountSettings

    async def wait_until_confirmed(self) -> None: ...


class Passable(Protocol):
    async def read(self) -> None: ...

    async def remembered(self) -> None: ...


class Alignments:
    """A component (`run`). `on_armed` is called with the due time of the earliest timer of a committed page."""

    def __init__(
        self,
        database: Database,
        store: EventStore,
        definitions: Definitions,
        campaigns: Callable[[], LiveCampaigns],
        barrier: Passable,
        changes: WaitChanges,
        read_until: ReadUntil,
        on_armed: Callable[[datetime], None],
    ) -> None:
        self._database = database
        self._store = store
        self._definitions = definitions
        self._campaigns = campaigns
        self._barrier = barrier
        self._changes = changes
        self._read_until = read_until
        self._on_armed = on_armed
        self._wake = asyncio.Event()
        self._ready: set[tuple[str, int]] = set()

    def wake(self) -> None:
        """A definition has changed."""
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        await work(stop, self._wake, "alignments", lambda: self._step(stop))

    async def _step(self, stop: asyncio.Event) -> bool:
        """One page of each campaign that is not in line. An older view must not undo what a newer one has done."""
        if not await unless(stop, self._definitions.wait_until_confirmed()):
            return False
        live = self._campaigns()
        campaigns = live.waiting
        async with self._database.begin() as tx:
            known = await alignment_table.all_of(tx)
            for id, campaign in campaigns.items():
                if id not in known and _keeps_rows(campaign):
                    await alignment_table.add(tx, id, campaign.plan, _launch_phase(campaign))
                    known[id] = (campaign.plan, _launch_phase(campaign))
        busy = False
        for id, (plan, phase) in known.items():
            if id in live.unusable:  # not over: a definition that somebody has to mend
                continue
            wanted = campaigns.get(id)
            if wanted is None or plan != wanted.plan or phase != "done":
                busy = await self._page(stop, id, wanted) or busy
        return busy

    async def _page(self, stop: asyncio.Event, id: str, campaign: LiveCampaign | None) -> bool:
        """Whether there may be more to do for it."""
        if campaign is not None and not await self._everything_read(stop, campaign):
            return False
        due: datetime | None = None
        async with self._database.begin() as tx:
            alignment = await alignment_table.lock(tx, id)
            if alignment is None:
                return False
            if campaign is None:
                return await self._end(tx, alignment)
            if alignment.plan != campaign.plan:
                alignment = Alignment(id, campaign.plan, "clear", [])
            if alignment.phase == "clear":
                alignment = await self._clear(tx, alignment, campaign)
            elif alignment.phase == "replan":
                alignment, due = await self._replan(tx, alignment, campaign)
            elif alignment.phase == "profiles":
                alignment, due = await self._arm_from_profiles(tx, alignment, campaign)
            elif alignment.phase == "events":
                alignment, due = await self._arm_from_history(tx, alignment, campaign)
            await alignment_table.save(tx, alignment)
        if due is not None:
            self._on_armed(due)
        return alignment.phase != "done"

    async def _everything_read(self, stop: asyncio.Event, campaign: LiveCampaign) -> bool:
        """What the live group handled before it knew this definition is committed, and in history too: what it handles
        from now on it arms itself."""
        if (campaign.id, campaign.plan) not in self._ready:
            if not await unless(stop, self._barrier.read()):
                return False
            if campaign.trigger.date_property is not None and not await unless(stop, self._barrier.remembered()):
                return False
            self._ready.add((campaign.id, campaign.plan))
        return True

    async def _end(self, tx: AsyncConnection, alignment: Alignment) -> bool:
        """The campaign is over. A batch that did not know may still leave a row: another round, until there is none."""
        after = _after(alignment) if alignment.phase == "clear" else ("", "")
        cleared = await alignment_table.clear(tx, alignment.campaign_id, None, after, PAGE)
        metrics.WAITS_DISARMED.labels("", "campaign_ended").inc(cleared.disarmed)
        if cleared.seen == PAGE:
            await alignment_table.save(tx, alignment._replace(phase="clear", cursor=list(cleared.last)))
        elif after != ("", "") or cleared.seen:
            await alignment_table.save(tx, alignment._replace(phase="clear", cursor=[]))
        else:
            await alignment_table.remove(tx, alignment.campaign_id)
            return False
        return True

    async def _clear(self, tx: AsyncConnection, alignment: Alignment, campaign: LiveCampaign) -> Alignment:
        cleared = await alignment_table.clear(tx, campaign.id, campaign.made_by, _after(alignment), PAGE)
        metrics.WAITS_DISARMED.labels(campaign.definition.kind, "trigger_changed").inc(cleared.disarmed)
        if cleared.seen == PAGE:
            return alignment._replace(cursor=list(cleared.last))
        return alignment._replace(phase="replan", cursor=[])

    async def _replan(
        self, tx: AsyncConnection, alignment: Alignment, campaign: LiveCampaign
    ) -> tuple[Alignment, datetime | None]:
        rows = await wait_table.page(tx, campaign.id, _after(alignment), PAGE)
        account_zone = self._definitions.settings.account_time_zone
        profiles: dict[str, Profile] = {}
        if campaign.trigger.at_local_time is not None:
            profiles = await profile_table.read(tx, sorted({row.id[1] for row in rows}))
        zones = zones_of(profiles, account_zone)
        now = microseconds(await wait_table.db_now(tx))
        changed, removed = [], []
        for row in rows:
            if row.kept.due is None or row.made_by != campaign.made_by:
                continue
            zone = zones.get(row.id[1], account_zone)
            kept = wait_kinds.replanned(
                campaign, row.kept.state, now, zone, account_zone, self._read_until.at
            )  # fmt: skip
            if kept is None:
                removed.append(row.id)
            elif kept.due != row.kept.due:
                changed.append(row._replace(kept=kept))
        await wait_table.write(tx, changed)
        await wait_table.remove(tx, removed)
        dues = [row.kept.due for row in changed if row.kept.due is not None]
        earliest = from_microseconds(min(dues)) if dues else None
        if len(rows) == PAGE:
            return alignment._replace(cursor=list(rows[-1].id[1:])), earliest
        return alignment._replace(phase=_launch_phase(campaign), cursor=[]), earliest

    async def _arm_from_profiles(
        self, tx: AsyncConnection, alignment: Alignment, campaign: LiveCampaign
    ) -> tuple[Alignment, datetime | None]:
        attribute = campaign.trigger.date_attribute or ""
        people = await alignment_table.people_with(tx, attribute, (alignment.cursor or [""])[0], PAGE)
        await alignment_table.lock_people(tx, people.ids)
        profiles = await profile_table.read(tx, people.ids)
        now = microseconds(await wait_table.db_now(tx))
        changes = {
            (campaign.id, user_id, short(attribute)): Change(
                campaign, trait=Trait(profile.traits.get(attribute), now, True)
            )
            for user_id, profile in profiles.items()
            if not profile.deleted
        }
        due = await self._arm(tx, changes, profiles)
        if people.seen == PAGE:
            return alignment._replace(cursor=[people.last]), due
        return alignment._replace(phase="done", cursor=[]), due

    async def _arm_from_history(
        self, tx: AsyncConnection, alignment: Alignment, campaign: LiveCampaign
    ) -> tuple[Alignment, datetime | None]:
        trigger, definition = campaign.trigger, campaign.definition
        account_zone = self._definitions.settings.account_time_zone
        now = await wait_table.db_now(tx)
        back = timedelta(seconds=definition.when.send_by_seconds + trigger.offset_seconds)
        since = None if trigger.yearly else now - back - CLOCKS
        found = await self._store.dated_events(
            trigger.event, trigger.date_property or "", since, _event_of(alignment), PAGE
        )
        matches: Matcher = compile_where(parse_where(trigger.where), account_zone)
        changes: dict[WaitId, Change] = {}
        for event in found:
            if matches(event.values):
                id = (campaign.id, event.user_id, short(event.message_id))
                changes[id] = Change(
                    campaign, [_happening(event, now, campaign)], event.values.get(trigger.date_property or "")
                )
        people = sorted({id[1] for id in changes})
        if trigger.at_local_time is not None:
            await alignment_table.lock_people(tx, people)  # or a move to another zone would pass these rows by
        profiles = await profile_table.read(tx, people)
        known = {id: change for id, change in changes.items() if id[1] in profiles and not profiles[id[1]].deleted}
        due = await self._arm(tx, known, profiles)
        if len(found) == PAGE:
            last = found[-1]
            return alignment._replace(cursor=[last.user_id, str(microseconds(last.at)), last.message_id]), due
        return alignment._replace(phase="done", cursor=[]), due

    async def _arm(
        self, tx: AsyncConnection, changes: Mapping[WaitId, Change], profiles: Mapping[str, Profile]
    ) -> datetime | None:
        if not changes:
            return None
        account_zone = self._definitions.settings.account_time_zone
        rows = await wait_table.lock(tx, sorted(changes))
        return await self._changes.write(tx, changes, rows, zones_of(profiles, account_zone), account_zone)


def _keeps_rows(campaign: LiveCampaign) -> bool:
    return not is_due_at_once(campaign.definition)


def _launch_phase(campaign: LiveCampaign) -> str:
    if campaign.definition.kind != "live_date":
        return "done"
    return "profiles" if campaign.trigger.date_attribute is not None else "events"


def _after(alignment: Alignment) -> tuple[str, str]:
    return (alignment.cursor[0], alignment.cursor[1]) if len(alignment.cursor) == 2 else ("", "")


def _event_of(alignment: Alignment) -> DatedEvent | None:
    if len(alignment.cursor) != 3:
        return None
    user_id, at, message_id = alignment.cursor
    return DatedEvent(user_id, from_microseconds(int(at)), message_id, {})


def _happening(event: DatedEvent, now: datetime, campaign: LiveCampaign) -> Happening:
    definition = campaign.definition
    values: dict[str, Any] = pick(definition.what.references.event, event.values)
    return Happening(
        event.message_id, microseconds(event.at), microseconds(now), True, False, definition.what_version, values
    )
