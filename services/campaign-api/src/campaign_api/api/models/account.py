"""Settings, API keys, suppressions."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from campaign_api.api.models.base import Model, NotBuilt, Writable
from campaign_api.api.models.when import QuietHours
from campaign_api.domain.costs import PRICE_PATTERN

Price = Annotated[str, Field(max_length=20, pattern=PRICE_PATTERN)]
"""A decimal string, in whatever currency the account counts."""
Country = Annotated[str, Field(pattern="^[A-Z]{2}$")]
Scope = Literal["admin", "campaigns:write", "campaigns:read", "events:write", "providers:write"]


class SendBy(Model):
    scheduled: str | None = Field(
        None, max_length=40, description="Deadline of scheduled campaigns, ISO 8601 duration; null: PT4H."
    )
    live: str | None = Field(None, max_length=40, description="Deadline of live campaigns; null: PT15M.")


_DAYS = r"^P([1-9][0-9]?)D$|^P([1-9]|1[0-2])W$"


def _is_days(value: str) -> str:
    if not re.fullmatch(_DAYS, value):
        raise PydanticCustomError("days", "must be whole days or weeks: P1D to P99D, P1W to P12W")
    return value


class FrequencyCap(Model):
    count: Annotated[int, Field(ge=1, le=1_000)] = Field(description="So many texts.")
    per: Annotated[str, AfterValidator(_is_days), Field(json_schema_extra={"pattern": _DAYS})] = Field(
        description="In so many local days of the recipient, today included: P1D to P99D, P1W to P12W."
    )


ReplyText = Annotated[str, Field(min_length=1, max_length=480, pattern=r"^[^\x00]*[^\s\x00][^\x00]*$")]
ReplyTexts = Annotated[dict[Annotated[str, Field(pattern="^[a-z]{2}$")], ReplyText], Field(max_length=50)]


class KeywordReplies(Model):
    """What a person is answered who sends STOP, START or HELP, in the language of the word (docs/providers.md)."""

    language: str = Field(
        "en", pattern="^[a-z]{2}$", description="ISO 639-1: for words that several languages have, STOP itself too."
    )
    stop: ReplyTexts | None = Field(None, description="Texts by language, in place of ours; null: ours.")
    start: ReplyTexts | None = Field(None, description="The same for START.")
    help: ReplyTexts | None = Field(None, description="The same for HELP: say who you are and how you are reached.")
    off: Annotated[list[Literal["stop", "start", "help"]], Field(max_length=3)] = Field(
        [], description="Keywords that are not answered. They are obeyed all the same."
    )


class SettingsIn(Writable):
    """What holds for the whole account. What is left out takes its default."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "account_time_zone": "America/New_York",
                    "default_country": "US",
                    "require_consent": False,
                    "send_by": {"scheduled": "PT4H", "live": "PT15M"},
                    "price_per_part": "0.0079",
                    "keyword_replies": {"help": {"en": "Acme texts. Call +1 202 555 0100. Reply STOP to opt out."}},
                }
            ]
        }
    )

    account_time_zone: str = Field(
        "UTC", max_length=64, description="IANA zone of everything that is not in a recipient's own time."
    )
    default_country: Country | None = Field(
        None, description="ISO 3166-1 alpha-2: how phones without a country code are read."
    )
    require_consent: bool = Field(False, description="Only people with the trait sms_consent: true are texted.")
    max_parts: Annotated[int, Field(ge=1, le=30)] | None = Field(
        None, description="Longest text in parts, unless the campaign says otherwise; null: no limit."
    )
    transliterate: bool = Field(
        False, description="Typographic characters become plain ones where that saves parts, unless a campaign differs."
    )
    send_by: SendBy | None = Field(None, description="Deadlines of campaigns that name none.")
    price_per_part: Price | None = Field(
        None,
        description="What a message part costs, for estimates, unless its provider says otherwise; null: not known.",
    )
    approval_required: bool = Field(False, description="A campaign runs only when an admin has approved it.")
    frequency_caps: Annotated[list[FrequencyCap], Field(max_length=5)] = Field(
        [], description="Most texts to one person, of all campaigns that do not ignore caps; more are `capped`."
    )
    min_gap: Annotated[str, Field(max_length=40)] | None = Field(
        None, description="Time between two texts to one person, ISO 8601 duration; null: none."
    )
    quiet_hours: QuietHours | None = Field(None, description="Of campaigns that have none of their own; null: none.")
    control_percent: Annotated[float, Field(ge=0, le=50)] = Field(
        0,
        description="Part of all people that no campaign texts, to measure what texts do: 0, or 2 to 5 as a rule.",
    )
    click_domain: Annotated[Any, NotBuilt(None)] = Field(None, description="Not built yet: null.")
    smtp_from: str | None = Field(
        None, min_length=3, max_length=254, description="Sender of e-mails to owners of campaigns; null: none is sent."
    )
    keyword_replies: KeywordReplies | None = Field(
        None, description="Answers to STOP, START and HELP; null: ours, in English where the word has no language."
    )


class Settings(SettingsIn):
    id: str = Field(description='Always "account".')
    created_at: str = Field(description="RFC 3339, UTC.")
    updated_at: str = Field(description="RFC 3339, UTC.")
    version: int = Field(description="Grows with each change; also the ETag.")


class ApiKeyIn(Model):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "web shop", "scopes": ["events:write"], "expires_at": None}]}
    )

    name: str = Field(min_length=1, max_length=200, description="What the key is for.")
    scopes: list[Scope] = Field(min_length=1, max_length=5, description="What it may do.")
    expires_at: str | None = Field(
        None, max_length=40, description="RFC 3339 with offset: not valid from then on; null: never."
    )


class ApiKey(Model):
    id: str = Field(description="Made by the server.")
    name: str = Field(description="What the key is for.")
    scopes: list[Scope] = Field(description="What it may do.")
    expires_at: str | None = Field(description="RFC 3339, UTC; null: never.")
    created_at: str = Field(description="RFC 3339, UTC.")
    updated_at: str = Field(description="RFC 3339, UTC.")
    version: int = Field(description="Always 1: a key does not change.")


class NewApiKey(ApiKey):
    key: str | None = Field(description="The key itself, shown this once; null when a creation is repeated.")


class SuppressionIn(Model):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"phone": "+15550100123", "reason": "blocked", "source": "support desk"}]}
    )

    phone: str = Field(min_length=1, max_length=64, description="E.164, or any spelling the default country explains.")
    reason: Literal["opted_out", "provider_opt_out", "blocked", "complaint"] = Field(description="Why.")
    source: str = Field("api", max_length=200, description="Who says so: free text.")


class Suppression(Model):
    model_config = ConfigDict(extra="allow")

    phone: str = Field(description="E.164.")
    reason: str = Field(description="Why.")
    source: str = Field(description="Who said so.")


PREFILLED: dict[str, Any] = SettingsIn.model_validate({}).content()
"""The settings of a new account."""
