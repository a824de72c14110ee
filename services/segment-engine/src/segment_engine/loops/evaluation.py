"""What an evaluation needs besides the store: the rule that is meant now, and the account's settings."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, Protocol

import phonenumbers

from postrider.clock import Clock
from postrider.contracts.definitions import AccountSettings, SegmentDefinition
from postrider.rules import Rule, RuleErrors, parse_rule, resolve
from postrider.zones import single_zone_of
from segment_engine.event_store.port import EvaluationContext


class SegmentUnknown(LookupError):
    """There is no such segment (any more)."""


class Definitions(Protocol):
    """What an evaluation needs of `DefinitionsReader`."""

    segments: dict[str, SegmentDefinition]
    settings: AccountSettings


Used = dict[str, SegmentDefinition | None]


def rule_of(
    definitions: Definitions, rule: Mapping[str, Any] | None, segment_id: str | None, used: Used | None = None
) -> Rule:
    """The rule that is meant now, saved segments put in as they are now; `used` gets those. Raises `SegmentUnknown`,
    `RuleErrors`."""
    if rule is not None:
        return resolve(parse_rule(rule), lambda id: _saved(definitions, id, used))
    if segment_id is None:
        raise RuleErrors([("", "neither rule nor segment_id")])
    saved = _saved(definitions, segment_id, used)
    if saved is None:
        raise SegmentUnknown(segment_id)
    return resolve(saved, lambda id: _saved(definitions, id, used), own_id=segment_id)


def _saved(definitions: Definitions, segment_id: str, used: Used | None) -> Rule | None:
    segment = definitions.segments.get(segment_id)
    if used is not None:
        used[segment_id] = segment
    return None if segment is None else parse_rule(segment.rule)


def context_of(definitions: Definitions, clock: Clock) -> EvaluationContext:
    settings = definitions.settings
    return EvaluationContext(clock.now(), settings.account_time_zone, settings.require_consent, _country_zones())


@cache
def _country_zones() -> Mapping[str, str]:
    zones = {country: single_zone_of(country) for country in sorted(phonenumbers.SUPPORTED_REGIONS)}
    return MappingProxyType({country: zone for country, zone in zones.items() if zone is not None})
