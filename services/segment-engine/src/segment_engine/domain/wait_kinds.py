"""The kinds of waits under one roof: the key of an event in a campaign, and what becomes of the row. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, time, timedelta

from postrider.contracts.user_events import UserEvent
from segment_engine.domain import date_timers, inaction, single_action
from segment_engine.domain.columns import microseconds
from segment_engine.domain.inaction import Happening
from segment_engine.domain.live_campaigns import Concern, LiveCampaign, pick
from segment_engine.domain.waits import Carried, Fired, Kept, WaitId, same_property_key, short

_SECOND = 1_000_000
CLOCKS_APART = timedelta(minutes=1)
"""Kafka's clock, which dates what is received, may be so far behind Postgres'."""


@dataclass(frozen=True, slots=True)
class Trait:
    """The attribute a date campaign waits for, as it is from now on. `may_arm` False: it moves or disarms only."""

    value: object
    now: int
    may_arm: bool


@dataclass(slots=True)
class ReadUntil:
    """Up to when everything that was received has been applied, forwarded records included: barriers move it on. What
    may still be behind it in some partition is not to be forgotten for. Microseconds."""

    at: int = 0

    def passed(self, asked: datetime) -> None:
        """A barrier has passed that was asked for at this moment of the database's clock."""
        self.at = max(self.at, microseconds(asked - CLOCKS_APART))


@dataclass(slots=True)
class Change:
    """What a batch tells one row. `moved`: nothing but that the person's zone may be another."""

    campaign: LiveCampaign
    happenings: list[Happening] = field(default_factory=list)
    date: object = None
    trait: Trait | None = None
    moved_at: int | None = None


def key_of(concern: Concern, event: UserEvent, message_id: str) -> str | None:
    """None: the event has no value to be the same (what arms is counted, what acts disarms nothing)."""
    trigger = concern.campaign.trigger
    if trigger.unless is None:
        return short(message_id)
    if trigger.same_property is None:
        return ""
    return same_property_key(event.values.get(trigger.same_property))


def add_event(changes: dict[WaitId, Change], concern: Concern, event: UserEvent, message_id: str) -> bool:
    """Notes the event for its row. False: it has none."""
    key = key_of(concern, event, message_id)
    if key is None:
        return False
    campaign = concern.campaign
    definition = campaign.definition
    id = (definition.campaign_id, event.user_id, key)
    change = changes.get(id)
    if change is None:
        change = changes[id] = Change(campaign)
    values = pick(definition.what.references.event, event.values) if concern.arms else {}
    change.happenings.append(
        Happening(
            message_id, microseconds(event.at), microseconds(event.received_at), concern.arms, concern.acts,
            definition.what_version, values,
        )
    )  # fmt: skip
    trigger = campaign.trigger
    if trigger.date_property is not None:
        change.date = event.values.get(trigger.date_property)
    return True


def apply(known: bytes | None, change: Change, zone: str, account_zone: str, read_until: int) -> Kept | None:
    """The row after the change; None: there is none. Rows of another trigger must be given as None. `read_until`:
    whatever was received before it has been applied."""
    definition = change.campaign.definition
    if definition.kind == "live_inaction":
        return inaction.happened(known, change.happenings, _inaction_terms(change.campaign), read_until)
    if definition.kind == "live_action":
        first = change.happenings[0]
        carried = Carried(first.what_version, first.values)
        at = min(first.at, first.received)
        return single_action.happened(first.id, at, first.received, carried, _action_terms(change.campaign))
    terms = _date_terms(change.campaign, zone, account_zone)
    trigger = change.campaign.trigger
    if change.trait is not None:
        trait = change.trait
        if known is not None:
            return date_timers.moved(known, trait.value, trait.now, terms)
        name = trigger.date_attribute or ""
        return date_timers.armed(name, trait.value, Carried(0, {}), trait.now, terms) if trait.may_arm else None
    if known is not None:
        now = change.moved_at if change.moved_at is not None else change.happenings[0].received
        return date_timers.replanned(known, now, terms)
    if not change.happenings:
        return None
    first = change.happenings[0]
    return date_timers.armed(first.id, change.date, Carried(first.what_version, first.values), first.received, terms)


def replanned(
    campaign: LiveCampaign, known: bytes, now: int, zone: str, account_zone: str, read_until: int
) -> Kept | None:
    """The row under the campaign's present terms."""
    if campaign.definition.kind == "live_inaction":
        return inaction.replanned(known, now, _inaction_terms(campaign), read_until)
    if campaign.definition.kind == "live_date":
        return date_timers.replanned(known, now, _date_terms(campaign, zone, account_zone))
    return single_action.replanned(known, now, _action_terms(campaign))


def fire(campaign: LiveCampaign, known: bytes, now: int, zone: str, account_zone: str) -> Fired:
    """What is due by the campaign's present terms."""
    if campaign.definition.kind == "live_inaction":
        return inaction.fire(known, now, _inaction_terms(campaign))
    if campaign.definition.kind == "live_date":
        return date_timers.fire(known, now, _date_terms(campaign, zone, account_zone))
    return single_action.fire(known, now, _action_terms(campaign))


def _action_terms(campaign: LiveCampaign) -> single_action.Terms:
    when = campaign.definition.when
    return single_action.Terms(when.delay_seconds * _SECOND, when.send_by_seconds * _SECOND)


def _inaction_terms(campaign: LiveCampaign) -> inaction.Terms:
    trigger, when = campaign.trigger, campaign.definition.when
    return inaction.Terms(trigger.within_seconds * _SECOND, when.send_by_seconds * _SECOND, trigger.repeat == "restart")


def _date_terms(campaign: LiveCampaign, zone: str, account_zone: str) -> date_timers.Terms:
    trigger = campaign.trigger
    clock = None if trigger.at_local_time is None else time.fromisoformat(trigger.at_local_time)
    return date_timers.Terms(
        offset=timedelta(seconds=trigger.offset_seconds),
        at_local_time=clock,
        yearly=trigger.yearly,
        send_by=timedelta(seconds=campaign.definition.when.send_by_seconds),
        zone=zone,
        account_zone=account_zone,
    )
