"""What becomes of a wait that is due: who qualifies, by the campaign and the person as they are now. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from postrider.contracts.definitions import CampaignDefinition, References
from postrider.contracts.qualified import QualifiedUser
from segment_engine.domain import wait_kinds
from segment_engine.domain.columns import from_microseconds
from segment_engine.domain.live_campaigns import LiveCampaign, pick
from segment_engine.domain.profiles import Profile
from segment_engine.domain.verdicts import Verdict
from segment_engine.domain.waits import Carried, Kept, Occurrence, Row

CAMPAIGN_ENDED = "campaign_ended"
TRIGGER_CHANGED = "trigger_changed"
ERASED = "erased"
FILTERED = "filtered"


class Outcome(NamedTuple):
    """`dropped`: why what was armed sends nothing; "" when it fires, or is only put off."""

    occurrences: list[Occurrence]
    kept: Kept | None
    dropped: str = ""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The filter of one campaign, for the people whom one query asked about."""

    asked: frozenset[str]
    passed: frozenset[str]


def settle(
    row: Row,
    campaign: LiveCampaign | None,
    profile: Profile | None,
    filtered: Evaluated | None,
    now: int,
    account_zone: str,
) -> Outcome | None:
    """None: its filter was not evaluated for this person yet; it stays due."""
    if campaign is None:
        return Outcome([], None, CAMPAIGN_ENDED)
    if campaign.made_by != row.made_by:
        return Outcome([], None, TRIGGER_CHANGED)
    if profile is not None and profile.deleted:
        return Outcome([], None, ERASED)
    user_id = row.id[1]
    has_filter = campaign.definition.who.filter is not None
    if has_filter and (filtered is None or user_id not in filtered.asked):
        return None
    zone = profile.contact.zone(account_zone) if profile is not None else account_zone
    fired = wait_kinds.fire(campaign, row.kept.state, now, zone, account_zone)
    if has_filter and filtered is not None and fired.occurrences and user_id not in filtered.passed:
        return Outcome([], fired.kept, FILTERED)
    return Outcome(fired.occurrences, fired.kept)


def qualified(
    campaign: CampaignDefinition,
    user_id: str,
    occurrence: Occurrence,
    profile: Profile,
    verdict: Verdict,
    account_zone: str,
    now: datetime,
) -> QualifiedUser:
    """The text is the newest whose event values were kept when it was armed; traits are those of now."""
    version, references = what_of(campaign, occurrence.carried)
    contact = profile.contact
    return QualifiedUser(
        campaign_id=campaign.campaign_id,
        campaign_version=campaign.version,
        what_version=version,
        occurrence=occurrence.name,
        user_id=user_id,
        due_at=from_microseconds(occurrence.due),
        received_at=now,
        zone=contact.zone(account_zone),
        verdict=verdict.status,
        reason=verdict.reason,
        phone=contact.phone or "",
        country=contact.phone_country,
        profile=pick(references.profile, profile.traits),
        event=pick(references.event, occurrence.carried.values),
    )


def what_of(campaign: CampaignDefinition, carried: Carried) -> tuple[int, References]:
    picked_for = campaign.whats.get(str(carried.what_version))
    newest = campaign.what.references
    if picked_for is None or set(newest.event) <= set(picked_for.references.event):
        return campaign.what_version, newest
    return carried.what_version, picked_for.references
