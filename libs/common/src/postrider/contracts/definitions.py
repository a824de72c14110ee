"""Definitions: whole snapshots with a version, on compacted topics. Readers ignore versions they know.

A campaign's snapshot carries every version of its `what` that a job may name (semantics.md: a job names the version
it was made for), so that a text can be rendered however late its job is read.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct, field

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
    provider_id: str | None = None
    provider_group_id: str | None = None
    on_doubt: str = "never_double"
    max_parts: int | None = None
    transliterate: bool = False


class When(Struct, frozen=True):
    """`at`: local date-time without offset, or None for "now" (one_time: due is `scheduled_at`; live: no schedule).

    `time_zone`: "account", "user" or a zone name. `start`, `end` (UTC) bound a live campaign.
    """

    at: str | None = None
    time_zone: str = "account"
    passed_zone: str = "drop"
    send_by_seconds: int = 4 * 3600
    catch_up_seconds: int = 3600
    start: datetime | None = None
    end: datetime | None = None


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
    segment_id: str | None = None
    trigger: Trigger | None = None
    filter: dict[str, Any] | None = None


class CampaignDefinition(Struct, frozen=True):
    """`version` is the campaign's; `what_version` names the entry of `whats` that new jobs are made for."""

    campaign_id: str
    version: int
    status: str
    kind: str
    name: str
    message_class: str
    when: When
    who: Who
    what_version: int
    whats: dict[str, What]
    scheduled_at: datetime | None = None
    deleted: bool = False

    @property
    def what(self) -> What:
        return self.whats[str(self.what_version)]


class SegmentDefinition(Struct, frozen=True):
    segment_id: str
    version: int
    name: str
    rule: dict[str, Any]
    deleted: bool = False


class ProviderDefinition(Struct, frozen=True):
    """`sealed_credentials`: base64 of a libsodium sealed box around the JSON credentials; only the dispatcher opens it.

    `token` is the secret part of the callback URLs. `status`: active or archived.
    """

    provider_id: str
    version: int
    name: str
    kind: str
    settings: dict[str, Any]
    sealed_credentials: str
    token: str
    parts_per_second: float | None = None
    status: str = "active"
    deleted: bool = False


class Route(Struct, frozen=True):
    country: str
    provider_ids: list[str]


class ProviderGroupDefinition(Struct, frozen=True):
    group_id: str
    version: int
    name: str
    provider_ids: list[str]
    is_default: bool = False
    routes: list[Route] = []
    deleted: bool = False


class AccountSettings(Struct, frozen=True):
    """What every service needs of /v1/settings. The defaults hold until the first definition is read."""

    version: int = 0
    account_time_zone: str = "UTC"
    default_country: str | None = None
    require_consent: bool = False
    max_parts: int | None = None
    transliterate: bool = False
    send_by_scheduled_seconds: int = 4 * 3600
    send_by_live_seconds: int = 15 * 60
    extra: dict[str, Any] = field(default_factory=dict)
