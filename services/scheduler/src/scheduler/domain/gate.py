"""Who of those that are due may be texted, and when: quiet hours, deadline, limits, caps. Pure; the rows are `store`'s.

The first that applies counts: unreachable, suppressed, duplicate_phone, control, not_in_reach, a run's limit, quiet
hours, deadline, limits counted text by text, caps. Slots and reservations are taken one after the other, in the order
given.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from postrider.contracts.definitions import AccountSettings, CampaignDefinition, Limits
from postrider.contracts.send_jobs import Interval
from postrider.scheduling.occurrences import BEST_TIME
from postrider.scheduling.quiet_hours import Allowed, QuietPlan, Refused
from postrider.scheduling.zone_plan import DEADLINE
from postrider.zones import is_zone
from scheduler.domain.caps import Capped, Caps, Reservation, caps_of, forgotten_at, reserve, reserved
from scheduler.domain.limits import LIMITED, RUN_LIMIT, TOTAL_LIMIT, Counter, counting_day, excluded, take_both
from scheduler.domain.settled import Settled

CAPPED = "capped"
WHOLE_CAMPAIGN = ""
"""The `day` of the counter of a campaign's total."""

CounterKey = tuple[str, str]
"""(campaign id, day as ISO 8601, or WHOLE_CAMPAIGN)."""


@dataclass(frozen=True, slots=True)
class Leave:
    """A text that may leave: its due (moved out of quiet hours), deadline and the stretches it may leave in."""

    due_at: datetime
    send_by: datetime
    intervals: tuple[Interval, ...]
    on_hit: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """Somebody who is due. `rank`: their place in a run; None for live texts. `due_at`: by calendar or event."""

    message_id: str
    campaign_id: str
    user_id: str
    zone: str
    phone: str
    country: str | None
    due_at: datetime
    rank: int | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """What a campaign says, with the account's settings, to each candidate of it. `cut`: of a run, else None."""

    campaign: CampaignDefinition
    account_zone: str
    quiet: QuietPlan
    caps: Caps
    account_control_percent: float = 0.0
    cut: int | None = None
    end: datetime | None = None
    has_account_caps: bool = False

    @property
    def is_counted(self) -> bool:
        """Whether its texts are kept in people's ledgers: one that ignores caps counts for those that do not."""
        return bool(self.caps) or self.has_account_caps

    @property
    def send_by_after(self) -> timedelta:
        return timedelta(seconds=self.campaign.when.send_by_seconds)

    @property
    def cut_by(self) -> str:
        """Which limit has cut the run, as `run_cut` tells it: its own, or what the campaign had left."""
        run_limit = self.campaign.who.limits.run
        return RUN_LIMIT if run_limit is not None and self.cut == run_limit else TOTAL_LIMIT

    @property
    def limits(self) -> Limits:
        """Those that are counted text by text: a run's part of the total was taken when its audience was fixed."""
        limits = self.campaign.who.limits
        return Limits(daily=limits.daily) if self.campaign.who.trigger is None else limits


def terms_of(
    campaign: CampaignDefinition,
    settings: AccountSettings,
    account_zone: str,
    cut: int | None = None,
    end: datetime | None = None,
) -> Terms:
    quiet = QuietPlan(campaign.when.quiet_hours, settings.quiet_hours, campaign.message_class, account_zone)
    caps = caps_of(settings, campaign.who)
    has_account_caps = bool(settings.frequency_caps or settings.min_gap_seconds)
    return Terms(campaign, account_zone, quiet, caps, settings.control_percent, cut, end, has_account_caps)


