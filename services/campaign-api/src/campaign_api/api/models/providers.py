"""Provider groups, the sandbox's inbox, and providers of any kind."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from campaign_api.api.models.base import Framed, Model, NotBuilt, Writable
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
)

ProviderIn = Annotated[
    TwilioIn | VonageIn | Msg91In | ExotelIn | NetcoreIn | GenericIn | SandboxIn, Field(discriminator="kind")
]
Provider = Annotated[Twilio | Vonage | Msg91 | Exotel | Netcore | Generic | Sandbox, Field(discriminator="kind")]


class ProviderGroupIn(Writable):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "US",
                    "provider_ids": ["prv_01j8z3k5m7n9q1s3t5v7x9z1b3", "prv_01j8z3k5m7n9q1s3t5v7x9z1b4"],
                    "is_default": True,
                }
            ]
        }
    )

    name: str = Field(min_length=1, max_length=200, description="What people call it.")
    provider_ids: list[Annotated[str, Field(max_length=64)]] = Field(
        min_length=1, max_length=10, description="By priority: the next one takes over on a definite refusal."
    )
    is_default: bool = Field(
        False, description="Campaigns that name neither provider nor group go here. Taken from the former default."
    )
    routes: Annotated[Any, NotBuilt([], None)] = Field([], description="Routing by country. Not built yet: empty.")


class ProviderGroup(Framed):
    name: str = Field(description="What people call it.")
    provider_ids: list[str] = Field(description="By priority.")
    is_default: bool = Field(description="Campaigns that name neither provider nor group go here.")
    routes: list[Any] | None = Field(description="Routing by country.")


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
