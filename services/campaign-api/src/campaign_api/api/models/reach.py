"""Estimates: what is asked, and how many people, texts, parts and how much money it comes to."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from campaign_api.api.models.base import Model
from campaign_api.api.models.segments import EXAMPLE_RULE, RULE_MARK


class TextToTry(Model):
    """A text, as in a campaign's `what`."""

    body: str = Field(min_length=1, max_length=5_000, description="Liquid over Profile.*.")
    fallback_body: str | None = Field(
        None, max_length=5_000, description="Tried instead when a value without default is missing; null: none."
    )
    max_parts: Annotated[int, Field(ge=1, le=30)] | None = Field(
        None, description="A longer text is not sent. Null: the account's."
    )
    transliterate: bool | None = Field(
        None, description="Typographic characters become plain ones where that saves parts. Null: the account's."
    )


class EstimateIn(Model):
    """Exactly one of `rule` and `segment_id`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"rule": EXAMPLE_RULE, "what": {"body": 'Hi {{ Profile.first_name | default: "there" }}, 20% off.'}}
            ]
        }
    )

    rule: dict[str, Any] | None = Field(
        None,
        description="A rule that is not saved.",
        json_schema_extra={"anyOf": [RULE_MARK, {"type": "null"}]},
    )
    segment_id: str | None = Field(None, max_length=64, description="A saved segment.")
    what: TextToTry | None = Field(
        None, description="A text to try on a sample of those reachable: parts and cost are answered then."
    )


class NotReached(Model):
    status: str = Field(description="unreachable, suppressed or duplicate_phone.")
    reason: str | None = Field(description="Of unreachable: no_valid_phone or no_consent.")
    n: int = Field(description="How many people. The first that applies counts, in the order of `status` above.")


class InZone(Model):
    zone: str = Field(description="IANA zone a person is texted in: their own, the phone country's, the account's.")
    qualified: int = Field(description="People in it.")
    reachable: int = Field(description="Of these, reachable.")


class InCountry(Model):
    country: str | None = Field(
        description="ISO 3166-1 alpha-2 of the phone, else what the profile says; null: not known."
    )
    qualified: int = Field(description="People in it.")
    reachable: int = Field(description="Of these, reachable.")


class Activity(Model):
    """Of a live campaign: nobody knows who will act, so this says who did."""

    days: int | None = Field(description="How many days were looked at; null for a date of the profile.")
    events: int | None = Field(description="How often the event came in these days, with the trigger's filters.")
    people: int | None = Field(description="How many people it came from.")
    filter_holds: int | None = Field(description="People for whom the campaign's `filter` holds now; null without one.")


class Failure(Model):
    status: str = Field(description="personalisation_failed or aborted.")
    reason: str | None = Field(description="missing_value, too_many_parts, …, or the author's own for aborted.")
    n: int = Field(description="How many of the sample.")


class Sample(Model):
    size: int = Field(
        description="People of the sample, at most 200 of those reachable; the same ones each time as long as they are."
    )
    rendered: int = Field(description="Of these, with a text that could be sent.")
    failed_share: float = Field(description="Share of the sample, 0 to 1, whose text would not be sent.")
    failures: list[Failure] = Field(description="Why not, most frequent first.")


class Parts(Model):
    min: int = Field(description="Parts of the shortest text of the sample.")
    mean: float = Field(description="Parts on average.")
    max: int = Field(description="Parts of the longest.")


class Cost(Model):
    price_per_part: str = Field(description="The price that was used, a decimal string.")
    total: str = Field(
        description="`texts` × the sample's mean parts × price, texts that would fail left out; a decimal string."
    )


class Reach(Model):
    """qualified = reachable + unreachable + suppressed + duplicate_phone. Computed anew, after everything that was sent
    before the request. Of those reachable, `control` and `not_in_reach` are left out, and `limited` are above the
    limits of one run, `capped` by frequency caps and gaps. Quiet hours are not looked at."""

    qualified: int = Field(
        description="People for whom the rule holds now. Live: who did the trigger's event in the last days (or has "
        "the date), and for whom the filter holds now."
    )
    reachable: int = Field(
        description="Of these: valid phone, consent, not suppressed, and, unless live, one person per phone."
    )
    unreachable: int = Field(description="No valid phone or no consent.")
    suppressed: int = Field(description="The phone must not be texted.")
    duplicate_phone: int = Field(description="The same phone as somebody who comes before by user_id; live: 0.")
    by_reason: list[NotReached] = Field(description="Those who are not reachable, most people first.")
    by_zone: list[InZone] = Field(description="Sums to the whole; most people first.")
    by_country: list[InCountry] = Field(description="Sums to the whole; most people first.")
    activity: Activity | None = Field(description="Live campaigns only.")
    control: int = Field(description="Of the reachable: in a control group, the account's or the campaign's.")
    not_in_reach: int = Field(description="Of the reachable: beyond `reach_percent`. Each run reaches others.")
    limited: int = Field(description="Above the limit of a run, and of the whole campaign if nothing was sent yet.")
    capped: int | None = Field(
        description="By what is sent or reserved now: told from up to 1,000 people, and counted up. Null: not known, "
        "since the scheduler does not answer; `texts`, `minutes` and `cost` are then before caps."
    )
    exceeds_safety_limit: bool = Field(description="The run would not start.")
    minutes: float | None = Field(
        description="How long handing the texts of a run over takes, by its throttle or by the `parts_per_second` of "
        "the provider that is tried first, whichever is slower; null when nothing limits it, and of live campaigns."
    )
    cut_by_deadline: bool = Field(
        description="With all due at one moment that is too slow for `send_by`: the rest would expire. Live: more "
        "texts come than leave."
    )
    texts: int = Field(
        description="Texts that would go out: one to each who is left; live: in as many days as `activity` looked "
        "at, if people go on as they did."
    )
    sample: Sample | None = Field(description="The text tried on real profiles and events; null without a text.")
    parts: Parts | None = Field(description="Of the texts of the sample; null when there is none.")
    cost: Cost | None = Field(description="Null without a `price_per_part` (provider, settings), or without a sample.")
