"""Providers, a kind a model. Which settings and credentials a kind takes is the table `contracts.provider_fields`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from campaign_api.api.models.account import Price
from campaign_api.api.models.base import Framed, Given, Model, Writable
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


def _settings(kind: str, description: str = "The account at the vendor.") -> Any:
    schema = _schema(PROVIDER_KINDS[kind].settings)
    if schema["required"]:
        return Field(description=description, json_schema_extra=schema)
    return Field(default_factory=dict, description=description, json_schema_extra=schema)


def _credentials(kind: str) -> Any:
    fields = PROVIDER_KINDS[kind].credentials
    kept = "Write-only. Needed to create; left out of a PUT, those stored are kept."
    return Field(
        None,
        description=kept if fields else "None.",
        json_schema_extra={"anyOf": [_schema(fields, secret=True), {"type": "null"}], "writeOnly": True},
    )


def _example(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [example]})


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
    model_config = _example(
        {
            "name": "Twilio, New York",
            "kind": "twilio",
            "settings": {"account_sid": "AC00000000000000000000000000000000", "from": "+15550100100"},
            "credentials": {"auth_token": "0123456789abcdef0123456789abcdef"},
            "parts_per_second": 50,
        }
    )

    kind: Literal["twilio"] = Field(description="Programmable Messaging of Twilio.")
    settings: dict[str, Any] = _settings("twilio")
    credentials: dict[str, Any] | None = _credentials("twilio")


class VonageIn(ProviderBase):
    model_config = _example(
        {
            "name": "Vonage, Europe",
            "kind": "vonage",
            "settings": {"api_key": "abcd1234", "from": "Acme", "signature_method": "sha256"},
            "credentials": {"api_secret": "0123456789abcdef", "signature_secret": "0123456789abcdef01234567"},
            "parts_per_second": 30,
        }
    )

    kind: Literal["vonage"] = Field(description="SMS API of Vonage, formerly Nexmo.")
    settings: dict[str, Any] = _settings("vonage")
    credentials: dict[str, Any] | None = _credentials("vonage")


class Msg91In(ProviderBase):
    model_config = _example(
        {
            "name": "MSG91",
            "kind": "msg91",
            "settings": {"sender": "ACMESH", "webhook_version": "v3"},
            "credentials": {"auth_key": "000000A0b1C2d3E4f5G6h7"},
            "parts_per_second": 50,
        }
    )

    kind: Literal["msg91"] = Field(description="Flow API of MSG91: sends templates, takes no body.")
    settings: dict[str, Any] = _settings("msg91")
    credentials: dict[str, Any] | None = _credentials("msg91")


class ExotelIn(ProviderBase):
    model_config = _example(
        {
            "name": "Exotel, Mumbai",
            "kind": "exotel",
            "settings": {
                "account_sid": "acme1",
                "sender_id": "ACMESH",
                "dlt_entity_id": "1201159141940678598",
                "subdomain": "api.in.exotel.com",
            },
            "credentials": {"api_key": "0123456789abcdef", "api_token": "fedcba9876543210"},
            "parts_per_second": 3,
        }
    )

    kind: Literal["exotel"] = Field(description="SMS API of Exotel.")
    settings: dict[str, Any] = _settings("exotel")
    credentials: dict[str, Any] | None = _credentials("exotel")


class NetcoreIn(ProviderBase):
    model_config = _example(
        {
            "name": "Netcore",
            "kind": "netcore",
            "settings": {"feed_id": "390000", "sender_id": "ACMESH"},
            "credentials": {"username": "9800000000", "password": "0123456789"},
            "parts_per_second": 20,
        }
    )

    kind: Literal["netcore"] = Field(description="BulkSMS of Netcore (mytoday); not verified against a live account.")
    settings: dict[str, Any] = _settings("netcore")
    credentials: dict[str, Any] | None = _credentials("netcore")


class GenericIn(ProviderBase):
    model_config = _example(
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
                "reply": {"records": {"list": "/messages", "match": "reference", "key": "/ref", "message_id": "/id"}},
                "receipts": "clevertap",
            },
            "credentials": {"client_secret": "0123456789abcdef"},
            "parts_per_second": 100,
        }
    )

    kind: Literal["generic"] = Field(description="Any HTTP API, by configuration: docs/providers.md.")
    settings: dict[str, Any] = _settings("generic", "Request, authentication and reply.")
    credentials: dict[str, Any] | None = _credentials("generic")


class SandboxIn(ProviderBase):
    model_config = _example(
        {"name": "Sandbox", "kind": "sandbox", "settings": {"outcome": "accept", "receipt": "delivered"}}
    )

    kind: Literal["sandbox"] = Field(description="Keeps texts in an inbox one can look at; sends nothing.")
    settings: dict[str, Any] = _settings("sandbox", "How it behaves.")
    credentials: dict[str, Any] | None = _credentials("sandbox")


class WhatField(Model):
    """A field of a campaign's `what`, for whoever draws a form."""

    name: str = Field(description="body, fallback_body, template_id, template_variables or a class of pairs.")
    required: bool = Field(description="Whether a campaign has to give it.")
    max_length: int | None = Field(description="Most characters, rendered: of each value, where it has several.")
    max_count: int | None = Field(description="Most values, where it has several.")
    names: list[str] = Field(description="Of pairs: names that the provider's configuration has; each needs a value.")
    may_add: bool = Field(description="Of pairs: whether a campaign may give others.")
    taken: list[str] = Field(description="Of pairs: names that a campaign may not give.")
    personalised: bool = Field(description="Whether its value may differ from person to person.")


class ProviderOut(Framed):
    name: str = Field(description="What people call it.")
    parts_per_second: float | None = Field(description="Most message parts handed over per second; null: no limit.")
    price_per_part: str | None = Field(None, description="What it takes for a message part; null: the account's.")
    callback_url: str = Field(description="Where the vendor sends receipts; a secret is part of it.")
    inbound_url: str = Field(description="Where the vendor sends texts from people; a secret is part of it.")
    what_fields: list[WhatField] = Field(description="Fields of a campaign's `what` that it takes, and no others.")
    status: Literal["active", "archived"] = Field(description="An archived provider is given no new texts.")


class Twilio(ProviderOut):
    kind: Literal["twilio"] = Field(description="Programmable Messaging of Twilio.")
    settings: dict[str, Any] = Field(description="The account at the vendor.")


class Vonage(ProviderOut):
    kind: Literal["vonage"] = Field(description="SMS API of Vonage, formerly Nexmo.")
    settings: dict[str, Any] = Field(description="The account at the vendor.")


class Msg91(ProviderOut):
    kind: Literal["msg91"] = Field(description="Flow API of MSG91: sends templates, takes no body.")
    settings: dict[str, Any] = Field(description="The account at the vendor.")


class Exotel(ProviderOut):
    kind: Literal["exotel"] = Field(description="SMS API of Exotel.")
    settings: dict[str, Any] = Field(description="The account at the vendor.")


class Netcore(ProviderOut):
    kind: Literal["netcore"] = Field(description="BulkSMS of Netcore (mytoday); not verified against a live account.")
    settings: dict[str, Any] = Field(description="The account at the vendor.")


class Generic(ProviderOut):
    kind: Literal["generic"] = Field(description="Any HTTP API, by configuration: docs/providers.md.")
    settings: dict[str, Any] = Field(description="Request, authentication and reply.")


class Sandbox(ProviderOut):
    kind: Literal["sandbox"] = Field(description="Keeps texts in an inbox one can look at; sends nothing.")
    settings: dict[str, Any] = Field(description="How it behaves.")
