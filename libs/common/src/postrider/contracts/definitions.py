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


class Content(Struct, frozen=True, omit_defaults=True):
    """What one provider is given, with Liquid in every text. `body` "": it sends templates of its own, whose values
    are the others."""

    body: str = ""
    fallback_body: str | None = None
    template_id: str | None = None
    template_variables: list[str] = []
    message_pairs: dict[str, str] = {}
    header_pairs: dict[str, str] = {}
    global_pairs: dict[str, str] = {}


class What(Struct, frozen=True):
    """`provider_group_id` None and `provider_id` None: the default group as it is at submission. `by_provider`: for
    these providers, in place of all that is said here."""

    body: str
    references: References = References()
    fallback_body: str | None = None
    provider_id: Id | None = None
    provider_group_id: Id | None = None
    on_doubt: Id = "never_double"
    max_parts: SmallCount | None = None
    transliterate: bool = False
    template_id: str | None = None
    template_variables: list[str] = []
    message_pairs: dict[str, str] = {}
    header_pairs: dict[str, str] = {}
    global_pairs: dict[str, str] = {}
    by_provider: dict[Id, Content] = {}

    def content_for(self, provider_id: str | None) -> Content:
        own = self.by_provider.get(provider_id) if provider_id is not None else None
        return own or Content(
            self.body,
            self.fallback_body,
            self.template_id,
            self.template_variables,
            self.message_pairs,
            self.header_pairs,
            self.global_pairs,
        )


class Recurrence(Struct, frozen=True, omit_defaults=True):
    """`rule`: an RFC 5545 RRULE without DTSTART, of days; `times` ("HH:MM") are the moments of each of its days.

    `start`, `end`: local date-times without offset, the first and the last that may be. `short_month` says what a day
    means that a month or year does not have: last_day or skip.
    """

    rule: str
    times: list[Id]
    start: Id | None = None
    end: Id | None = None
    short_month: Id = "skip"


class QuietWindow(Struct, frozen=True):
    """On these days of the week (mon … sun) from `start` to `end` ("HH:MM") on the recipient's clock; an `end` that is
    not after `start` is on the next day."""

    days: list[Id]
    start: Id = field(name="from")
    end: Id = field(name="to")


class QuietHours(Struct, frozen=True):
    """`on_hit`: discard, or delay until the window is over. No windows: none at all, the account's included."""

    windows: list[QuietWindow] = []
    on_hit: Id = "delay"


class When(Struct, frozen=True):
    """`at`: local date-time without offset, or None for "now" (one_time: due is `scheduled_at`; live: no schedule).

    `dates`: those of multiple_dates; `recurrence`: that of recurring. `time_zone`: "account", "user", "best_time" or a
    zone name. `start`, `end` (UTC) bound a live campaign; `delay_seconds`, of live_action: from the event to the due.
    `quiet_hours` None: the account's. `fallback_time`, `best_time_event` ("" = any event): of best_time. `changed_at`:
    when an edit last changed the times of a campaign that was scheduled already; what had passed by then has passed.
    """

    at: Id | None = None
    time_zone: Id = "account"
    passed_zone: Id = "drop"
    send_by_seconds: Seconds = 4 * 3600
    catch_up_seconds: Seconds = 3600
    start: Moment | None = None
    end: Moment | None = None
    dates: list[Id] = []
    recurrence: Recurrence | None = None
    quiet_hours: QuietHours | None = None
    throttle_per_minute: SmallCount | None = None
    fallback_time: Id | None = None
    best_time_event: str = ""
    changed_at: Moment | None = None
    delay_seconds: Seconds = 0


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


class Limits(Struct, frozen=True, omit_defaults=True):
    """How many texts at most: of the campaign, of a day of the account's zone, of a run. None: no limit."""

    total: SmallCount | None = None
    daily: SmallCount | None = None
    run: SmallCount | None = None


class Who(Struct, frozen=True):
    """One of `rule`, `segment_id` (past behaviour) or `trigger` (live), to which `filter`, a rule, may belong.

    `safety_limit`: a run that would text more does not start. `min_gap_seconds`: between two texts of this campaign to
    one person.
    """

    rule: dict[str, Any] | None = None
    segment_id: Id | None = None
    trigger: Trigger | None = None
    filter: dict[str, Any] | None = None
    reach_percent: float = 100.0
    control_percent: float = 0.0
    limits: Limits = Limits()
    safety_limit: SmallCount | None = None
    ignore_frequency_caps: bool = False
    min_gap_seconds: Seconds = 0


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
    owner_email: str = ""

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
    """`country`: ISO 3166-1 alpha-2 of the recipient's phone. `provider_ids`, by priority, stand in for the group's."""

    country: Id
    provider_ids: list[Id]


class ProviderGroupDefinition(Struct, frozen=True):
    """`failover_on_rate_limit`: a text for which its provider has no rate left goes to the next one at once, in place
    of waiting for its turn."""

    group_id: Id
    version: SmallCount
    name: str
    provider_ids: list[Id]
    is_default: bool = False
    routes: list[Route] = []
    deleted: bool = False
    failover_on_rate_limit: bool = False


class FrequencyCap(Struct, frozen=True):
    """At most `count` texts to one person in `days` local days of theirs, today included."""

    count: SmallCount
    days: SmallCount


class KeywordReplies(Struct, frozen=True, omit_defaults=True):
    """What people are answered who send STOP, START or HELP. `texts`: keyword → language → text, in place of ours;
    `off`: keywords that are not answered; `language`: of words that several languages have."""

    language: Id = "en"
    texts: dict[str, dict[str, str]] = {}
    off: list[Id] = []


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
    frequency_caps: list[FrequencyCap] = []
    min_gap_seconds: Seconds = 0
    quiet_hours: QuietHours = QuietHours()
    control_percent: float = 0.0
    smtp_from: str = ""
    keyword_replies: KeywordReplies = KeywordReplies()


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
