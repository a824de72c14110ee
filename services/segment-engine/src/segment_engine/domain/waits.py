"""What a live campaign keeps of a person between an event and its text, in the words that all kinds of waits share.

A wait is one row: (campaign, user, key). Its state is a function of the set of events that made it, whatever the order
in which they came; kinds differ in that function alone (`inaction`, `date_timers`, `single_action`). Pure. All times
are microseconds since 1970-01-01 UTC.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import msgspec

from postrider.contracts.definitions import CampaignDefinition

MAX_KEY_CHARACTERS = 64

WaitId: TypeAlias = tuple[str, str, str]
"""campaign_id, user_id, key."""


class Kept(NamedTuple):
    """`due`: when the timer may fire: never before it was armed or moved, or what is in the log behind that event would
    be unread. None: nothing is armed, and the row is of no use after `keep_until`."""

    due: int | None
    keep_until: int | None
    state: bytes


class Carried(NamedTuple):
    """What the text may name of its event: the values that version `what_version` of the texts refers to."""

    what_version: int
    values: Mapping[str, Any]


class Occurrence(NamedTuple):
    """A timer that fires: the slot of the send, when it was due, what its text may name."""

    name: str
    due: int
    carried: Carried


class Fired(NamedTuple):
    """`kept`: what is left of the row, None when nothing is."""

    occurrences: list[Occurrence]
    kept: Kept | None


class Row(NamedTuple):
    """A wait as its table has it. `made_by`: `trigger_hash` of the trigger that made it."""

    id: WaitId
    partition: int
    made_by: int
    kept: Kept


def hash64(text: str) -> int:
    """64 bits, signed, the same in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)


def short(name: str) -> str:
    """A name as a key: long ones by their hash, since an index takes no long keys. What begins with # is a hash."""
    if len(name) <= MAX_KEY_CHARACTERS and not name.startswith("#"):
        return name
    return "#" + hashlib.sha256(name.encode()).hexdigest()


def same_property_key(value: object) -> str | None:
    """Equal exactly for values that are equal by rules.md T6 and T7; None for what is no scalar."""
    kind = type(value)
    if kind is str:
        return short('"' + str(value))
    if kind is bool:
        return "true" if value else "false"
    if kind is int or kind is float:
        try:
            number = float(value)  # type: ignore[arg-type]
        except OverflowError:
            return None
        return repr(number + 0.0) if math.isfinite(number) else None
    return None


def trigger_hash(campaign: CampaignDefinition) -> int:
    """Of what makes a wait: another one, and what was armed before means nothing any more."""
    trigger = campaign.who.trigger
    assert trigger is not None
    unless = trigger.unless and (trigger.unless.event, trigger.unless.where)
    made_of = (
        campaign.kind, trigger.event, trigger.where, unless, trigger.same_property, trigger.date_property,
        trigger.date_attribute, trigger.yearly,
    )  # fmt: skip
    return hash64(msgspec.json.encode(made_of).decode())


def timing_hash(campaign: CampaignDefinition, account_zone: str) -> int:
    """Of what decides when an armed timer fires, besides what made it."""
    trigger = campaign.who.trigger
    assert trigger is not None
    delay = campaign.when.delay_seconds  # only where there is one: else every hash that is stored would be another
    made_of = (
        trigger_hash(campaign), trigger.within_seconds, trigger.repeat, trigger.offset_seconds, trigger.at_local_time,
        account_zone if campaign.kind == "live_date" else "", *([delay] if delay else []),
    )  # fmt: skip
    return hash64(msgspec.json.encode(made_of).decode())
