"""What every service reads from its environment. Each service subclasses this in its own settings.py."""

from __future__ import annotations

import socket
from typing import Annotated

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from postrider.kafka.clients import KafkaConfig


class ServiceSettings(BaseSettings):
    """Settings common to the four services. Secrets come from the environment and are never printed."""

    model_config = SettingsConfigDict(extra="ignore", populate_by_name=True)

    kafka_bootstrap_servers: str = Field(alias="KAFKA_BOOTSTRAP_SERVERS", min_length=3)
    """host:port, comma separated."""
    database_url: str = Field(alias="DATABASE_URL", pattern=r"^postgres(ql)?://")
    """The owner's URL: it migrates. The service's own role and URL are derived from it."""
    service_database_url: str | None = Field(None, alias="POSTRIDER_SERVICE_DATABASE_URL")
    """The service's own URL, when it is not to be derived."""
    topic_prefix: str = Field("postrider.", alias="POSTRIDER_TOPIC_PREFIX")
    bind_host: str = Field("127.0.0.1", alias="POSTRIDER_BIND_HOST")
    service_token: SecretStr = Field(alias="POSTRIDER_SERVICE_TOKEN", min_length=16)
    """Shared secret of the internal HTTP calls between services."""
    campaign_api_url: str = Field("http://127.0.0.1:8080", alias="POSTRIDER_CAMPAIGN_API_URL")
    dispatcher_url: str = Field("http://127.0.0.1:8081", alias="POSTRIDER_DISPATCHER_URL")
    segment_engine_url: str = Field("http://127.0.0.1:8082", alias="POSTRIDER_SEGMENT_ENGINE_URL")
    public_url: str = Field("http://127.0.0.1:8081", alias="POSTRIDER_PUBLIC_URL")
    """The dispatcher's address as providers see it."""
    phone_hash_key: SecretStr | None = Field(None, alias="POSTRIDER_PHONE_HASH_KEY")
    """Hex, 32 bytes: the key of the HMAC under which suppressed phones travel."""
    allowed_private_hosts: Annotated[list[str], NoDecode] = Field(
        default_factory=list, alias="POSTRIDER_ALLOWED_PRIVATE_HOSTS"
    )
    """Address ranges, comma separated, that user-configured URLs may reach although they are private."""
    drain_seconds: float = Field(20.0, alias="POSTRIDER_DRAIN_SECONDS", gt=0)
    """How long a stop may take before what is left is abandoned (and recovered by the next start)."""
    log_level: str = Field("INFO", alias="POSTRIDER_LOG_LEVEL")

    instance_id: str | None = Field(None, alias="POSTRIDER_INSTANCE_ID")
    """This replica's name among those of its service, kept over restarts. Default: host name and port."""

    def kafka(self, service: str, port: int) -> KafkaConfig:
        """The Kafka configuration of this process. Without a fixed port there is no name that survives a restart."""
        instance = self.instance_id or (f"{socket.gethostname()}-{port}" if port else None)
        return KafkaConfig(self.kafka_bootstrap_servers, self.topic_prefix, service, instance)

    @field_validator("allowed_private_hosts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def explain(error: ValidationError) -> str:
    """A start-up message that names the variable and the reason, and never the value."""
    lines = [f"  {'.'.join(str(part) for part in issue['loc'])}: {issue['msg']}" for issue in error.errors()]
    return "cannot start, settings are wrong:\n" + "\n".join(lines)
