"""Which live campaigns an event concerns, and what their scheduler is told. Pure: definitions in, decisions out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from postrider.contracts.definitions import CampaignDefinition, Trigger
from postrider.contracts.qualified import QualifiedUser
from postrider.contracts.user_events import UserEvent
from postrider.rules import RuleErrors, parse_where
from postrider.rules.tree import Filter
from segment_engine.domain.profiles import Profile
from segment_engine.domain.trigger_index import TriggerIndex
from segment_engine.domain.verdicts import Verdict
from segment_engine.domain.waits import timing_hash, trigger_hash

_ALWAYS = datetime.min.replace(tzinfo=UTC)
LIVE_KINDS = frozenset({"live_action", "live_inaction", "live_date"})
LIVE_STATUSES = frozenset({"scheduled", "running", "paused"})
"""What triggers while a campaign is paused is held by the scheduler; its deadline runs on."""


@dataclass(frozen=True, slots=True)
class LiveCampaign:
    """One that keeps a row between event and text. `made_by`, `plan`: hashes of what its rows, its due times follow
    from."""

    definition: CampaignDefinition
    made_by: int
    plan: int
    send_by: timedelta
    opens_at: datetime

    @property
    def id(self) -> str:
        return self.definition.campaign_id

    @property
    def trigger(self) -> Trigger:
        trigger = self.definition.who.trigger
        assert trigger is not None
        return trigger


class Concern(NamedTuple):
    """What an event is to a campaign that waits: what arms, what it waits for, or both."""

    campaign: LiveCampaign
    arms: bool
    acts: bool


class LiveCampaigns:
    """Live campaigns and what they listen to. `unusable`: ids whose trigger cannot be compiled."""

    def __init__(self, definitions: Iterable[CampaignDefinition], account_zone: str) -> None:
        self._triggers: TriggerIndex[CampaignDefinition] = TriggerIndex(account_zone)
        self._arms: TriggerIndex[LiveCampaign] = TriggerIndex(account_zone)
        self._acts: TriggerIndex[LiveCampaign] = TriggerIndex(account_zone)
        self.waiting: dict[str, LiveCampaign] = {}
        """Those that keep rows, and actions that keep none, which may have had a filter or a delay a moment ago."""
        self.by_attribute: dict[str, list[LiveCampaign]] = {}
        self.by_local_time: list[LiveCampaign] = []
        """Those of an event's date whose timers follow the recipient's zone."""
        self.filtered: list[str] = []
        """Those of the waiting whose timers history has a say in."""
        self.unusable: list[str] = []
        for definition in definitions:
            trigger = definition.who.trigger
            if definition.kind not in LIVE_KINDS or definition.status not in LIVE_STATUSES or trigger is None:
                continue
            try:
                where = parse_where(trigger.where)
                unless = None if trigger.unless is None else parse_where(trigger.unless.where)
            except RuleErrors:
                self.unusable.append(definition.campaign_id)
                continue
            self._add(definition, trigger, where, unless, account_zone)

    def _add(
        self,
        definition: CampaignDefinition,
        trigger: Trigger,
        where: Sequence[Filter],
        unless: Sequence[Filter] | None,
        account_zone: str,
    ) -> None:
        campaign = LiveCampaign(
            definition,
            trigger_hash(definition),
            timing_hash(definition, account_zone),
            timedelta(seconds=definition.when.send_by_seconds),
            _opens_at(definition),
        )
        self.waiting[campaign.id] = campaign
        if definition.who.filter is not None:
            self.filtered.append(campaign.id)
        if is_due_at_once(definition):
            self._triggers.add(trigger.event, where, definition)
        elif trigger.date_attribute is not None:
            self.by_attribute.setdefault(trigger.date_attribute, []).append(campaign)
        else:
            self._arms.add(trigger.event, where, campaign)
            if trigger.unless is not None and unless is not None:
                self._acts.add(trigger.unless.event, unless, campaign)
            if trigger.date_property is not None and trigger.at_local_time is not None:
                self.by_local_time.append(campaign)

    def triggered_by(self, event: UserEvent) -> list[CampaignDefinition]:
        """Those whose text is due at once."""
        if event.historic:
            return []
        return [found for found in self._triggers.find(event.event, event.values) if is_open(found, event)]

    def waiting_for(self, event: UserEvent) -> list[Concern]:
        """Those that keep something of this event. It arms nothing when it is historic or older than its deadline;
        what it keeps from being sent, it keeps from being sent whatever its age."""
        arms = [] if event.historic else self._arms.find(event.event, event.values)
        armed = [
            campaign
            for campaign in arms
            if event.received_at >= campaign.opens_at
            and event.received_at - event.at <= campaign.send_by
            and (campaign.definition.when.end is None or event.received_at < campaign.definition.when.end)
        ]
        acted = self._acts.find(event.event, event.values)
        if not acted:
            return [Concern(campaign, True, False) for campaign in armed]
        both = {campaign.id for campaign in armed}
        ids = {campaign.id for campaign in acted}
        return [Concern(campaign, True, campaign.id in ids) for campaign in armed] + [
            Concern(campaign, False, True) for campaign in acted if campaign.id not in both
        ]


def is_due_at_once(campaign: CampaignDefinition) -> bool:
    """Whether nothing is kept between event and text."""
    return campaign.kind == "live_action" and campaign.who.filter is None and not campaign.when.delay_seconds


def is_open(campaign: CampaignDefinition, event: UserEvent) -> bool:
    """Whether the campaign looks at an event that happened and arrived when this one did."""
    if event.received_at - event.at > timedelta(seconds=campaign.when.send_by_seconds):
        return False
    return is_open_at(campaign, event.received_at)


def is_open_at(campaign: CampaignDefinition, received: datetime) -> bool:
    return received >= _opens_at(campaign) and (campaign.when.end is None or received < campaign.when.end)


def _opens_at(campaign: CampaignDefinition) -> datetime:
    """When it was scheduled or begins, whichever is later."""
    opens = campaign.scheduled_at or _ALWAYS
    # The broker's time has milliseconds: the same one counts as after.
    opens = opens.replace(microsecond=opens.microsecond // 1000 * 1000)
    start = campaign.when.start
    return opens if start is None else max(opens, start)


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
