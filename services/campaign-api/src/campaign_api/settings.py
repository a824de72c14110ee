"""The environment of campaign-api, read once at start. Nothing else reads it."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import NoDecode

from postrider.settings import ServiceSettings

DEVELOPMENT_KEY = "dev-admin-key"
_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:.]+\](:[0-9]{1,5})?")


class CampaignApiSettings(ServiceSettings):
    """What is missing or too short stops the start with a message that names the variable."""

    port: int = Field(8080, alias="POSTRIDER_API_PORT", ge=0, le=65_535)
    development: bool = Field(False, alias="POSTRIDER_DEVELOPMENT")
    """Allows the well-known key of `make run`."""
    bootstrap_key: SecretStr = Field(alias="POSTRIDER_BOOTSTRAP_KEY", min_length=12)
    """The first admin key; others are made with it."""
    sealing_public_key: bytes = Field(alias="POSTRIDER_SEALING_PUBLIC_KEY")
    """Base64 of the dispatcher's 32-byte X25519 key: provider credentials are sealed to it."""
    definitions_wait_seconds: float = Field(10.0, alias="POSTRIDER_DEFINITIONS_WAIT_SECONDS", gt=0)
    """How long an answer waits for the broker before it says 503."""

    cors_origins: Annotated[list[str], NoDecode] = Field(default_factory=list, alias="POSTRIDER_CORS_ORIGINS")
    """Origins, comma separated, whose pages may call the API from a browser: https://desk.example.com; `*`: all."""

    ingestion_wait_seconds: float = Field(8.0, alias="POSTRIDER_INGESTION_WAIT_SECONDS", gt=0)
    """How long track, identify and batch wait for the broker before they say 503: less than SDKs wait for an answer."""

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _origins(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        origins = [part.strip() for part in value.split(",") if part.strip()]
        if any(origin != "*" and not _ORIGIN.fullmatch(origin) for origin in origins):
            raise ValueError("must be origins such as https://desk.example.com (in lower case, no path), or *")
        return origins

    @field_validator("bootstrap_key")
    @classmethod
    def _not_the_development_key(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        if value.get_secret_value() == DEVELOPMENT_KEY and not info.data.get("development"):
            raise ValueError("is the development key: choose a secret of your own, or set POSTRIDER_DEVELOPMENT=1")
        return value

    @field_validator("sealing_public_key", mode="before")
    @classmethod
    def _decode(cls, value: object) -> bytes:
        try:
            key = base64.b64decode(str(value), validate=True)
        except (binascii.Error, ValueError) as error:
            raise ValueError("must be base64 of 32 bytes") from error
        if len(key) != 32:
            raise ValueError("must be base64 of 32 bytes")
        return key
