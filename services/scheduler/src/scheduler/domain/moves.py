"""Funnel moves of a run and of live messages. The one place where people are counted.

Everybody enters once as pending and leaves pending at most once by the scheduler's hand: by the page that settles them,
by their zone, or by a stop. The functions here are what the property test adds up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from postrider.contracts.audience import AudiencePage
from postrider.contracts.delivery_events import FunnelMoved, MessageChanged
from postrider.contracts.send_jobs import SendJob
from postrider.scheduling.zone_plan import Due, ZoneOutcome
from scheduler.domain.jobs import PENDING, page_message
from scheduler.domain.run_states import OPEN_ZONES, ZoneEvent, ZoneState, apply_zone
from scheduler.domain.settled import Settled

MISSING_FROM_PAGES = "missing_from_pages"
AHEAD_PER_SECOND = 5_000
"""Jobs that are made in a second, at least."""
LONGEST_AHEAD = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class RunName:
    run_id: str
    campaign_id: str
    occurrence: str


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone of a run: how many people, and how many of them, in rank order, were expanded by pages so far."""

    zone: str
    users: int
    state: ZoneState
    due_at: datetime
    send_by: datetime
    next_page: int = 0
    expanded_users: int = 0
    reason: str = ""
    following_at: datetime | None = None
    begin_at: datetime | None = None
    """When its people are asked for, so that the last of their texts is ready in time; None: when it is due."""

    @property
    def remaining(self) -> int:
        return self.users - self.expanded_users


@dataclass(frozen=True, slots=True)
class Closing:
    """What ends zones before their pages did. `unexpanded`: zone → people expanded, for the message log."""

    zones: tuple[Zone, ...]
    moves: tuple[FunnelMoved, ...]
    unexpanded: dict[str, int]


@dataclass(frozen=True, slots=True)
class Expansion:
    """What one page came to. `unexpanded` names the zone when the last page left people of it out."""

    zone: Zone
    moves: tuple[FunnelMoved, ...]
    messages: tuple[MessageChanged, ...]
    jobs: tuple[SendJob, ...]
    unexpanded: dict[str, int]


def qualify(name: RunName, total: int) -> tuple[FunnelMoved, ...]:
    """The audience of a run becomes pending."""
    return (_move(name, total, "", Settled(PENDING, "")),) if total else ()


def cancel(name: RunName, n: int, reason: str) -> tuple[FunnelMoved, ...]:
    """Pending people of a run are cancelled."""
    return (_move(name, n, PENDING, Settled("cancelled", reason)),) if n else ()


def open_zones(outcomes: Mapping[str, ZoneOutcome], users: Mapping[str, int]) -> list[Zone]:
    """The zones of an audience with what is planned for them."""
    together: Counter[datetime] = Counter()
    for name, outcome in outcomes.items():
        together[outcome.at] += users[name]
    zones = []
    for name, outcome in outcomes.items():
        if isinstance(outcome, Due):
            waiting = Zone(name, users[name], ZoneState.WAITING, outcome.at, outcome.send_by)
            begin_at = outcome.at - ahead_of(together[outcome.at])
            zones.append(replace(waiting, following_at=outcome.following_at, begin_at=begin_at))
        else:
            state = ZoneState.DROPPED if outcome.is_dropped else ZoneState.EXPIRED
            zones.append(Zone(name, users[name], state, outcome.at, outcome.at, reason=outcome.reason))
    return zones


def ahead_of(people: int) -> timedelta:
    """How long before so many texts are due at one moment the first is made: a few need no time, and whatever changes
    until then (an edit, a consent) still reaches them."""
    return min(timedelta(seconds=people // AHEAD_PER_SECOND), LONGEST_AHEAD)


def close_unsent(name: RunName, zones: Sequence[Zone]) -> Closing:
    """The people of zones that are not going to fire (any more) expire, each with the zone's reason."""
    by_reason: Counter[str] = Counter()
    for zone in zones:
        by_reason[zone.reason] += zone.remaining
    moves = tuple(_move(name, n, PENDING, Settled("expired", reason)) for reason, n in by_reason.items() if n)
    return Closing(tuple(zones), moves, {zone.zone: zone.expanded_users for zone in zones if zone.remaining})


def miss(zone: Zone, reason: str) -> Zone:
    return replace(zone, state=apply_zone(zone.state, ZoneEvent.MISS), reason=reason)


def stop(name: RunName, zones: Iterable[Zone], reason: str) -> Closing:
    """Whoever was not expanded is cancelled; jobs already emitted are the dispatcher's to cancel."""
    stopped = tuple(
        replace(zone, state=apply_zone(zone.state, ZoneEvent.STOP), reason=reason)
        for zone in zones
        if zone.state in OPEN_ZONES
    )
    remaining = sum(zone.remaining for zone in stopped)
    moves = (_move(name, remaining, PENDING, Settled("cancelled", reason)),) if remaining else ()
    return Closing(stopped, moves, {zone.zone: zone.expanded_users for zone in stopped if zone.remaining})


def expand(zone: Zone, page: AudiencePage, outcomes: Sequence[SendJob | Settled], now: datetime) -> Expansion:
    """Page `zone.next_page` of a requested zone, with what each of its people came to. The last one closes the zone,
    and accounts for all of its people whatever the pages held: people the pages left out are cancelled, people they
    have too many are qualified."""
    if page.page != zone.next_page or zone.state is not ZoneState.REQUESTED:
        raise ValueError(f"page {page.page} of a zone that is {zone.state} at page {zone.next_page}")
    name = RunName(page.run_id, page.campaign_id, page.occurrence)
    settled: Counter[Settled] = Counter()
    messages, jobs = [], []
    for user, outcome in zip(page.users, outcomes, strict=True):
        messages.append(page_message(page, user, outcome, zone.due_at, now))
        if isinstance(outcome, Settled):
            settled[outcome] += 1
        else:
            jobs.append(outcome)
    expanded = zone.expanded_users + len(page.users)
    moves = [_move(name, n, PENDING, outcome) for outcome, n in settled.items()]
    if expanded > zone.users:
        moves = [_move(name, expanded - zone.users, "", Settled(PENDING, "")), *moves]
    after = replace(zone, users=max(zone.users, expanded), expanded_users=expanded, next_page=zone.next_page + 1)
    unexpanded = {}
    if page.last:
        after = replace(after, state=apply_zone(zone.state, ZoneEvent.CLOSE))
        if after.remaining:
            moves.append(_move(name, after.remaining, PENDING, Settled("cancelled", MISSING_FROM_PAGES)))
            unexpanded[zone.zone] = expanded
    return Expansion(after, tuple(moves), tuple(messages), tuple(jobs), unexpanded)


def live_moves(outcomes: Iterable[tuple[str, SendJob | Settled]]) -> list[FunnelMoved]:
    """`outcomes`: (campaign id, what a person came to). One move for each campaign, status and reason."""
    counts: Counter[tuple[str, Settled]] = Counter()
    for campaign_id, outcome in outcomes:
        counts[campaign_id, outcome if isinstance(outcome, Settled) else Settled(PENDING, "")] += 1
    return [_move(RunName("", campaign_id, ""), n, "", settled) for (campaign_id, settled), n in counts.items()]


def _move(name: RunName, n: int, from_status: str, to: Settled) -> FunnelMoved:
    return FunnelMoved(
        campaign_id=name.campaign_id,
        to_status=to.status,
        n=n,
        run_id=name.run_id,
        from_status=from_status,
        reason=to.reason,
    )
