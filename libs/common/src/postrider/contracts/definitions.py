"""Definitions: whole snapshots with a version, on compacted topics. Readers ignore versions they know.

A campaign's snapshot carries every version of its `what` that a job may name (semantics.md: a job names the version
it was made for), so that a text can be rendered however late its job is read.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from postrider.contracts.codec import Unreadable
from postrider.contracts.fields import Id, Moment, Seconds, SmallCount
from postrider.zones import is_zone

CAMPAIGN_TYPE = "campaign.defined"
SEGMENT_TYPE = "segment.defined"
PROVIDER_TYPE = "provider.defined"
GROUP_TYPE = "provider_group.defined"
SETTINGS_TYPE = "account_settings.defined"
SETTINGS_KEY = "account"


class References(Struct, frozen=True):
    """Names a template refers to; a job carries just these values."""

    profile: list[str] = []
    event: list[str] = []


class What(Struct, frozen=True):
    """`provider_group_id` None and `provider_id` None: the default group as it is at submission."""

    body: str
    references: References = References()
    fallback_body: str | None = None
    provider_id: Id | None = None
    provider_group_id: Id | None = None
    on_doubt: Id = "never_double"
    max_parts: SmallCount | None = None
    transliterate: bool = False


class When(Struct, frozen=True):
    """`at`: local date-time without offset, or None for "now" (one_time: due is `scheduled_at`; live: no schedule).

    `time_zone`: "account", "user" or a zone name. `start`, `end` (UTC) bound a live campaign.
    """

    at: Id | None = None
    time_zone: Id = "account"
    passed_zone: Id = "drop"
    send_by_seconds: Seconds = 4 * 3600
    catch_up_seconds: Seconds = 3600
    start: Moment | None = None
    end: Moment | None = None


class Unless(Struct, frozen=True):
    """The event that keeps an inaction trigger from firing."""

    event: str
    where: list[dict[str, Any]] = []


class Trigger(Struct, frozen=True, omit_defaults=True):
    """What a live campaign answers; `where` filters properties (api.md "A rule").

    live_action: `event`. live_inaction: `event`, `unless`, `within_seconds`, `same_property`, `repeat` (keep or
    restart). live_date: `date_attribute`, or `event` and `date_property`; `offset_seconds` (negative: before) and
    `at_local_time` ("HH:MM" on the recipient's clock, None: the moment itself); `yearly`: every year from then on.
    """

    event: str = ""
    where: list[dict[str, Any]] = []
    unless: Unless | None = None
    within_seconds: int = 0
    same_property: str | None = None
    date_property: str | None = None
    date_attribute: str | None = None
    offset_seconds: int = 0
    at_local_time: str | None = None
    yearly: bool = False
    repeat: str = "keep"


class Who(Struct, frozen=True):
    """One of `rule`, `segment_id` (past behaviour) or `trigger` (live), to which `filter`, a rule, may belong."""

    rule: dict[str, Any] | None = None
    segment_id: Id | None = None
    trigger: Trigger | None = None
    filter: dict[str, Any] | None = None


class CampaignDefinition(Struct, frozen=True):
    """`version` is the campaign's; `what_version` names the entry of `whats` that new jobs are made for."""

    campaign_id: Id
    version: SmallCount
    status: Id
    kind: Id
    name: str
    message_class: Id
    when: When
    who: Who
    what_version: SmallCount
    whats: dict[str, What]
    scheduled_at: Moment | None = None
    deleted: bool = False

    @property
    def what(self) -> What:
        return self.whats[str(self.what_version)]


class SegmentDefinition(Struct, frozen=True):
    segment_id: Id
    version: SmallCount
    name: str
    rule: dict[str, Any]
    deleted: bool = False


class ProviderDefinition(Struct, frozen=True):
    """`sealed_credentials`: base64 of a libsodium sealed box around the JSON credentials; only the dispatcher opens it.

    `token` is the secret part of the callback URLs. `status`: active or archived.
    """

    provider_id: Id
    version: SmallCount
    name: str
    kind: Id
    settings: dict[str, Any]
    sealed_credentials: str
    token: str
    parts_per_second: float | None = None
    status: Id = "active"
    deleted: bool = False


class Route(Struct, frozen=True):
    country: Id
    provider_ids: list[Id]


class ProviderGroupDefinition(Struct, frozen=True):
    group_id: Id
    version: SmallCount
    name: str
    provider_ids: list[Id]
    is_default: bool = False
    routes: list[Route] = []
    deleted: bool = False


class AccountSettings(Struct, frozen=True):
    """What every service needs of /v1/settings. The defaults hold until the first definition is read."""

    version: SmallCount = 0
    account_time_zone: Id = "UTC"
    default_country: Id | None = None
    require_consent: bool = False
    max_parts: SmallCount | None = None
    transliterate: bool = False
    send_by_scheduled_seconds: Seconds = 4 * 3600
    send_by_live_seconds: Seconds = 15 * 60
    extra: dict[str, Any] = field(default_factory=dict)


Definition = CampaignDefinition | SegmentDefinition | ProviderDefinition | ProviderGroupDefinition | AccountSettings


def name_of(definition: Definition) -> str:
    """The id it is known by, which is its record's key."""
    match definition:
        case CampaignDefinition():
            return definition.campaign_id
        case SegmentDefinition():
            return definition.segment_id
        case ProviderDefinition():
            return definition.provider_id
        case ProviderGroupDefinition():
            return definition.group_id
        case AccountSettings():
            return SETTINGS_KEY


def require_whole(definition: Definition) -> None:
    """Raises `Unreadable` for what has the right shape and would still fail whoever works with it."""
    if isinstance(definition, CampaignDefinition):
        if str(definition.what_version) not in definition.whats:
            raise Unreadable("what_version: names none of whats")
    elif isinstance(definition, AccountSettings) and not is_zone(definition.account_time_zone):
        raise Unreadable("account_time_zone: no such zone")
