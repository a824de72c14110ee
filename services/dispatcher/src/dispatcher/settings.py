"""The dispatcher's settings: the only reader of its environment."""

from __future__ import annotations

import base64
import binascii

from pydantic import Field, SecretStr, field_validator

from postrider.settings import ServiceSettings


class Settings(ServiceSettings):
    port: int = Field(8081, alias="POSTRIDER_DISPATCHER_PORT", ge=0, le=65_535)
    sealing_private_key: SecretStr = Field(alias="POSTRIDER_SEALING_PRIVATE_KEY")
    """Base64 of the 32 bytes that open provider credentials. No other service has it."""
    sealing_previous_private_key: SecretStr | None = Field(None, alias="POSTRIDER_SEALING_PREVIOUS_PRIVATE_KEY")
    """While the key is changed: the one before it, which opens what was sealed to it."""
    phone_hash_key: SecretStr = Field(alias="POSTRIDER_PHONE_HASH_KEY")
    """Hex, at least 16 bytes: the key of the HMAC under which suppressed phones travel."""
    concurrency: int = Field(192, alias="POSTRIDER_DISPATCHER_CONCURRENCY", ge=1, le=1_000)
    """Calls under way at one provider, at most, in this process: enough for 2,000 texts a second where a provider takes
    50 ms. A crash leaves no more than these in doubt."""
    look_ups: int = Field(8, alias="POSTRIDER_DISPATCHER_LOOK_UPS", ge=1, le=100)
    """Look-ups under way at one provider, at most, in this process."""
    database_connections: int = Field(16, alias="POSTRIDER_DISPATCHER_DATABASE_CONNECTIONS", ge=4, le=100)
    retention_days: int = Field(30, alias="POSTRIDER_DISPATCHER_RETENTION_DAYS", ge=3, le=3_650)
    """How long the ledger remembers a message that is over, its receipts, inbound texts and the sandbox's inbox. It is
    what keeps a repeated send job to one text, so it is longer than the send-jobs topics keep theirs (2 days)."""
    max_callback_bytes: int = Field(65_536, alias="POSTRIDER_DISPATCHER_MAX_CALLBACK_BYTES", ge=1_024)

    @field_validator("sealing_previous_private_key")
    @classmethod
    def _is_none_or_a_key(cls, value: SecretStr | None) -> SecretStr | None:
        return cls._is_a_key(value) if value is not None and value.get_secret_value() else None

    @field_validator("sealing_private_key")
    @classmethod
    def _is_a_key(cls, value: SecretStr) -> SecretStr:
        try:
            key = base64.b64decode(value.get_secret_value(), validate=True)
        except binascii.Error:
            key = b""
        if len(key) != 32:
            raise ValueError("must be base64 of 32 bytes")
        return value

    @field_validator("phone_hash_key")
    @classmethod
    def _is_hex(cls, value: SecretStr) -> SecretStr:
        try:
            key = bytes.fromhex(value.get_secret_value())
        except ValueError:
            key = b""
        if len(key) < 16:
            raise ValueError("must be hex of at least 16 bytes")
        return value

    @property
    def sealing_keys(self) -> list[bytes]:
        """The current one first."""
        given = (self.sealing_private_key, self.sealing_previous_private_key)
        return [base64.b64decode(key.get_secret_value()) for key in given if key is not None]

    @property
    def hash_key(self) -> bytes:
        return bytes.fromhex(self.phone_hash_key.get_secret_value())
