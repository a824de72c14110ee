"""What the segment-engine reads from its environment, and nothing else does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, field_validator, model_validator

from postrider.settings import ServiceSettings


class Settings(ServiceSettings):
    port: int = Field(8082, alias="POSTRIDER_SEGMENT_ENGINE_PORT", ge=0, le=65535)
    clickhouse_url: str | None = Field(None, alias="POSTRIDER_CLICKHOUSE_URL", pattern=r"^https?://[^/?#@]+/?$")
    """http(s)://host:port of a ClickHouse server, which any number of replicas share."""
    event_store_path: Path | None = Field(alias="POSTRIDER_EVENT_STORE_PATH")
    """Folder of the embedded event store; one process owns it. Neither needed nor read with a ClickHouse server."""
    clickhouse_user: str = Field("default", alias="POSTRIDER_CLICKHOUSE_USER")
    clickhouse_password: SecretStr = Field(SecretStr(""), alias="POSTRIDER_CLICKHOUSE_PASSWORD")
    clickhouse_database: str = Field(
        "default", alias="POSTRIDER_CLICKHOUSE_DATABASE", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$"
    )
    clickhouse_cluster: str | None = Field(None, alias="POSTRIDER_CLICKHOUSE_CLUSTER", pattern=r"^[A-Za-z0-9_.-]+$")
    """The cluster's name in ClickHouse's configuration; unset for a single server."""
    clickhouse_ca_file: str | None = Field(None, alias="POSTRIDER_CLICKHOUSE_CA_FILE")
    """PEM of the authorities that sign the server's certificate. Default: the system's."""
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

    @model_validator(mode="before")
    @classmethod
    def _needs_one_store(cls, given: dict[str, Any]) -> dict[str, Any]:
        path = "POSTRIDER_EVENT_STORE_PATH"
        if given.get(path):
            return given
        others = {name: value for name, value in given.items() if name != path}
        return {**others, path: None} if given.get("POSTRIDER_CLICKHOUSE_URL") else others

    @property
    def dedup_key_bytes(self) -> bytes:
        return bytes.fromhex(self.dedup_key.get_secret_value())

    @property
    def phone_hash_key_bytes(self) -> bytes:
        return bytes.fromhex(self.phone_hash_key.get_secret_value())
