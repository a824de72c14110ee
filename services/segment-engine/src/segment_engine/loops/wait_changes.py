"""What a batch of the live group changes in `waits`, in its transaction: timers are armed and disarmed with the events.

Decides nothing about a row itself (`domain.wait_kinds`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from postrider.contracts.user_events import UserEvent
from segment_engine import metrics
from segment_engine.adapters import profile_table, wait_table
from segment_engine.domain import wait_kinds
from segment_engine.domain.arrivals import Arrival, message_id_of
from segment_engine.domain.columns import from_microseconds, microseconds
from segment_engine.domain.live_campaigns import Concern, LiveCampaign, LiveCampaigns, is_open_at
from segment_engine.domain.profiles import Contact, Profile
from segment_engine.domain.wait_kinds import Change, ReadUntil, Trait
from segment_engine.domain.waits import Kept, Row, WaitId, short
from segment_engine.loops.placement import Placement

ZONE_TRAITS = frozenset({"timezone", "country", "phone"})
"""Traits that may change the zone a person is texted in."""
MOVED_AT_ONCE = 1_000
"""Timers of one person in one campaign that follow them to another zone; further ones do when they come due."""

FirstSeen = Callable[[AsyncConnection, Sequence[Arrival]], Awaitable[list[bool]]]
"""Of each event: whether its messageId is new. Remembers them in the transaction."""


@dataclass(slots=True)
class Identified:
    """A person's accepted identifies of one batch, and the traits they have led to. `has_moved`: to another zone."""

    traits: Mapping[str, Any]
    has_moved: bool
    names: set[str] = field(default_factory=set)
    received: datetime | None = None
    """Of the newest; `fresh`: of the newest that is not historic."""
    fresh: datetime | None = None

    def add(self, event: UserEvent) -> None:
        self.names |= event.values.keys()
        self.received = event.received_at if self.received is None else max(self.received, event.received_at)
        if not event.historic:
            self.fresh = event.received_at if self.fresh is None else max(self.fresh, event.received_at)


class WaitChanges:
    """`first_seen` is asked about events whose repeats cannot be told by their time."""

    def __init__(self, placement: Placement, read_until: ReadUntil, first_seen: FirstSeen) -> None:
        self._placement = placement
        self._read_until = read_until
        self._first_seen = first_seen
        self._all_new = False
        """Whether the last batch met no row: then the next one tries without looking."""

    async def apply(
        self,
        tx: AsyncConnection,
        campaigns: LiveCampaigns,
        account_zone: str,
        tracks: Sequence[Arrival],
        identified: Mapping[str, Identified],
    ) -> datetime | None:
        """Returns when the earliest timer of those it wrote is due."""
        changes: dict[WaitId, Change] = {}
        due: datetime | None = None
        for arrival, concerns in await self._concerned(tx, campaigns, tracks):
            for concern in concerns:
                noted = wait_kinds.add_event(changes, concern, arrival.event, message_id_of(arrival))
                if not noted and concern.arms:
                    metrics.WAITS_NOT_ARMED.labels("no_same_property").inc()
        if self._all_new and changes and not identified:
            due, is_all = await self._add(tx, changes, await _zones(tx, changes, account_zone), account_zone)
            if is_all:
                return due
        for user_id, person in identified.items():
            _add_traits(changes, campaigns, user_id, person)
        # A row just added has the state that these events make, and the same events change nothing in it.
        rows = await wait_table.lock(tx, sorted(changes)) if changes else {}
        self._all_new = not rows
        rows.update(await self._of_those_who_moved(tx, changes, campaigns, identified))
        if not changes:
            return None
        zones = await _zones(tx, changes, account_zone)
        earliest = await self.write(tx, changes, rows, zones, account_zone)
        # Those that were added are not among those written.
        return earliest if due is None else due if earliest is None else min(due, earliest)

    async def _concerned(
        self, tx: AsyncConnection, campaigns: LiveCampaigns, tracks: Sequence[Arrival]
    ) -> list[tuple[Arrival, list[Concern]]]:
        """Events that campaigns wait for, without those repeats that would seem to be younger events."""
        found = [(arrival, concerns) for arrival in tracks if (concerns := campaigns.waiting_for(arrival.event))]
        ageless = [number for number, (arrival, _) in enumerate(found) if is_ageless(arrival.event)]
        if ageless:
            fresh = await self._first_seen(tx, [found[number][0] for number in ageless])
            repeats = {number for number, is_fresh in zip(ageless, fresh, strict=True) if not is_fresh}
            found = [each for number, each in enumerate(found) if number not in repeats]
        return found

    async def _add(
        self, tx: AsyncConnection, changes: Mapping[WaitId, Change], zones: Mapping[str, str], account_zone: str
    ) -> tuple[datetime | None, bool]:
        """The rows as if none existed; False: some did."""
        added = []
        for id, change in changes.items():
            zone = zones.get(id[1], account_zone)
            kept = wait_kinds.apply(None, change, zone, account_zone, self._read_until.at)
            if kept is not None:
                added.append(Row(id, self._placement.partition_of(id[1]), change.campaign.made_by, kept))
        is_all = await wait_table.add(tx, added) == len(added)
        if is_all:
            for row in added:
                _count(changes[row.id].campaign, None, None, row.kept)
        return _earliest(added), is_all

    async def write(
        self,
        tx: AsyncConnection,
        changes: Mapping[WaitId, Change],
        rows: Mapping[WaitId, Row],
        zones: Mapping[str, str],
        account_zone: str,
    ) -> datetime | None:
        """`rows`: those that exist, locked. `zones`: of people; who is not there is texted in the account's."""
        written, removed = [], []
        for id, change in changes.items():
            row = rows.get(id)
            known = None
            if row is not None and row.made_by == change.campaign.made_by:
                known = row.kept.state
                if change.campaign.definition.kind == "live_action":
                    continue  # a repeat: what waits is the event itself
            zone = zones.get(id[1], account_zone)
            kept = wait_kinds.apply(known, change, zone, account_zone, self._read_until.at)
            _count(change.campaign, row, known, kept)
            if kept is None:
                if row is not None:
                    removed.append(id)
            elif row is None or known is None or row.kept != kept:
                partition = self._placement.partition_of(id[1])
                written.append(Row(id, partition, change.campaign.made_by, kept))
        await wait_table.write(tx, written)
        await wait_table.remove(tx, removed)
        return _earliest(written)

    async def _of_those_who_moved(
        self,
        tx: AsyncConnection,
        changes: dict[WaitId, Change],
        campaigns: LiveCampaigns,
        identified: Mapping[str, Identified],
    ) -> dict[WaitId, Row]:
        """Timers of events' dates whose recipient is in another zone now. Notes the changes, too."""
        if not campaigns.by_local_time:
            return {}
        moved = {user for user, person in identified.items() if person.has_moved}
        pairs = sorted((campaign.id, user) for campaign in campaigns.by_local_time for user in moved)
        found: dict[WaitId, Row] = {}
        for row in await wait_table.lock_users(tx, pairs, MOVED_AT_ONCE) if pairs else ():
            found[row.id] = row
            if row.id not in changes:
                received = identified[row.id[1]].received
                assert received is not None
                campaign = campaigns.waiting[row.id[0]]
                changes[row.id] = Change(campaign, moved_at=microseconds(received))
        return found


