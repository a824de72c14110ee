"""The segment-engine, played: audiences of groups of people, and whom live campaigns qualify.

It answers in records as the real one does; `tests/simulation/conformance.py` asks the same of both.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from heapq import heappop, heappush

from postrider.contracts import codec
from postrider.contracts.audience import (
    PAGE,
    SNAPSHOT_REQUESTED,
    SNAPSHOTTED,
    UNEXPANDED_SETTLED,
    ZONE_REQUESTED,
    AudiencePage,
    AudienceSnapshotted,
    PageUser,
    SnapshotRequested,
    UnexpandedSettled,
    ZoneRequested,
)
from postrider.contracts.envelope import Outgoing, headers_of
from postrider.contracts.qualified import QUALIFIED, QualifiedUser
from postrider.contracts.topics import QUALIFIED_USERS, QUALIFIED_USERS_BULK
from tests.simulation.plans import Plan, Version
from tests.simulation.world import Event, Person, World
from tests.support.time_oracle import happens

ALIVE = ("scheduled", "running", "paused")
ACCOUNT_SEED = "control:account"


@dataclass(frozen=True)
class Member:
    user: str
    slot: str
    rank: int
    verdict: str


@dataclass(frozen=True)
class Snapshot:
    campaign_id: str
    occurrence: str
    at: datetime
    members: list[Member]


@dataclass
class PlayedEngine:
    """`snapshots` by run; `unexpanded`: people whose pages were never used, with what became of them."""

    world: World
    plans: dict[str, Plan]
    prefix: str
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    unexpanded: list[tuple[str, str, str, str, str]] = field(default_factory=list)
    qualified: list[tuple[datetime, QualifiedUser]] = field(default_factory=list)
    _heard: set[str] = field(default_factory=set)
    _coming: list[tuple[datetime, Event, Plan]] = field(default_factory=list)
    _armed: dict[tuple[str, str], Event] = field(default_factory=dict)
    _due: list[tuple[datetime, str, str, str]] = field(default_factory=list)
    """Heap of (due, campaign, user, the arming event's id or "" for a date)."""
    _launching: list[tuple[datetime, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for plan in self.plans.values():
            self._coming += [(event.received, event, plan) for event in plan.events]
            if plan.kind == "live_date":
                heappush(self._launching, (plan.scheduled_at, plan.id))
        self._coming.sort(key=lambda coming: coming[0])
        self._coming.reverse()  # to pop them in their order, those of one moment, too

    # Audiences

    def answer(self, type: str, id: str, value: bytes, now: datetime) -> list[Outgoing]:
        """What it says to a request, and again to the same request, nothing."""
        if id in self._heard:
            return []
        self._heard.add(id)
        if type == SNAPSHOT_REQUESTED:
            request = codec.decode(value, SnapshotRequested)
            return [self._record(request.run_id, SNAPSHOTTED, self.snapshot(request, now), request.run_id)]
        if type == ZONE_REQUESTED:
            pages = self.pages(codec.decode(value, ZoneRequested), now)
            return [self._record(key := f"{page.run_id}:{page.zone}:{page.page}", PAGE, page, key) for page in pages]
        if type == UNEXPANDED_SETTLED:
            self._settle(codec.decode(value, UnexpandedSettled))
        return []

    def snapshot(self, request: SnapshotRequested, now: datetime) -> AudienceSnapshotted:
        assert request.rule is not None
        people = self.world.group(request.rule["attribute"]["value"][0])
        found = [
            (person, self._slot(person, request, now), self._verdict(person, people, request, now)) for person in people
        ]
        found.sort(key=lambda each: (each[2] != "", digest(str(request.seed), each[0].user), each[0].user))
        members = [Member(person.user, slot, rank, verdict) for rank, (person, slot, verdict) in enumerate(found)]
        self.snapshots[request.run_id] = Snapshot(request.campaign_id, request.occurrence, now, members)
        zones = Counter(member.slot for member in members)
        reachable = sum(not member.verdict for member in members)
        return AudienceSnapshotted(
            request.run_id, request.campaign_id, request.occurrence, len(members), reachable, dict(zones)
        )

    def pages(self, request: ZoneRequested, now: datetime) -> Iterator[AudiencePage]:
        members = [member for member in self.snapshots[request.run_id].members if member.slot == request.zone]
        users = [self._page_user(member, now) for member in members]
        size = request.page_size
        for number, start in enumerate(range(0, len(users), size)):
            yield AudiencePage(
                request.run_id, request.campaign_id, request.occurrence, request.zone, number,
                start + size >= len(users), request.what_version, users[start : start + size],
            )  # fmt: skip

    def _slot(self, person: Person, request: SnapshotRequested, now: datetime) -> str:
        zone = person.zone_at(now, self.world.account_zone)
        if request.best_time is None:
            return zone
        if person.bucket is not None:
            return f"{zone}#{person.bucket:02d}"
        return f"{zone}#{(request.best_time.fallback_time or '12:00').replace(':', '')}"

    def _verdict(self, person: Person, people: Sequence[Person], request: SnapshotRequested, now: datetime) -> str:
        verdict = person.verdict_at(now)
        if verdict:
            return verdict
        twins = [other.user for other in people if other.phone == person.phone and not other.verdict_at(now)]
        if person.user != min(twins):
            return "duplicate_phone"
        if in_share(ACCOUNT_SEED, person.user, request.account_control_percent):
            return "control"
        if in_share(f"control:{request.campaign_id}", person.user, request.control_percent):
            return "control"
        return "" if in_share(f"reach:{request.run_id}", person.user, request.reach_percent) else "not_in_reach"

    def _page_user(self, member: Member, now: datetime) -> PageUser:
        person = self.world.people[member.user]
        verdict = member.verdict or person.verdict_at(now)
        return PageUser(member.user, member.rank, verdict, "why" if verdict else "", person.phone, person.country)

    def _settle(self, settled: UnexpandedSettled) -> None:
        for zone, expanded in settled.zones.items():
            left = [member for member in self.snapshots[settled.run_id].members if member.slot == zone][expanded:]
            self.unexpanded += [
                (settled.campaign_id, settled.occurrence, member.user, settled.status, settled.reason)
                for member in left
            ]

    # Live campaigns

    def next_at(self) -> datetime | None:
        """When it has something to say next, as far as is known."""
        moments = [self._coming[-1][0]] if self._coming else []
        moments += [self._due[0][0]] if self._due else []
        moments += [self._launching[0][0]] if self._launching else []
        return min(moments, default=None)

    def turn(self, now: datetime) -> list[Outgoing]:
        """What has come to pass by now: whoever did what a campaign waits for, or did not for too long."""
        while self._launching and self._launching[0][0] <= now:
            self._launch(self.plans[heappop(self._launching)[1]])
        said: list[Outgoing] = []
        while self._coming and self._coming[-1][0] <= now:
            received, event, plan = self._coming.pop()
            said += self._fire(now, before=received)
            self._hear(event, plan)
        return said + self._fire(now, before=now + timedelta(microseconds=1))

    def _hear(self, event: Event, plan: Plan) -> None:
        version = plan.version_at(event.received)
        if version is None or version.status not in ALIVE:
            return
        trigger, when = version.definition.who.trigger, version.definition.when
        assert trigger is not None
        key = (plan.id, event.user)
        if trigger.unless is not None and event.name == trigger.unless.event:
            armed = self._armed.get(key)
            if armed is not None and armed.at <= event.at <= armed.at + timedelta(seconds=trigger.within_seconds):
                del self._armed[key]
            return
        opens = max(plan.scheduled_at, when.start or plan.scheduled_at)
        if event.received < opens or (when.end is not None and event.received >= when.end):
            return
        if event.received - event.at > timedelta(seconds=when.send_by_seconds):
            return
        if plan.kind == "live_action":
            due = event.at + timedelta(seconds=when.delay_seconds)
            heappush(self._due, (due, plan.id, event.user, event.id))
        elif key not in self._armed:
            self._armed[key] = event
            heappush(self._due, (event.at + timedelta(seconds=trigger.within_seconds), plan.id, event.user, event.id))

    def _launch(self, plan: Plan) -> None:
        """Dates that are still ahead."""
        for user in plan.day_of:
            due = self._date_due(plan, plan.versions[0], user, plan.scheduled_at)
            if due is not None and due >= plan.scheduled_at:
                heappush(self._due, (due, plan.id, user, ""))

    def _date_due(self, plan: Plan, version: Version, user: str, at: datetime) -> datetime | None:
        trigger = version.definition.who.trigger
        assert trigger is not None
        offset = timedelta(seconds=trigger.offset_seconds)
        midnight = datetime.combine(plan.day_of[user], time.min)
        if trigger.at_local_time is None:
            return happens(midnight, self.world.account_zone).at + offset
        zone = self.world.people[user].zone_at(at, self.world.account_zone)
        happening = happens(datetime.combine(midnight + offset, time.fromisoformat(trigger.at_local_time)), zone)
        return None if happening.kind == "skipped" else happening.at

    def _fire(self, now: datetime, before: datetime) -> list[Outgoing]:
        """Timers that ran out before that moment: what comes to pass at the very end of a span is still inside it."""
        said = []
        while self._due and self._due[0][0] < before:
            due, campaign_id, user, event_id = heappop(self._due)
            plan = self.plans[campaign_id]
            if event_id and plan.kind == "live_inaction":
                armed = self._armed.get((campaign_id, user))
                if armed is None or armed.id != event_id:
                    continue
                del self._armed[campaign_id, user]
            version = plan.version_at(now)
            assert version is not None
            if version.status not in ALIVE:
                continue
            name = event_id or f"day_{plan.id}:{plan.day_of[user]}"
            said.append(self._qualify(plan, version, user, name, due, now))
        return said

    def _qualify(
        self, plan: Plan, version: Version, user: str, occurrence: str, due: datetime, now: datetime
    ) -> Outgoing:
        person = self.world.people[user]
        verdict = person.verdict_at(now)
        said = QualifiedUser(
            plan.id, version.definition.version, version.definition.what_version, occurrence, user, due, now,
            person.zone_at(now, self.world.account_zone), verdict, "why" if verdict else "", person.phone,
            person.country,
        )  # fmt: skip
        self.qualified.append((now, said))
        headers = headers_of(f"q:{plan.id}:{occurrence}:{user}", QUALIFIED, "engine", now)
        return Outgoing(QUALIFIED_USERS.full_name(self.prefix), user.encode(), codec.encode(said), headers)

    def _record(self, key: str, type: str, answer: AudienceSnapshotted | AudiencePage, id: str) -> Outgoing:
        headers = headers_of(f"{type}:{id}", type, "engine", self.world.start)
        return Outgoing(QUALIFIED_USERS_BULK.full_name(self.prefix), key.encode(), codec.encode(answer), headers)


def digest(seed: str, user: str) -> bytes:
    return hashlib.sha256(f"{seed}\n{user}".encode()).digest()


def in_share(seed: str, user: str, percent: float) -> bool:
    """Whether a person is in that percentage: by hash, in millionths."""
    return int.from_bytes(digest(seed, user)[:8], "big") % 1_000_000 < round(percent * 10_000)
