"""Campaigns of the kinds built so far, what they are answered with, reports and the message log."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from campaign_api.api.models.base import Given, Model, NotBuilt, Writable
from campaign_api.api.models.segments import EXAMPLE_RULE, RULE_MARK
from campaign_api.api.models.triggers import DateTrigger, InactionTrigger, Trigger
from campaign_api.api.models.when import Duration, LiveWhen, MultipleDatesWhen, OneTimeWhen, RecurringWhen

_RULE_OR_NULL: dict[str, Any] = {"anyOf": [RULE_MARK, {"type": "null"}]}
MAX_COUNT = 2**31 - 1
CampaignStatus = Literal[
    "draft", "pending_approval", "scheduled", "running", "paused", "completed", "stopped", "rejected"
]


class Limits(Model):
    """At most so many texts; whoever is above is `limited`. Null: no limit."""

    total: Annotated[int, Field(ge=1, le=MAX_COUNT)] | None = Field(None, description="Of the campaign.")
    daily: Annotated[int, Field(ge=1, le=MAX_COUNT)] | None = Field(
        None, description="Of a day in the account's zone: live kinds, and time_zone user or best_time."
    )
    run: Annotated[int, Field(ge=1, le=MAX_COUNT)] | None = Field(
        None, description="Of each run of a scheduled kind: a random part of its audience."
    )


class HowMany(Model):
    """How many of those who qualify, and how often."""

    reach_percent: Annotated[float, Field(gt=0, le=100)] = Field(
        100, description="Part of those who qualify that is texted; the others are `not_in_reach`."
    )
    control_percent: Annotated[float, Field(ge=0, le=99)] = Field(
        0, description="Part kept as control group of this campaign, the same people each time: measured, not texted."
    )
    limits: Limits | None = Field(None, description="Null: none.")
    safety_limit: Annotated[int, Field(ge=1, le=MAX_COUNT)] | None = Field(
        None, description="A run that would text more people does not start, and `owner_email` is told. Null: none."
    )
    ignore_frequency_caps: bool = Field(False, description="Texts although the account's caps are reached.")
    min_gap: Duration | None = Field(
        None, description="Time between two texts of this campaign to one person, ISO 8601 duration; null: none."
    )


class AudienceWho(HowMany):
    """Exactly one of `rule` and `segment_id`."""

    rule: dict[str, Any] | None = Field(
        None, description="Who is meant, evaluated when the run starts.", json_schema_extra=_RULE_OR_NULL
    )
    segment_id: str | None = Field(None, max_length=64, description="A saved segment, as it is when the run starts.")


class LiveWho(HowMany):
    filter: dict[str, Any] | None = Field(
        None,
        description="A rule on past behaviour and attributes, evaluated when the text comes due, once history has the "
        "event itself. Null: nobody is left out.",
        json_schema_extra=_RULE_OR_NULL,
    )


class TriggerWho(LiveWho):
    trigger: Trigger = Field(description="Whoever does this gets the text.")


class InactionWho(LiveWho):
    trigger: InactionTrigger = Field(description="Whoever does this, and then not that, gets the text.")


class DateWho(LiveWho):
    trigger: DateTrigger = Field(description="Whose date this is gets the text.")


Value = Annotated[str, Field(max_length=5_000)]
Pairs = Annotated[dict[Annotated[str, Field(max_length=64)], Value], Field(max_length=50)]


class Content(Model):
    """What is sent: of these fields those that the provider takes, as its `what_fields` say."""

    body: str | None = Field(
        None,
        max_length=5_000,
        description="Liquid over Profile.*, Campaign.* and, live only, Event.*; "
        '`{{ Profile.first_name | default: "there" }}`.',
    )
    fallback_body: str | None = Field(
        None,
        max_length=5_000,
        description="Sent instead of `body` when a value of it without default is missing; null: nothing is.",
    )
    template_id: str | None = Field(
        None, min_length=1, max_length=5_000, description="Template at the vendor; one for the whole campaign."
    )
    template_variables: Annotated[list[Value], Field(max_length=50)] | None = Field(
        None, description="Liquid: what stands in the template's variables, in their order."
    )
    message_pairs: Pairs | None = Field(None, description="Name → Liquid: values of the text, for each person.")
    header_pairs: Pairs | None = Field(
        None, description="Name → Liquid: values of headers; of a provider with batches one for the whole campaign."
    )
    global_pairs: Pairs | None = Field(None, description="Name → Liquid over Campaign.*: one for the whole campaign.")


class What(Content):
    """What is sent, and by whom it is carried. Neither provider nor group: the default group."""

    by_provider: dict[Annotated[str, Field(max_length=64)], Content] | None = Field(
        None,
        description="Provider of the group → what is sent by it, in place of all of the fields above: for groups of "
        "unlike providers. Null: all of them are given the same.",
    )
    provider_id: str | None = Field(None, max_length=64, description="One provider.")
    provider_group_id: str | None = Field(None, max_length=64, description="A group of providers.")
    on_doubt: Literal["never_double", "may_double"] = Field(
        "never_double", description="When nobody can tell whether a text was sent: leave it `unknown`, or send again."
    )
    max_parts: Annotated[int, Field(ge=1, le=30)] | None = Field(
        None, description="A longer text is not sent. Null: the account's."
    )
    transliterate: bool | None = Field(
        None, description="Typographic characters become plain ones where that saves parts. Null: the account's."
    )
    variants: Annotated[Any, NotBuilt(None, [])] = Field(None, description="Not built yet: null.")
    linked_content: Annotated[Any, NotBuilt(None, [])] = Field(None, description="Not built yet: null.")
    shorten_links: Annotated[Any, NotBuilt(False, None)] = Field(False, description="Not built yet: false.")


class CampaignBase(Writable):
    name: str = Field(min_length=1, max_length=200, description="What people call it.")
    message_class: Literal["promotional", "transactional"] = Field(
        "promotional",
        description="Promotional texts obey legal quiet hours; transactional ones are exempt, and go out first.",
    )
    what: What = Field(description="What is sent.")
    conversion: Annotated[Any, NotBuilt(None)] = Field(None, description="Not built yet: null.")
    owner_email: str | None = Field(
        None, min_length=3, max_length=254, description="Who is told when the safety limit stops a run."
    )
    status: Given = Field(None, description="Read-only: changed by schedule, pause, resume, stop, approve and reject.")
    scheduled_at: Given = Field(None, description="Read-only: when it was scheduled.")
    end_reason: Given = Field(None, description="Read-only: why it ended, when not by finishing.")


class OneTimeIn(CampaignBase):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "Spring sale",
                    "kind": "one_time",
                    "message_class": "promotional",
                    "when": {
                        "at": "2030-12-01T09:00:00",
                        "time_zone": "user",
                        "passed_zone": "next_day",
                        "send_by": "PT4H",
                    },
                    "who": {"rule": EXAMPLE_RULE},
                    "what": {"body": 'Hi {{ Profile.first_name | default: "there" }}, 20% off today.'},
                }
            ]
        }
    )

    kind: Literal["one_time"] = Field(description="Once, at a date and time or now, to an audience.")
    when: OneTimeWhen = Field(description="When it fires.")
    who: AudienceWho = Field(description="Whom it is for.")


class MultipleDatesIn(CampaignBase):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "Advent",
                    "kind": "multiple_dates",
                    "when": {"at": ["2030-12-01T09:00:00", "2030-12-08T09:00:00"], "time_zone": "user"},
                    "who": {"rule": EXAMPLE_RULE},
                    "what": {"body": "Another door is open."},
                }
            ]
        }
    )

    kind: Literal["multiple_dates"] = Field(description="At each of a list of dates, the audience found anew.")
    when: MultipleDatesWhen = Field(description="When it fires.")
    who: AudienceWho = Field(description="Whom it is for.")


class RecurringIn(CampaignBase):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "Invoice reminder",
                    "kind": "recurring",
                    "message_class": "transactional",
                    "when": {
                        "recurrence": "FREQ=MONTHLY;BYMONTHDAY=31",
                        "times": ["09:00"],
                        "short_month": "last_day",
                        "time_zone": "user",
                    },
                    "who": {"rule": EXAMPLE_RULE, "limits": {"run": 1000}},
                    "what": {"body": "Your invoice is ready."},
                }
            ]
        }
    )

    kind: Literal["recurring"] = Field(description="Again and again, the audience found anew.")
    when: RecurringWhen = Field(description="When it fires.")
    who: AudienceWho = Field(description="Whom it is for.")


class LiveActionIn(CampaignBase):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "Thanks",
                    "kind": "live_action",
                    "message_class": "transactional",
                    "when": {"send_by": "PT15M"},
                    "who": {
                        "trigger": {
                            "event": "Order Completed",
                            "where": [{"property": "amount", "op": "gt", "value": 50}],
                        }
                    },
                    "what": {"body": "Thank you! We got your order of {{ Event.amount }} dollars."},
                }
            ]
        }
    )

    kind: Literal["live_action"] = Field(description="Whenever somebody does something.")
    when: LiveWhen = Field(default_factory=lambda: LiveWhen.model_validate({}), description="How long a text may take.")
    who: TriggerWho = Field(description="Whom it is for.")


class LiveInactionIn(CampaignBase):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "Cart left behind",
                    "kind": "live_inaction",
                    "when": {},
                    "who": {
                        "trigger": {
                            "event": "Added to Cart",
                            "unless": {"event": "Order Completed"},
                            "within": "PT30M",
                            "same_property": "cart_id",
                        }
                    },
                    "what": {"body": "Your cart of {{ Event.amount }} dollars is waiting."},
                }
            ]
        }
    )

    kind: Literal["live_inaction"] = Field(description="When somebody does something and then not something else.")
    when: LiveWhen = Field(default_factory=lambda: LiveWhen.model_validate({}), description="How long a text may take.")
    who: InactionWho = Field(description="Whom it is for.")


class LiveDateIn(CampaignBase):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "Birthday",
                    "kind": "live_date",
                    "when": {},
                    "who": {"trigger": {"date_attribute": "birthday", "yearly": True, "at_local_time": "09:00"}},
                    "what": {"body": 'Happy birthday, {{ Profile.first_name | default: "friend" }}!'},
                },
                {
                    "name": "The day before a trip",
                    "kind": "live_date",
                    "message_class": "transactional",
                    "when": {"send_by": "PT2H"},
                    "who": {
                        "trigger": {
                            "event": "Trip Booked",
                            "date_property": "departs_at",
                            "offset": "-P1D",
                            "at_local_time": "09:00",
                        }
                    },
                    "what": {"body": "Tomorrow you leave for {{ Event.destination }}."},
                },
            ]
        }
    )

    kind: Literal["live_date"] = Field(description="On a date of an event or of a profile.")
    when: LiveWhen = Field(default_factory=lambda: LiveWhen.model_validate({}), description="How long a text may take.")
    who: DateWho = Field(description="Whom it is for.")


CampaignIn = Annotated[
    OneTimeIn | MultipleDatesIn | RecurringIn | LiveActionIn | LiveInactionIn | LiveDateIn, Field(discriminator="kind")
]


class _Answered(Model):
    id: str = Field(description="Made by the server; sorts by creation.")
    created_at: str = Field(description="RFC 3339, UTC.")
    updated_at: str = Field(description="RFC 3339, UTC.")
    version: int = Field(description="Grows with each change, of the status too; also the ETag.")
    status: CampaignStatus = Field(
        description="draft → (pending_approval) → scheduled → running ⇄ paused → completed; stopped; rejected."
    )
    scheduled_at: str | None = Field(description="When it was scheduled, RFC 3339, UTC; null: never.")
    end_reason: str | None = Field(description="Why it ended, when not by finishing.")
    name: str = Field(description="What people call it.")
    message_class: str = Field(description="promotional or transactional.")
    what: What = Field(description="What is sent.")
    conversion: None = Field(description="Not built yet.")
    owner_email: str | None = Field(description="Who is told when the safety limit stops a run.")


class OneTime(_Answered):
    kind: Literal["one_time"] = Field(description="Once, at a date and time or now, to an audience.")
    when: OneTimeWhen = Field(description="When it fires.")
    who: AudienceWho = Field(description="Whom it is for.")


class MultipleDates(_Answered):
    kind: Literal["multiple_dates"] = Field(description="At each of a list of dates, the audience found anew.")
    when: MultipleDatesWhen = Field(description="When it fires.")
    who: AudienceWho = Field(description="Whom it is for.")


class Recurring(_Answered):
    kind: Literal["recurring"] = Field(description="Again and again, the audience found anew.")
    when: RecurringWhen = Field(description="When it fires.")
    who: AudienceWho = Field(description="Whom it is for.")


class LiveAction(_Answered):
    kind: Literal["live_action"] = Field(description="Whenever somebody does something.")
    when: LiveWhen = Field(description="How long a text may take.")
    who: TriggerWho = Field(description="Whom it is for.")


class LiveInaction(_Answered):
    kind: Literal["live_inaction"] = Field(description="When somebody does something and then not something else.")
    when: LiveWhen = Field(description="How long a text may take.")
    who: InactionWho = Field(description="Whom it is for.")


class LiveDate(_Answered):
    kind: Literal["live_date"] = Field(description="On a date of an event or of a profile.")
    when: LiveWhen = Field(description="How long a text may take.")
    who: DateWho = Field(description="Whom it is for.")


Campaign = Annotated[
    OneTime | MultipleDates | Recurring | LiveAction | LiveInaction | LiveDate, Field(discriminator="kind")
]


class PreviewIn(Model):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"profile": {"first_name": "Ada"}, "event": {"amount": 59.9}}]}
    )

    profile: dict[str, Any] = Field(default_factory=dict, description="Values of Profile.*.")
    event: dict[str, Any] = Field(default_factory=dict, description="Values of Event.*.")
