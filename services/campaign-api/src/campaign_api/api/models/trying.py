"""Trying providers and campaigns out: a verification, a test send."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from campaign_api.api.models.base import Model
from campaign_api.api.models.reports import Message


class Verification(Model):
    """What a harmless authenticated call at the vendor showed, a moment ago."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "ok": False,
                    "checked": True,
                    "reason": "20003",
                    "detail": "not verified: it refuses the credentials (code 20003)",
                    "checked_at": "2026-12-01T08:00:00.000Z",
                }
            ]
        }
    )

    ok: bool | None = Field(
        description="true: what is proven is in `detail`. false: it cannot send as it is set up. null: not checkable, "
        "nobody knows before a text is tried."
    )
    checked: bool = Field(description="Whether this kind has such a call.")
    reason: str | None = Field(description="Code of what is wrong: the vendor's, or a word of ours; null: nothing is.")
    detail: str = Field(description="In words. Holds no secret.")
    checked_at: str = Field(description="RFC 3339, UTC.")


class TriedValues(Model):
    to: str = Field(
        min_length=1,
        max_length=64,
        description="E.164, or any spelling the default country explains.",
    )
    user_id: Annotated[str, Field(min_length=1, max_length=256)] | None = Field(
        None, description="Person whose values `Profile.*` has. The text goes to `to` all the same."
    )
    profile: dict[str, Any] = Field(default_factory=dict, description="Values of `Profile.*`, before the person's.")
    event: dict[str, Any] = Field(default_factory=dict, description="Values of `Event.*`.")


class ProviderTestIn(TriedValues):
    """What `what_fields` of the provider says: a `body`, or a template and its values. Liquid may stand in each."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"to": "+12025550142", "body": "This is a test."},
                {"to": "+919876500007", "template_id": "flow-17", "template_variables": ["Ada"]},
            ]
        }
    )

    body: str | None = Field(None, max_length=5_000, description="The text.")
    template_id: str | None = Field(None, max_length=5_000, description="The vendor's template.")
    template_variables: list[str] = Field([], max_length=50, description="Its variables, in their order.")
    message_pairs: dict[str, str] = Field({}, max_length=50, description="Pairs of the text.")
    header_pairs: dict[str, str] = Field({}, max_length=50, description="Pairs of headers.")
    global_pairs: dict[str, str] = Field({}, max_length=50, description="Pairs of the campaign.")


class CampaignTestIn(TriedValues):
    """The campaign's own text, in any state of it, or the `body` given here."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"to": "+12025550142", "user_id": "u-42"},
                {"to": "+12025550142", "profile": {"first_name": "Ada"}, "event": {"amount": 59.9}},
            ]
        }
    )

    provider_id: Annotated[str, Field(max_length=64)] | None = Field(
        None, description="By this provider, and no other. By default as the campaign's texts go, failover included."
    )
    body: str | None = Field(None, max_length=5_000, description="In place of the campaign's text.")


class TestSend(Message):
    """A text that was tried, as the message log shows it."""

    __test__ = False

    test: Literal[True] = Field(description="Outside of caps, limits, hours, funnels and reports.")
