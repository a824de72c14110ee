"""Resources as the definitions that other services read: a whole snapshot with a version, and where it is published.

Pure. A campaign that was never scheduled has no definition: nobody but this service needs to know of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from campaign_api.domain.campaign_changes import send_by_of
from campaign_api.domain.campaign_states import LIVE_KINDS
from campaign_api.domain.resource import SETTINGS_ID, Kind, Resource
from campaign_api.domain.when_checks import read_local, recurrence_of
from postrider.contracts import definitions as d
from postrider.contracts.topics import (
    ACCOUNT_SETTINGS,
    CAMPAIGN_DEFINITIONS,
    PROVIDER_DEFINITIONS,
    SEGMENT_DEFINITIONS,
    Topic,
)
from postrider.durations import parse_duration, parse_offset

TOPIC_OF: Mapping[Kind, Topic] = {
    "settings": ACCOUNT_SETTINGS,
    "provider": PROVIDER_DEFINITIONS,
    "provider_group": PROVIDER_DEFINITIONS,
    "segment": SEGMENT_DEFINITIONS,
    "campaign": CAMPAIGN_DEFINITIONS,
}


@dataclass(frozen=True, slots=True)
class Snapshot:
    topic: Topic
    key: str
    type: str
    definition: msgspec.Struct


def is_published(resource: Resource) -> bool:
    """Whether other services know it at all. A user list is where it is asked: in the event store."""
    return resource.kind != "user_list" and (resource.kind != "campaign" or "scheduled_at" in resource.internal)


def snapshot_of(resource: Resource) -> Snapshot:
    key = d.SETTINGS_KEY if resource.id == SETTINGS_ID else resource.id
    type, build = _BUILDERS[resource.kind]
    return Snapshot(TOPIC_OF[resource.kind], key, type, build(resource))


def _campaign(resource: Resource) -> d.CampaignDefinition:
    body, internal = resource.body, resource.internal
    who = body["who"]
    trigger = who.get("trigger")
    limits = who.get("limits") or {}
    return d.CampaignDefinition(
        campaign_id=resource.id,
        version=resource.version,
        status=resource.status,
        kind=body["kind"],
        name=body["name"],
        message_class=body["message_class"],
        when=when_of(body, internal),
        who=d.Who(
            rule=who.get("rule"),
            segment_id=who.get("segment_id"),
            trigger=_trigger(trigger) if trigger else None,
            filter=who.get("filter"),
            reach_percent=_or(who.get("reach_percent"), 100),
            control_percent=_or(who.get("control_percent"), 0),
            limits=d.Limits(limits.get("total"), limits.get("daily"), limits.get("run")),
            safety_limit=who.get("safety_limit"),
            ignore_frequency_caps=bool(who.get("ignore_frequency_caps")),
            min_gap_seconds=_seconds(who.get("min_gap"), 0),
        ),
        what_version=internal["what_version"],
        whats={version: msgspec.convert(what, d.What) for version, what in internal["whats"].items()},
        scheduled_at=datetime.fromisoformat(internal["scheduled_at"]),
        deleted=resource.deleted,
        owner_email=body.get("owner_email") or "",
    )


def when_of(body: Mapping[str, Any], internal: Mapping[str, Any]) -> d.When:
    """`internal`: what `timing_of` made of it."""
    when = body["when"]
    at, is_live = when.get("at"), body["kind"] in LIVE_KINDS
    bounds = internal.get("bounds", {}) if is_live else {}
    return d.When(
        at=read_local(at).isoformat() if isinstance(at, str) and at != "now" else None,
        time_zone=when.get("time_zone", "account"),
        passed_zone=when.get("passed_zone", "drop"),
        send_by_seconds=internal["send_by_seconds"],
        catch_up_seconds=_seconds(when.get("catch_up"), 3600),
        start=_moment(bounds.get("start")),
        end=_moment(bounds.get("end")),
        dates=[read_local(text).isoformat() for text in at] if isinstance(at, list) else [],
        recurrence=recurrence_of(when) if "recurrence" in when else None,
        quiet_hours=_quiet_hours(when.get("quiet_hours")),
        throttle_per_minute=when.get("throttle_per_minute"),
        fallback_time=when.get("fallback_time"),
        best_time_event=when.get("best_time_event") or "",
        changed_at=_moment(internal.get("times_changed_at")),
        delay_seconds=_seconds(when.get("delay"), 0),
    )


def _quiet_hours(quiet: Mapping[str, Any] | None) -> d.QuietHours | None:
    return None if quiet is None else msgspec.convert(quiet, d.QuietHours)


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _or(value: float | None, default: float) -> float:
    """Bodies saved before a field was built have null there."""
    return default if value is None else value


def _trigger(trigger: Mapping[str, Any]) -> d.Trigger:
    """Of a trigger of any kind; a field that another kind has is absent, or null in bodies saved earlier."""
    unless, within = trigger.get("unless"), trigger.get("within")
    return d.Trigger(
        event=trigger.get("event") or "",
        where=trigger.get("where") or [],
        unless=d.Unless(unless["event"], unless["where"]) if unless else None,
        within_seconds=int(parse_duration(within).total_seconds()) if within else 0,
        same_property=trigger.get("same_property"),
        date_property=trigger.get("date_property"),
        date_attribute=trigger.get("date_attribute"),
        offset_seconds=int(parse_offset(trigger.get("offset") or "PT0S").total_seconds()),
        at_local_time=trigger.get("at_local_time"),
        yearly=bool(trigger.get("yearly")),
        repeat=trigger.get("repeat") or "keep",
    )


def _segment(resource: Resource) -> d.SegmentDefinition:
    body = resource.body
    return d.SegmentDefinition(resource.id, resource.version, body["name"], body["rule"], resource.deleted)


def _provider(resource: Resource) -> d.ProviderDefinition:
    body, internal = resource.body, resource.internal
    return d.ProviderDefinition(
        provider_id=resource.id,
        version=resource.version,
        name=body["name"],
        kind=body["kind"],
        settings=body["settings"],
        sealed_credentials=internal["sealed_credentials"],
        token=internal["token"],
        parts_per_second=body.get("parts_per_second"),
        status=resource.status,
        deleted=resource.deleted,
    )


def _group(resource: Resource) -> d.ProviderGroupDefinition:
    body = resource.body
    return d.ProviderGroupDefinition(
        resource.id,
        resource.version,
        body["name"],
        body["provider_ids"],
        body["is_default"],
        [d.Route(route["country"], route["provider_ids"]) for route in body.get("routes") or ()],
        deleted=resource.deleted,
        failover_on_rate_limit=body.get("failover_on_rate_limit", False),
    )


def _settings(resource: Resource) -> d.AccountSettings:
    body = resource.body
    return d.AccountSettings(
        version=resource.version,
        account_time_zone=body["account_time_zone"],
        default_country=body.get("default_country"),
        require_consent=body["require_consent"],
        max_parts=body.get("max_parts"),
        transliterate=body["transliterate"],
        send_by_scheduled_seconds=int(send_by_of({"kind": "one_time", "when": {}}, body).total_seconds()),
        send_by_live_seconds=int(send_by_of({"kind": "live_action", "when": {}}, body).total_seconds()),
        frequency_caps=[_cap(cap) for cap in body.get("frequency_caps") or []],
        min_gap_seconds=_seconds(body.get("min_gap"), 0),
        quiet_hours=_quiet_hours(body.get("quiet_hours")) or d.QuietHours(),
        control_percent=_or(body.get("control_percent"), 0),
        smtp_from=body.get("smtp_from") or "",
        keyword_replies=_keyword_replies(body.get("keyword_replies") or {}),
    )


def _keyword_replies(given: Mapping[str, Any]) -> d.KeywordReplies:
    texts = {keyword: given[keyword] for keyword in ("stop", "start", "help") if given.get(keyword)}
    return d.KeywordReplies(given.get("language") or "en", texts, given.get("off") or [])


def _cap(cap: Mapping[str, Any]) -> d.FrequencyCap:
    return d.FrequencyCap(cap["count"], parse_duration(cap["per"]).days)


def _seconds(duration: str | None, default: int) -> int:
    return default if duration is None else int(parse_duration(duration).total_seconds())


_BUILDERS: Mapping[Kind, tuple[str, Callable[[Resource], Any]]] = {
    "campaign": (d.CAMPAIGN_TYPE, _campaign),
    "segment": (d.SEGMENT_TYPE, _segment),
    "provider": (d.PROVIDER_TYPE, _provider),
    "provider_group": (d.GROUP_TYPE, _group),
    "settings": (d.SETTINGS_TYPE, _settings),
}
