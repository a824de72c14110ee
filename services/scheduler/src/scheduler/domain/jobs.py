"""From a qualified person to a send job, or to the status that settles the message without one.

Exactly one of the two for everybody: nobody who qualified may vanish here.
"""

from __future__ import annotations

from datetime import datetime

from postrider.contracts import ids
from postrider.contracts.audience import AudiencePage, PageUser
from postrider.contracts.definitions import CampaignDefinition
from postrider.contracts.delivery_events import NOT_SENT_STATUSES, MessageChanged
from postrider.contracts.qualified import QualifiedUser
from postrider.contracts.send_jobs import SendJob
from scheduler.domain.gate import Candidate, Leave
from scheduler.domain.limits import LIMITED, TOTAL_LIMIT
from scheduler.domain.settled import Settled

PENDING = "pending"
COMPLETED = "completed"
ACTIVE_STATUSES = frozenset({"scheduled", "running", "paused"})
"""What is queued for a paused campaign is held by the dispatcher."""


def settled_by_verdict(verdict: str, reason: str) -> Settled | None:
    """None for a person who may be texted. A verdict nobody knows yet is `cancelled`, with the verdict as reason."""
    if not verdict:
        return None
    if verdict in NOT_SENT_STATUSES:
        return Settled(verdict, reason)
    return Settled("cancelled", reason or verdict)


def what_version_for(campaign: CampaignDefinition, carried: int) -> int:
    """The version of `what` of a job whose values were picked for version `carried`: the newest, since an edit reaches
    every job that is not emitted (semantics.md §3), unless that one names values that were not picked."""
    if campaign.what_version <= carried or str(carried) not in campaign.whats:
        return carried
    picked, wanted = campaign.whats[str(carried)].references, campaign.what.references
    has_all = set(wanted.profile) <= set(picked.profile) and set(wanted.event) <= set(picked.event)
    return campaign.what_version if has_all else carried


def page_candidate(page: AudiencePage, user: PageUser, zone: str, due_at: datetime) -> Candidate | Settled:
    """`zone`: whose clock counts for quiet hours and caps."""
    settled = settled_by_verdict(user.verdict, user.reason)
    if settled is not None:
        return settled
    message_id = ids.message_id(page.campaign_id, page.occurrence, user.user_id)
    return Candidate(message_id, page.campaign_id, user.user_id, zone, user.phone, user.country, due_at, user.rank)


def page_job(
    page: AudiencePage, user: PageUser, zone: str, leave: Leave, what_version: int, message_class: str
) -> SendJob:
    return SendJob(
        message_id=ids.message_id(page.campaign_id, page.occurrence, user.user_id),
        campaign_id=page.campaign_id,
        run_id=page.run_id,
        occurrence=page.occurrence,
        user_id=user.user_id,
        what_version=what_version,
        phone=user.phone,
        zone=zone,
        due_at=leave.due_at,
        send_by=leave.send_by,
        message_class=message_class,
        country=user.country,
        allowed=list(leave.intervals),
        on_hit=leave.on_hit,
        profile=user.profile,
    )


def page_message(
    page: AudiencePage, user: PageUser, outcome: SendJob | Settled, due_at: datetime, now: datetime
) -> MessageChanged:
    """The first row (seq 0) of a person in the message log; the dispatcher's are above it."""
    settled = outcome if isinstance(outcome, Settled) else Settled(PENDING, "")
    return MessageChanged(
        message_id=ids.message_id(page.campaign_id, page.occurrence, user.user_id),
        campaign_id=page.campaign_id,
        run_id=page.run_id,
        occurrence=page.occurrence,
        user_id=user.user_id,
        status=settled.status,
        seq=0,
        at=now,
        due_at=due_at if isinstance(outcome, Settled) else outcome.due_at,
        phone=user.phone,
        reason=settled.reason,
    )


def live_due_at(qualified: QualifiedUser, now: datetime) -> datetime:
    """Event time; a clock that runs fast does not put a live text off."""
    return min(qualified.due_at, now)


def live_candidate(qualified: QualifiedUser, campaign: CampaignDefinition | None, now: datetime) -> Candidate | Settled:
    """`campaign` None: deleted, since the definitions were read past the version that qualified the person."""
    settled = settled_by_verdict(qualified.verdict, qualified.reason)
    if settled is not None:
        return settled
    if campaign is None:
        return Settled("cancelled", "campaign_deleted")
    if campaign.status == COMPLETED:
        return Settled(LIMITED, TOTAL_LIMIT)  # nothing else completes a live campaign
    if campaign.status not in ACTIVE_STATUSES:
        return Settled("cancelled", f"campaign_{campaign.status}")
    return Candidate(
        live_message_id(qualified),
        qualified.campaign_id,
        qualified.user_id,
        qualified.zone,
        qualified.phone,
        qualified.country,
        live_due_at(qualified, now),
    )


def live_job(qualified: QualifiedUser, campaign: CampaignDefinition, leave: Leave) -> SendJob:
    return SendJob(
        message_id=live_message_id(qualified),
        campaign_id=qualified.campaign_id,
        run_id="",
        occurrence=qualified.occurrence,
        user_id=qualified.user_id,
        what_version=what_version_for(campaign, qualified.what_version),
        phone=qualified.phone,
        zone=qualified.zone,
        due_at=leave.due_at,
        send_by=leave.send_by,
        message_class=campaign.message_class,
        country=qualified.country,
        allowed=list(leave.intervals),
        on_hit=leave.on_hit,
        profile=qualified.profile,
        event=qualified.event,
    )


def live_message_id(qualified: QualifiedUser) -> str:
    return ids.message_id(qualified.campaign_id, qualified.occurrence, qualified.user_id)


def live_message(qualified: QualifiedUser, outcome: SendJob | Settled, now: datetime) -> MessageChanged:
    settled = outcome if isinstance(outcome, Settled) else Settled(PENDING, "")
    return MessageChanged(
        message_id=live_message_id(qualified),
        campaign_id=qualified.campaign_id,
        run_id="",
        occurrence=qualified.occurrence,
        user_id=qualified.user_id,
        status=settled.status,
        seq=0,
        at=now,
        due_at=live_due_at(qualified, now) if isinstance(outcome, Settled) else outcome.due_at,
        phone=qualified.phone,
        reason=settled.reason,
    )
