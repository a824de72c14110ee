"""Which live campaigns an event triggers, and what their scheduler is told. Pure: definitions in, decisions out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from postrider.contracts.definitions import CampaignDefinition
from postrider.contracts.qualified import QualifiedUser
from postrider.contracts.user_events import UserEvent
from postrider.rules import Matcher, RuleErrors, compile_where, parse_where
from segment_engine.domain.profiles import Profile
from segment_engine.domain.verdicts import Verdict

LIVE_STATUSES = frozenset({"scheduled", "running", "paused"})
"""What triggers while a campaign is paused is held by the scheduler; its deadline runs on."""


@dataclass(frozen=True, slots=True)
class LiveCampaign:
    definition: CampaignDefinition
    matches: Matcher


class LiveCampaigns:
    """Live campaigns by the name of the event they wait for. `unusable`: ids whose trigger cannot be compiled."""

    def __init__(self, definitions: Iterable[CampaignDefinition], account_zone: str) -> None:
        self._by_event: dict[str, list[LiveCampaign]] = {}
        self.unusable: list[str] = []
        for definition in definitions:
            trigger = definition.who.trigger
            if definition.kind != "live_action" or definition.status not in LIVE_STATUSES or trigger is None:
                continue
            try:
                matches = compile_where(parse_where(trigger.where), account_zone)
            except RuleErrors:
                self.unusable.append(definition.campaign_id)
                continue
            self._by_event.setdefault(trigger.event, []).append(LiveCampaign(definition, matches))

    def triggered_by(self, event: UserEvent) -> list[CampaignDefinition]:
        found = self._by_event.get(event.event)
        if not found or event.historic:
            return []
        return [live.definition for live in found if is_open(live.definition, event) and live.matches(event.values)]


def is_open(campaign: CampaignDefinition, event: UserEvent) -> bool:
    """Whether the campaign looks at an event that happened and arrived when this one did."""
    when = campaign.when
    received = event.received_at
    if received - event.at > timedelta(seconds=when.send_by_seconds):
        return False
    if campaign.scheduled_at is not None:
        # The broker's time has milliseconds: the same one counts as after.
        scheduled = campaign.scheduled_at
        if received < scheduled.replace(microsecond=scheduled.microsecond // 1000 * 1000):
            return False
    if when.start is not None and received < when.start:
        return False
    return when.end is None or received < when.end


def pick(names: Sequence[str], values: Mapping[str, Any]) -> dict[str, Any]:
    """Only what the template refers to travels."""
    return {name: values[name] for name in names if name in values}


def qualified(
    campaign: CampaignDefinition,
    event: UserEvent,
    message_id: str,
    profile: Profile,
    verdict: Verdict,
    account_zone: str,
) -> QualifiedUser:
    """Due at once: a client's clock that runs ahead delays nobody's text."""
    references = campaign.what.references
    contact = profile.contact
    return QualifiedUser(
        campaign_id=campaign.campaign_id,
        campaign_version=campaign.version,
        what_version=campaign.what_version,
        occurrence=message_id,
        user_id=event.user_id,
        due_at=min(event.at, event.received_at),
        received_at=event.received_at,
        zone=contact.zone(account_zone),
        verdict=verdict.status,
        reason=verdict.reason,
        phone=contact.phone or "",
        country=contact.phone_country,
        profile=pick(references.profile, profile.traits),
        event=pick(references.event, event.values),
    )