def is_ageless(event: UserEvent) -> bool:
    """Whether a repeat would be taken for a younger event: it has no time of its own, or one that is still ahead. What
    has no messageId has no repeats either."""
    return event.message_id != "" and (event.client_at is None or event.client_at > event.received_at)


def _earliest(rows: Sequence[Row]) -> datetime | None:
    due = min((row.kept.due for row in rows if row.kept.due is not None), default=None)
    return None if due is None else from_microseconds(due)


def _add_traits(
    changes: dict[WaitId, Change], campaigns: LiveCampaigns, user_id: str, person: Identified
) -> None:  # fmt: skip
    for attribute, waiting in campaigns.by_attribute.items():
        named = attribute in person.names
        for campaign in waiting:
            if named or (campaign.trigger.at_local_time is not None and person.has_moved):
                assert person.received is not None
                may_arm = person.fresh is not None and is_open_at(campaign.definition, person.fresh)
                trait = Trait(person.traits.get(attribute), microseconds(person.received), may_arm)
                changes[(campaign.id, user_id, short(attribute))] = Change(campaign, trait=trait)


async def _zones(tx: AsyncConnection, changes: Mapping[WaitId, Change], account_zone: str) -> dict[str, str]:
    """The zones of those whose timers follow their clocks."""
    users = {id[1] for id, change in changes.items() if change.campaign.trigger.at_local_time is not None}
    if not users:
        return {}
    return zones_of(await profile_table.read(tx, sorted(users)), account_zone)


def zones_of(profiles: Mapping[str, Profile], account_zone: str) -> dict[str, str]:
    return {user_id: profile.contact.zone(account_zone) for user_id, profile in profiles.items()}


def _count(campaign: LiveCampaign, row: Row | None, known: bytes | None, kept: Kept | None) -> None:
    was = row is not None and row.kept.due is not None
    is_armed = kept is not None and kept.due is not None
    kind = campaign.definition.kind
    if was and known is None:
        metrics.WAITS_DISARMED.labels(kind, "trigger_changed").inc()
        was = False
    if is_armed and not was:
        metrics.WAITS_ARMED.labels(kind).inc()
    if was and not is_armed:
        metrics.WAITS_DISARMED.labels(kind, "date_gone" if kind == "live_date" else "unless").inc()


def identified_people(
    events: Iterable[UserEvent],
    before: Callable[[str], Contact],
    settled: Mapping[str, tuple[Mapping[str, Any], Contact]],
) -> dict[str, Identified]:
    """The people of these accepted identifies with the traits they have now. `before`: what was known of a person."""
    people: dict[str, Identified] = {}
    for event in events:
        person = people.get(event.user_id)
        if person is None:
            person = people[event.user_id] = Identified(settled[event.user_id][0], has_moved=False)
        person.add(event)
    for user_id, person in people.items():
        if person.names & ZONE_TRAITS:
            # Whoever has no zone of their own is in the account's, before and after.
            person.has_moved = before(user_id).zone("") != settled[user_id][1].zone("")
    return people
