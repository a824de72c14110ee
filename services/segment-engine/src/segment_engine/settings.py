"""What the segment-engine reads from its environment, and nothing else does."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr, field_validator

from postrider.settings import ServiceSettings


class Settings(ServiceSettings):
    port: int = Field(8082, alias="POSTRIDER_SEGMENT_ENGINE_PORT", ge=0, le=65535)
    event_store_path: Path = Field(alias="POSTRIDER_EVENT_STORE_PATH")
    """Folder of the embedded event store; one process owns it."""
    dedup_key: SecretStr = Field(alias="POSTRIDER_DEDUP_KEY")
    """Hex, 16 to 64 bytes. Changing it makes known messageIds unknown."""
    phone_hash_key: SecretStr = Field(alias="POSTRIDER_PHONE_HASH_KEY")
    """Hex, 32 bytes; the same as the dispatcher's."""
    dedup_horizon_days: int = Field(30, alias="POSTRIDER_DEDUP_HORIZON_DAYS", ge=7, le=400)
    """Days for which a messageId is remembered by the day of its event; older events are remembered for ever."""

    @field_validator("dedup_key", "phone_hash_key")
    @classmethod
    def _is_key(cls, value: SecretStr) -> SecretStr:
        try:
            size = len(bytes.fromhex(value.get_secret_value()))
        except ValueError as error:
            raise ValueError("must be hexadecimal") from error
        if not 16 <= size <= 64:
            raise ValueError("must have 16 to 64 bytes")
        return value

    @property
    def dedup_key_bytes(self) -> bytes:
        return bytes.fromhex(self.dedup_key.get_secret_value())

    @property
    def phone_hash_key_bytes(self) -> bytes:
        return bytes.fromhex(self.phone_hash_key.get_secret_value())
