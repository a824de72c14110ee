"""Group segment-engine-live: small batches, low latency. Owns the profiles, matches live campaigns, arms and disarms
their timers, forwards what arrived in a wrong partition.

Everything it publishes is keyed by the event, so a record read twice changes nothing downstream. In one batch all
identifies apply before any event is matched: a person's phone is the one they gave last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from postrider.contracts.definitions import AccountSettings, CampaignDefinition
from postrider.contracts.envelope import Outgoing
from postrider.contracts.ids import message_id
from postrider.contracts.qualified import QUALIFIED
from postrider.contracts.topics import QUALIFIED_USERS
from postrider.contracts.user_events import Ignored
from postrider.kafka.loop import Batch, Received
from postrider.logs import log
from postrider.postgres.outbox import Outbox
from segment_engine import metrics
from segment_engine.adapters import forward_table, profile_table, suppression_table
from segment_engine.adapters.dedup_table import DedupTable
from segment_engine.domain.arrivals import Arrival, forwarded_headers, message_id_of, read_record
from segment_engine.domain.dedup_keys import DedupKey, dedup_key
from segment_engine.domain.live_campaigns import LiveCampaigns, qualified
from segment_engine.domain.pages import suppressed_phones
from segment_engine.domain.profiles import Contact, Profile, merge, settle
from segment_engine.domain.verdicts import judge
from segment_engine.domain.wait_kinds import ReadUntil
from segment_engine.loops.known_users import KnownUsers
from segment_engine.loops.placement import Placement
from segment_engine.loops.wait_changes import Identified, WaitChanges, identified_people, is_ageless

GROUP = "segment-engine-live"
MAX_RECORDS = 4_000
# A batch costs all services together some 45 ms of CPU, whatever is in it, and the rhythm of this one is that of all
# that follow. Unpaced, two cores are full at 100 events a second and a text takes 150 ms; paced, 65 ms at 500 a second.
PACE_SECONDS = 0.04
CONFIRM_SECONDS = 10.0


class Definitions(Protocol):
    """What the live group needs of `DefinitionsReader`."""

    campaigns: dict[str, CampaignDefinition]
    settings: AccountSettings

    async def wait_until_confirmed(self) -> None: ...


class Arrived(NamedTuple):
    """`forward`: the record's value, to be published again into the partition it belongs to."""

    arrival: Arrival
    forward: bytes | None = None


@dataclass(slots=True)
class _Effects:
    """What the memory of this process learns once the batch is committed."""

    users: set[str] = field(default_factory=set)
    turn: int = 0
    due_at: datetime | None = None


