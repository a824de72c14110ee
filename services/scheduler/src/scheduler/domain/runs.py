"""What a run is made of and goes by: from a definition to a run, and what an edit may still change."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import msgspec

from postrider.contracts import ids
from postrider.contracts.audience import BestTime, SnapshotRequested
from postrider.contracts.definitions import CampaignDefinition
from postrider.contracts.delivery_events import RunChanged
from postrider.scheduling.occurrences import BEST_TIME, ONCE, Schedule, latest_due, request_at, schedule_of
from postrider.scheduling.zone_plan import DEADLINE, HELD_TOO_LONG, missed_everywhere_reason, missed_reason
from scheduler.domain.moves import RunName, Zone
from scheduler.domain.run_states import UNFIXED_RUNS, RunState

PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class Run:
    """`definition`: what the run goes by, frozen in all but `what` once its audience is fixed. `cut`: people whose rank
    is not below it are `limited`; None: no limit."""

    name: RunName
    state: RunState
    seed: int
    definition: CampaignDefinition
    account_zone: str
    scheduled_at: datetime
    request_at: datetime
    requested_at: datetime | None = None
    total: int = 0
    reachable: int = 0
    reason: str = ""
    paused: bool = False
    resumed_at: datetime | None = None
    cut: int | None = None

    @property
    def schedule(self) -> Schedule:
        return schedule_of(self.definition, self.account_zone, self.scheduled_at, self.name.occurrence)

    def missed_reason(self, now: datetime) -> str:
        """Why it can fire in no zone any more, so that it needs no audience; "" when it still may. What a pause held
        back is not missed by us: it has until its deadline."""
        schedule = self.schedule
        last = latest_due(schedule)
        if self.resumed_at is not None and self.resumed_at > last:
            if now < last + schedule.send_by:
                return ""
            return HELD_TOO_LONG if self.resumed_at >= last + schedule.send_by else DEADLINE
        return missed_everywhere_reason(schedule, now)

    def zone_missed_reason(self, zone: Zone, now: datetime) -> str:
        """Why a zone that is due cannot fire any more; "" when it can."""
        held_until = now if self.paused else self.resumed_at
        if held_until is not None and zone.send_by <= held_until:
            return HELD_TOO_LONG
        due_at = zone.due_at if self.resumed_at is None else max(zone.due_at, self.resumed_at)
        catch_up = timedelta(seconds=self.definition.when.catch_up_seconds)
        return missed_reason(due_at, zone.send_by, catch_up, now, zone.following_at)

    def changed(self, at: datetime) -> RunChanged:
        """What the others are told of its present state."""
        return RunChanged(
            campaign_id=self.name.campaign_id,
            run_id=self.name.run_id,
            occurrence=self.name.occurrence,
            state=self.state,
            at=at,
            total=self.total,
            reachable=self.reachable,
            reason=self.reason,
        )


def new_run(
    campaign: CampaignDefinition,
    account_zone: str,
    lead: timedelta,
    now: datetime,
    occurrence: str = ONCE,
    resumed_at: datetime | None = None,
) -> Run:
    """The run of one occurrence. `now` stands in for a definition that does not say when it was scheduled;
    `resumed_at`: when the campaign's last pause ended."""
    scheduled_at = campaign.scheduled_at or now
    name = RunName(ids.run_id(campaign.campaign_id, occurrence), campaign.campaign_id, occurrence)
    return Run(
        name=name,
        state=RunState.PLANNED,
        seed=seed_of(name.run_id),
        definition=campaign,
        account_zone=account_zone,
        scheduled_at=scheduled_at,
        request_at=request_at(schedule_of(campaign, account_zone, scheduled_at, occurrence), lead),
        paused=campaign.status == PAUSED,
        resumed_at=resumed_at,
    )


def edited(run: Run, campaign: CampaignDefinition, account_zone: str, lead: timedelta) -> Run:
    """The run after its campaign (or the account's zone) changed; the same object when nothing does.

    Source: semantics.md §3. `kind`, `when`, `who` reach runs whose audience is not fixed; `what` reaches jobs that
    are not emitted.
    """
    if run.state not in UNFIXED_RUNS:
        if campaign.version <= run.definition.version:
            return run
        kept = msgspec.structs.replace(
            run.definition, version=campaign.version, what_version=campaign.what_version, whats=campaign.whats
        )
        return replace(run, definition=kept)
    newest = max(campaign, run.definition, key=lambda definition: definition.version)
    scheduled_at = newest.scheduled_at or run.scheduled_at
    at = request_at(schedule_of(newest, account_zone, scheduled_at, run.name.occurrence), lead)
    is_same = newest.version == run.definition.version and account_zone == run.account_zone
    if is_same and at == run.request_at:  # which new time-zone data may have moved
        return run
    return replace(run, definition=newest, account_zone=account_zone, scheduled_at=scheduled_at, request_at=at)


def snapshot_request(run: Run, account_control_percent: float, now: datetime) -> SnapshotRequested:
    """The rule as the run's definition has it, and whom to leave out of those who could be texted."""
    who, when = run.definition.who, run.definition.when
    return SnapshotRequested(
        run_id=run.name.run_id,
        campaign_id=run.name.campaign_id,
        occurrence=run.name.occurrence,
        seed=run.seed,
        requested_at=now,
        rule=who.rule,
        segment_id=who.segment_id,
        account_control_percent=account_control_percent,
        control_percent=who.control_percent,
        reach_percent=who.reach_percent,
        best_time=BestTime(when.best_time_event, when.fallback_time or "") if when.time_zone == BEST_TIME else None,
    )


def seed_of(run_id: str) -> int:
    """Of the random order of an audience: follows from the run, so that anybody can reproduce it."""
    return int.from_bytes(hashlib.sha256(run_id.encode()).digest()[:6], "big")
