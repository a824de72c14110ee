"""From a qualified person to a send job, or to the status that settles the message without one.

Exactly one of the two for everybody: nobody who qualified may vanish here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from postrider.contracts import ids
from postrider.contracts.audience import AudiencePage, PageUser
from postrider.contracts.definitions import CampaignDefinition
from postrider.contracts.delivery_events import NOT_SENT_STATUSES, MessageChanged
from postrider.contracts.qualified import QualifiedUser
from postrider.contracts.send_jobs import Interval, SendJob
from postrider.scheduling.zone_plan import DEADLINE

PENDING = "pending"
ACTIVE_STATUSES = frozenset({"scheduled", "running", "paused"})
"""What is queued for a paused campaign is held by the dispatcher."""


@dataclass(frozen=True, slots=True)
class Settled:
    """Why a person gets no job: a message status of api.md and its reason."""

    status: str
    reason: str


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


def page_job(
    page: AudiencePage, user: PageUser, due_at: datetime, send_by: datetime, message_class: str, now: datetime
) -> SendJob | Settled:
    """`now` is the database's: past the deadline there is no job to emit."""
    settled = settled_by_verdict(user.verdict, user.reason)
    if settled is not None:
        return settled
    if now >= send_by:
        return Settled("expired", DEADLINE)
    return SendJob(
        message_id=ids.message_id(page.campaign_id, page.occurrence, user.user_id),
        campaign_id=page.campaign_id,
        run_id=page.run_id,
        occurrence=page.occurrence,
        user_id=user.user_id,
        what_version=page.what_version,
        phone=user.phone,
        zone=page.zone,
        due_at=due_at,
        send_by=send_by,
        message_class=message_class,
        country=user.country,
        allowed=[Interval(due_at, send_by)],
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
        due_at=due_at,
        phone=user.phone,
        reason=settled.reason,
    )


def live_due_at(qualified: QualifiedUser, now: datetime) -> datetime:
    """Event time; a clock that runs fast does not put a live text off."""
    return min(qualified.due_at, now)


def live_job(qualified: QualifiedUser, campaign: CampaignDefinition | None, now: datetime) -> SendJob | Settled:
    """`campaign` None: deleted, since the definitions were read past the version that qualified the person."""
    settled = settled_by_verdict(qualified.verdict, qualified.reason)
    if settled is not None:
        return settled
    if campaign is None:
        return Settled("cancelled", "campaign_deleted")
    if campaign.status not in ACTIVE_STATUSES:
        return Settled("cancelled", f"campaign_{campaign.status}")
    due_at = live_due_at(qualified, now)
    send_by = due_at + timedelta(seconds=campaign.when.send_by_seconds)
    if campaign.when.end is not None:
        send_by = min(send_by, campaign.when.end)
    if now >= send_by:
        return Settled("expired", DEADLINE)
    return SendJob(
        message_id=live_message_id(qualified),
        campaign_id=qualified.campaign_id,
        run_id="",
        occurrence=qualified.occurrence,
        user_id=qualified.user_id,
        what_version=what_version_for(campaign, qualified.what_version),
        phone=qualified.phone,
        zone=qualified.zone,
        due_at=due_at,
        send_by=send_by,
        message_class=campaign.message_class,
        country=qualified.country,
        allowed=[Interval(due_at, send_by)],
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
        due_at=live_due_at(qualified, now),
        phone=qualified.phone,
        reason=settled.reason,
    )