class Live:
    """`on_profiles_changed` is called after a commit that changed profiles; `on_armed` after one that armed timers,
    with the due time of the earliest."""

    def __init__(
        self,
        outbox: Outbox,
        dedup: DedupTable,
        definitions: Definitions,
        placement: Placement,
        read_until: ReadUntil,
        on_profiles_changed: Callable[[], None],
        on_armed: Callable[[datetime], None],
        dedup_key: bytes,
        phone_hash_key: bytes,
        horizon_days: int,
    ) -> None:
        self._outbox = outbox
        self._dedup = dedup
        self._definitions = definitions
        self._placement = placement
        self._read = 0
        self._on_profiles_changed = on_profiles_changed
        self._on_armed = on_armed
        self.waits = WaitChanges(placement, read_until, self._first_seen)
        self._dedup_key = dedup_key
        self._phone_hash_key = phone_hash_key
        self._horizon_days = horizon_days
        self._known = KnownUsers()
        self._campaigns: LiveCampaigns | None = None
        self._effects = _Effects()

    def definitions_changed(self, _: object) -> None:
        """The next batch compiles the triggers anew."""
        self._campaigns = None

    def forget(self, user_id: str) -> None:
        """The person was erased: the next event of theirs makes them known again."""
        self._known.forget(user_id)

    def decode(self, record: Any) -> Arrived | None:
        self._read += 1
        arrival = read_record(record)
        if isinstance(arrival, Ignored):
            metrics.EVENTS_IGNORED.labels(arrival.reason).inc()
            return None
        if self._placement.is_misplaced(arrival, record.partition):
            return Arrived(arrival, record.value)
        return Arrived(arrival)

    async def handle(self, tx: AsyncConnection, batch: Batch[Arrived]) -> Sequence[Outgoing]:
        self._effects = _Effects(turn=self._known.turn)
        read, self._read = self._read, 0
        metrics.EVENTS_READ.labels(GROUP).inc(read)
        here = [received for received in batch.records if received.value.forward is None]
        tracks = [received.value.arrival for received in here if received.value.arrival.event.type == "track"]
        identifies = [r.value.arrival for r in here if r.value.arrival.event.type == "identify"]
        ageless = [arrival for arrival in tracks if is_ageless(arrival.event)]
        if ageless and identifies:  # both ask what was seen before, in one transaction
            await self._dedup.ensure({self._key_of(arrival).day for arrival in (*ageless, *identifies)})
        # A campaign is scheduled when its definition is in the log: whoever was told so may send its event at once.
        confirmed = asyncio.ensure_future(self._confirm(bool(identifies), tracks))
        try:
            identified = await self._identify(tx, identifies, confirmed)
            await self._meet(tx, tracks)
            await confirmed
        finally:
            confirmed.cancel()
        await self._note_forwards(tx, batch)
        account_zone = self._definitions.settings.account_time_zone
        self._effects.due_at = await self.waits.apply(tx, self.campaigns, account_zone, tracks, identified)
        outgoing = await self._qualify(tx, tracks)
        outgoing += [self._forward(received) for received in batch.records if received.value.forward is not None]
        return outgoing

    async def committed(self) -> None:
        """After the commit of a batch."""
        effects, self._effects = self._effects, _Effects()
        if effects.users:
            self._known.add(effects.users, effects.turn)
            self._on_profiles_changed()
        if effects.due_at is not None:
            self._on_armed(effects.due_at)

    async def _note_forwards(self, tx: AsyncConnection, batch: Batch[Arrived]) -> None:
        """Other replicas have to know what may still disarm their timers."""
        values = [received.value for received in batch.records]
        sent = {value.arrival.origin for value in values if value.forward is not None}
        come = {value.arrival.origin for value in values if value.arrival.forwarded}
        if sent:
            await forward_table.add(tx, sent)
        if come:
            await forward_table.remove(tx, come)

    async def _confirm(self, identifies: bool, tracks: Sequence[Arrival]) -> None:
        if identifies or any(not arrival.event.historic for arrival in tracks):
            await asyncio.wait_for(self._definitions.wait_until_confirmed(), CONFIRM_SECONDS)

    async def _identify(
        self, tx: AsyncConnection, arrivals: Sequence[Arrival], confirmed: asyncio.Future[None]
    ) -> dict[str, Identified]:
        if not arrivals:
            return {}
        fresh = await self._dedup.first_seen(tx, [self._key_of(arrival) for arrival in arrivals])
        accepted = [arrival.event for arrival, is_fresh in zip(arrivals, fresh, strict=True) if is_fresh]
        metrics.EVENTS_DUPLICATE.labels("identify").inc(len(arrivals) - len(accepted))
        if not accepted:
            return {}
        known = await profile_table.lock(tx, sorted({event.user_id for event in accepted}))

        def before(user_id: str) -> Profile:
            return known.get(user_id) or Profile(user_id, 0, {}, Contact())

        changed: dict[str, dict[str, Any]] = {}
        for event in accepted:
            kept = changed.get(event.user_id)
            changed[event.user_id] = merge(before(event.user_id).traits if kept is None else kept, event.values)
        await confirmed
        country = self._definitions.settings.default_country
        settled = {user_id: settle(merged, country) for user_id, merged in changed.items()}
        await profile_table.write(tx, settled)
        metrics.PROFILES_CHANGED.inc(len(settled))
        self._effects.users |= settled.keys()
        return identified_people(accepted, lambda user_id: before(user_id).contact, settled)

    async def _first_seen(self, tx: AsyncConnection, tracks: Sequence[Arrival]) -> list[bool]:
        """Events of waits, beside the identifies: a prefix keeps the two apart."""
        return await self._dedup.first_seen(tx, [self._key_of(arrival, "track:") for arrival in tracks])

    def _key_of(self, arrival: Arrival, prefix: str = "") -> DedupKey:
        event, name = arrival.event, prefix + message_id_of(arrival)
        return dedup_key(
            self._dedup_key, event.user_id, name, event.client_at, event.received_at, self._horizon_days
        )  # fmt: skip

    async def _meet(self, tx: AsyncConnection, tracks: Sequence[Arrival]) -> None:
        unknown = self._known.unknown({arrival.event.user_id for arrival in tracks}) - self._effects.users
        if unknown:
            await profile_table.meet(tx, sorted(unknown))
            self._effects.users |= unknown

    async def _qualify(self, tx: AsyncConnection, tracks: Sequence[Arrival]) -> list[Outgoing]:
        campaigns = self.campaigns
        hits = [(arrival, campaign) for arrival in tracks for campaign in campaigns.triggered_by(arrival.event)]
        if not hits:
            return []
        profiles = await profile_table.read(tx, sorted({arrival.event.user_id for arrival, _ in hits}))
        reasons = await suppression_table.reasons(tx, suppressed_phones(profiles), self._phone_hash_key)
        settings = self._definitions.settings
        outgoing = []
        for arrival, campaign in hits:
            event = arrival.event
            profile = profiles.get(event.user_id) or Profile(event.user_id, 0, {}, Contact())
            phone = profile.contact.phone
            verdict = judge(profile.contact, reasons.get(phone) if phone else None, settings.require_consent)
            occurrence = message_id_of(arrival)
            user = qualified(campaign, event, occurrence, profile, verdict, settings.account_time_zone)
            id = "qualified:" + message_id(campaign.campaign_id, occurrence, event.user_id)
            outgoing.append(self._outbox.outgoing(QUALIFIED_USERS, event.user_id, QUALIFIED, user, id))
            metrics.QUALIFIED.labels(verdict.status or "reachable").inc()
        return outgoing

    @property
    def campaigns(self) -> LiveCampaigns:
        """As defined now."""
        if self._campaigns is None:
            settings = self._definitions.settings
            self._campaigns = LiveCampaigns(self._definitions.campaigns.values(), settings.account_time_zone)
            metrics.UNUSABLE_CAMPAIGNS.set(len(self._campaigns.unusable))
            for campaign_id in self._campaigns.unusable:
                log.error("trigger_unusable", campaign_id=campaign_id)
        return self._campaigns

    def _forward(self, received: Received[Arrived]) -> Outgoing:
        arrival, value = received.value.arrival, received.value.forward
        assert value is not None
        metrics.EVENTS_FORWARDED.inc()
        user_id = arrival.event.user_id
        return Outgoing(
            received.topic,
            user_id.encode(),
            value,
            forwarded_headers(received.headers, arrival),
            partition=self._placement.partition_of(user_id),
        )
