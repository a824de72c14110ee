"""Providers and groups. Which settings and credentials a kind takes is the table `contracts.provider_fields`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from campaign_api.api.models.account import Price
from campaign_api.api.models.base import Framed, Given, Model, NotBuilt, Writable
from postrider.contracts.provider_fields import MAX_PARTS_PER_SECOND, PROVIDER_KINDS, ProviderField


def _schema(fields: tuple[ProviderField, ...], *, secret: bool = False) -> dict[str, Any]:
    """The table as JSON Schema, for the document only: the check with its messages is check_provider."""
    properties = {}
    for field in fields:
        kind = {"number": "number", "integer": "integer", "object": "object", "list": "array"}.get(field.type, "string")
        shape: dict[str, Any] = {"type": kind if field.required else [kind, "null"], "description": field.description}
        if field.choices:
            shape["enum"] = [*field.choices] if field.required else [*field.choices, None]
        if field.pattern:
            shape["pattern"] = f"^({field.pattern})$"
        if field.default is not None:
            shape["default"] = field.default
        if field.minimum is not None:
            shape["minimum"] = field.minimum
        if field.maximum is not None:
            shape["maximum"] = field.maximum
        if secret:
            shape["writeOnly"] = True
        properties[field.name] = shape
    required = [field.name for field in fields if field.required]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


class ProviderBase(Writable):
    name: str = Field(min_length=1, max_length=200, description="What people call it.")
    parts_per_second: Annotated[float, Field(gt=0, le=MAX_PARTS_PER_SECOND)] | None = Field(
        None, description="Most message parts handed over per second; null: no limit."
    )
    price_per_part: Price | None = Field(
        None, description="What it takes for a message part, for estimates; null: the account's."
    )
    callback_url: Given = Field(None, description="Read-only: where the vendor sends receipts.")
    inbound_url: Given = Field(None, description="Read-only: where the vendor sends texts from people.")
    what_fields: Given = Field(None, description="Read-only: fields of a campaign's `what` that it takes.")
    status: Given = Field(None, description="Read-only: active or archived.")

    def content(self) -> dict[str, Any]:
        body = super().content()
        body.pop("credentials", None)
        body["settings"] = {name: value for name, value in body["settings"].items() if value is not None}
        return body


class TwilioIn(ProviderBase):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "Twilio, New York",
                    "kind": "twilio",
                    "settings": {"account_sid": "AC00000000000000000000000000000000", "from": "+15550100100"},
                    "credentials": {"auth_token": "0123456789abcdef0123456789abcdef"},
                    "parts_per_second": 50,
                }
            ]
        }
    )

    kind: Literal["twilio"] = Field(description="Programmable Messaging of Twilio.")
    settings: dict[str, Any] = Field(
        description="The account at the vendor.", json_schema_extra=_schema(PROVIDER_KINDS["twilio"].settings)
    )
    credentials: dict[str, Any] | None = Field(
        None,
        description="Write-only. Needed to create; left out of a PUT, those stored are kept.",
        json_schema_extra={
            "anyOf": [_schema(PROVIDER_KINDS["twilio"].credentials, secret=True), {"type": "null"}],
            "writeOnly": True,
        },
    )


class SandboxIn(ProviderBase):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"name": "Sandbox", "kind": "sandbox", "settings": {"outcome": "accept", "receipt": "delivered"}}
            ]
        }
    )

    kind: Literal["sandbox"] = Field(description="Keeps texts in an inbox one can look at; sends nothing.")
    settings: dict[str, Any] = Field(
        default_factory=dict,
        description="How it behaves.",
        json_schema_extra=_schema(PROVIDER_KINDS["sandbox"].settings),
    )
    credentials: dict[str, Any] | None = Field(
        None, description="None.", json_schema_extra={"anyOf": [_schema(()), {"type": "null"}], "writeOnly": True}
    )


class GenericIn(ProviderBase):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "Our gateway",
                    "kind": "generic",
                    "settings": {
                        "url": "https://sms.example.com/v2/messages",
                        "json": {
                            "sender": "ACME",
                            "messages": [{"to": "$$To", "text": "$$Body", "ref": "$$MessageID"}],
                        },
                        "batch": {"key": "messages", "size": 100},
                        "auth": {
                            "type": "oauth2",
                            "token_url": "https://login.example.com/oauth/token",
                            "client_id": "acme",
                        },
                        "reply": {
                            "records": {"list": "/messages", "match": "reference", "key": "/ref", "message_id": "/id"}
                        },
                        "receipts": "clevertap",
                    },
                    "credentials": {"client_secret": "0123456789abcdef"},
                    "parts_per_second": 100,
                }
            ]
        }
    )

    kind: Literal["generic"] = Field(description="Any HTTP API, by configuration: docs/providers.md.")
    settings: dict[str, Any] = Field(
        description="Request, authentication and reply.", json_schema_extra=_schema(PROVIDER_KINDS["generic"].settings)
    )
    credentials: dict[str, Any] | None = Field(
        None,
        description="Write-only, by `settings.auth` and `settings.secrets`. Left out of a PUT, those stored are kept.",
        json_schema_extra={
            "anyOf": [_schema(PROVIDER_KINDS["generic"].credentials, secret=True), {"type": "null"}],
            "writeOnly": True,
        },
    )


class NetcoreIn(ProviderBase):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "Netcore",
                    "kind": "netcore",
                    "settings": {"feed_id": "390000", "sender_id": "ACMESH"},
                    "credentials": {"username": "9800000000", "password": "0123456789"},
                    "parts_per_second": 20,
                }
            ]
        }
    )

    kind: Literal["netcore"] = Field(description="BulkSMS of Netcore (mytoday); not verified against a live account.")
    settings: dict[str, Any] = Field(
        description="The account at the vendor.", json_schema_extra=_schema(PROVIDER_KINDS["netcore"].settings)
    )
    credentials: dict[str, Any] | None = Field(
        None,
        description="Write-only. Needed to create; left out of a PUT, those stored are kept.",
        json_schema_extra={
            "anyOf": [_schema(PROVIDER_KINDS["netcore"].credentials, secret=True), {"type": "null"}],
            "writeOnly": True,
        },
    )


ProviderIn = Annotated[TwilioIn | SandboxIn | GenericIn | NetcoreIn, Field(discriminator="kind")]


class ProviderOut(Framed):
    name: str = Field(description="What people call it.")
    parts_per_second: float | None = Field(description="Most message parts handed over per second; null: no limit.")
    price_per_part: str | None = Field(None, description="What it takes for a message part; null: the account's.")
    callback_url: str = Field(description="Where the vendor sends receipts; a secret is part of it.")
    inbound_url: str = Field(description="Where the vendor sends texts from people; a secret is part of it.")
    what_fields: list[str] = Field(description="Fields of a campaign's `what` that it takes.")
    status: Literal["active", "archived"] = Field(description="An archived provider is given no new texts.")


class Twilio(ProviderOut):
    kind: Literal["twilio"] = Field(description="Programmable Messaging of Twilio.")
    settings: dict[str, Any] = Field(description="The account at the vendor.")


class Sandbox(ProviderOut):
    kind: Literal["sandbox"] = Field(description="Keeps texts in an inbox one can look at; sends nothing.")
    settings: dict[str, Any] = Field(description="How it behaves.")


class Generic(ProviderOut):
    kind: Literal["generic"] = Field(description="Any HTTP API, by configuration: docs/providers.md.")
    settings: dict[str, Any] = Field(description="Request, authentication and reply.")


class Netcore(ProviderOut):
    kind: Literal["netcore"] = Field(description="BulkSMS of Netcore (mytoday).")
    settings: dict[str, Any] = Field(description="The account at the vendor.")


Provider = Annotated[Twilio | Sandbox | Generic | Netcore, Field(discriminator="kind")]


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
