"""Provider groups, the sandbox's inbox, and providers of any kind."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from campaign_api.api.models.account import Country
from campaign_api.api.models.base import Framed, Given, Model, Writable
from campaign_api.api.models.provider_kinds import (
    Exotel,
    ExotelIn,
    Generic,
    GenericIn,
    Msg91,
    Msg91In,
    Netcore,
    NetcoreIn,
    Sandbox,
    SandboxIn,
    Twilio,
    TwilioIn,
    Vonage,
    VonageIn,
    WhatField,
)

ProviderIn = Annotated[
    TwilioIn | VonageIn | Msg91In | ExotelIn | NetcoreIn | GenericIn | SandboxIn, Field(discriminator="kind")
]
Provider = Annotated[Twilio | Vonage | Msg91 | Exotel | Netcore | Generic | Sandbox, Field(discriminator="kind")]


ProviderIds = Annotated[list[Annotated[str, Field(max_length=64)]], Field(min_length=1, max_length=10)]
MOST_ROUTES = 250


class Route(Model):
    """Texts to phones of a country go to these providers, and never to the group's own list."""

    country: Country = Field(description="Of the recipient's phone, ISO 3166-1 alpha-2; once in a group.")
    provider_ids: ProviderIds = Field(description="By priority, in place of the group's.")


class ProviderGroupIn(Writable):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "US",
                    "provider_ids": ["prv_01j8z3k5m7n9q1s3t5v7x9z1b3", "prv_01j8z3k5m7n9q1s3t5v7x9z1b4"],
                    "is_default": True,
                    "routes": [{"country": "IN", "provider_ids": ["prv_01j8z3k5m7n9q1s3t5v7x9z1b5"]}],
                    "failover_on_rate_limit": False,
                }
            ]
        }
    )

    name: str = Field(min_length=1, max_length=200, description="What people call it.")
    provider_ids: ProviderIds = Field(description="By priority: the next one takes over on a definite refusal.")
    is_default: bool = Field(
        False, description="Campaigns that name neither provider nor group go here. Taken from the former default."
    )
    routes: Annotated[list[Route], Field(max_length=MOST_ROUTES)] = Field(
        [], description="Routing by the recipient's country; all others go to `provider_ids`."
    )
    failover_on_rate_limit: bool = Field(
        False,
        description="A text for which its provider has no `parts_per_second` left goes to the next one at once. "
        "Otherwise it waits for its turn.",
    )
    what_fields: Given = Field(None, description="Read-only: what each active member takes of a campaign's `what`.")


class ProviderGroup(Framed):
    name: str = Field(description="What people call it.")
    provider_ids: list[str] = Field(description="By priority.")
    is_default: bool = Field(description="Campaigns that name neither provider nor group go here.")
    routes: list[Route] = Field(description="Routing by the recipient's country.")
    failover_on_rate_limit: bool = Field(description="Whether a text without a rate left goes to the next provider.")
    what_fields: dict[str, list[WhatField]] = Field(
        description="By provider id, of all active members, those of routes too: what each takes of a campaign's "
        "`what`. A campaign gives unlike ones their own in `by_provider`."
    )


class SandboxText(Model):
    model_config = ConfigDict(extra="allow")

    to: str = Field(description="E.164.")
    from_: str = Field(alias="from", description="The sender.")
    body: str = Field(description="The text as the phone got it.")
    campaign_id: str = Field(description="The campaign.")
    user_id: str = Field(description="The person.")
    provider_id: str = Field(description="The sandbox provider.")
    parts: int = Field(description="How many parts it has.")
    at: str = Field(description="When it was accepted, RFC 3339, UTC.")


class Inbox(Model):
    items: list[SandboxText] = Field(description="Newest first.")
    next_cursor: str | None = Field(description="`cursor` of the next page; null when this was the last.")