@dataclass(slots=True)
class Books:
    """What the candidates' limits and caps have used so far: read under lock, changed by `decide`, written back.

    `slots`: (message id, campaign id, day) of live texts that took one. `changed`: users whose reservations did.
    """

    counters: dict[CounterKey, Counter] = field(default_factory=dict)
    ledgers: dict[str, list[Reservation]] = field(default_factory=dict)
    slots: list[tuple[str, str, str]] = field(default_factory=list)
    changed: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Considered:
    """A candidate before limits and caps: settled, or when they may leave."""

    candidate: Candidate
    terms: Terms
    outcome: Settled | Allowed

    def counter_keys(self) -> list[CounterKey]:
        if isinstance(self.outcome, Settled):
            return []
        limits, name = self.terms.limits, self.candidate.campaign_id
        keys = [] if limits.total is None else [(name, WHOLE_CAMPAIGN)]
        return keys if limits.daily is None else [*keys, (name, self.day)]

    @property
    def day(self) -> str:
        assert isinstance(self.outcome, Allowed)
        return counting_day(self.outcome.due_at, self.terms.account_zone).isoformat()

    @property
    def ledger_key(self) -> str | None:
        """The person whose reservations have to be looked at; None when nobody counts."""
        return self.candidate.user_id if self.terms.is_counted and not isinstance(self.outcome, Settled) else None


def consider(candidate: Candidate, terms: Terms, now: datetime) -> Considered:
    """What needs no books."""
    return Considered(candidate, terms, _outcome(candidate, terms, now))


def decide(considered: Iterable[Considered], books: Books) -> list[Settled | Leave]:
    """In the order given. `books` holds every counter and ledger that they name."""
    return [_decide(each, books) for each in considered]


def _outcome(candidate: Candidate, terms: Terms, now: datetime) -> Settled | Allowed:
    campaign = terms.campaign
    if candidate.rank is None:
        left_out = excluded(
            candidate.user_id,
            campaign.campaign_id,
            terms.account_control_percent,
            campaign.who.control_percent,
            campaign.who.reach_percent,
            campaign.campaign_id,
        )
        if left_out is not None:
            return Settled(*left_out)
    elif terms.cut is not None and candidate.rank >= terms.cut:
        return Settled(LIMITED, terms.cut_by)
    allowed = terms.quiet.decide(
        candidate.due_at,
        terms.send_by_after,
        candidate.zone,
        candidate.phone,
        candidate.country,
        terms.end,
        to_bucket=campaign.when.time_zone == BEST_TIME,
    )
    if isinstance(allowed, Refused):
        return Settled(allowed.status, allowed.reason)
    if now >= allowed.send_by:
        return Settled("expired", DEADLINE)
    return allowed


def _decide(considered: Considered, books: Books) -> Settled | Leave:
    allowed, terms, candidate = considered.outcome, considered.terms, considered.candidate
    if isinstance(allowed, Settled):
        return allowed
    limits = terms.limits
    keys = considered.counter_keys()
    total_key, total, day, daily = (candidate.campaign_id, WHOLE_CAMPAIGN), Counter(), "", Counter()
    if keys:
        day = considered.day
        total, daily = books.counters.get(total_key, total), books.counters.get((candidate.campaign_id, day), daily)
        granted, total, daily, reason = take_both(total, daily, limits, 1)
        if not granted:
            return Settled(LIMITED, reason)
    if considered.ledger_key is not None:
        ledger = books.ledgers[candidate.user_id]
        clock = candidate.zone if is_zone(candidate.zone) else terms.account_zone
        wanted = reserved(candidate.message_id, candidate.campaign_id, allowed.due_at, allowed.send_by, clock)
        answer = reserve(wanted, ledger, terms.caps)
        if isinstance(answer, Capped):
            return Settled(CAPPED, answer.reason)
        if all(known.message_id != wanted.message_id for known in ledger):
            ledger[:] = [known for known in ledger if known.last_at > forgotten_at(answer)]
            ledger.append(answer)
            books.changed.add(candidate.user_id)
    if total_key in keys:
        books.counters[total_key] = total
    if limits.daily is not None:
        books.counters[candidate.campaign_id, day] = daily
    if keys and candidate.rank is None:
        books.slots.append((candidate.message_id, candidate.campaign_id, day if limits.daily else ""))
    return Leave(allowed.due_at, allowed.send_by, allowed.intervals, terms.quiet.on_hit)


def names(considered: Sequence[Considered]) -> tuple[set[CounterKey], set[str]]:
    """Counters and people whose books have to be read."""
    counters = {key for each in considered for key in each.counter_keys()}
    return counters, {each.ledger_key for each in considered if each.ledger_key is not None}
