"""What every service reads from its environment. Each service subclasses this in its own settings.py."""

from __future__ import annotations

import socket
import ssl
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from postrider.kafka.clients import KafkaConfig


class KafkaSettings(BaseSettings):
    """How to reach the brokers. The commands of `postrider.kafka` read nothing else."""

    model_config = SettingsConfigDict(extra="ignore", populate_by_name=True)

    kafka_bootstrap_servers: str = Field(alias="KAFKA_BOOTSTRAP_SERVERS", min_length=3)
    """host:port, comma separated."""
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", alias="KAFKA_SECURITY_PROTOCOL"
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        None, alias="KAFKA_SASL_MECHANISM"
    )
    kafka_sasl_username: str | None = Field(None, alias="KAFKA_SASL_USERNAME")
    kafka_sasl_password: SecretStr | None = Field(None, alias="KAFKA_SASL_PASSWORD")
    kafka_ca_file: str | None = Field(None, alias="KAFKA_CA_FILE")
    """PEM file of the authorities that sign the brokers' certificates. Default: the system's."""
    topic_prefix: str = Field("postrider.", alias="POSTRIDER_TOPIC_PREFIX")

    @field_validator("kafka_bootstrap_servers")
    @classmethod
    def _are_addresses(cls, value: str) -> str:
        for server in value.split(","):
            host, _, port = server.strip().rpartition(":")
            if not (host and port.isdigit() and 0 < int(port) < 65_536):
                raise ValueError("must be host:port, comma separated")
        return value

    @model_validator(mode="after")
    def _sasl_is_whole(self) -> Self:
        if self.kafka_security_protocol.startswith("SASL"):
            for name in ("kafka_sasl_mechanism", "kafka_sasl_username", "kafka_sasl_password"):
                if not getattr(self, name):
                    raise ValueError(f"{name.upper()} is needed when KAFKA_SECURITY_PROTOCOL is SASL_…")
        return self

    @field_validator("kafka_ca_file")
    @classmethod
    def _is_a_certificate(cls, value: str | None) -> str | None:
        return require_certificates(value)

    def kafka_config(self, client_id: str, **more: Any) -> KafkaConfig:
        """`more`: fields of KafkaConfig that no setting decides."""
        password = self.kafka_sasl_password
        return KafkaConfig(
            self.kafka_bootstrap_servers,
            self.topic_prefix,
            client_id,
            security_protocol=self.kafka_security_protocol,
            sasl_mechanism=self.kafka_sasl_mechanism,
            sasl_username=self.kafka_sasl_username,
            sasl_password=None if password is None else password.get_secret_value(),
            ca_file=self.kafka_ca_file,
            **more,
        )


class ServiceSettings(KafkaSettings):
    """Settings common to the four services. Secrets come from the environment and are never printed."""

    database_url: str = Field(alias="DATABASE_URL", pattern=r"^postgres(ql)?://")
    """The owner's URL: it migrates. The service's own role and URL are derived from it."""
    service_database_url: str | None = Field(None, alias="POSTRIDER_SERVICE_DATABASE_URL")
    """The service's own URL, when it is not to be derived."""
    bind_host: str = Field("127.0.0.1", alias="POSTRIDER_BIND_HOST")
    service_token: SecretStr = Field(alias="POSTRIDER_SERVICE_TOKEN", min_length=16)
    """Shared secret of the internal HTTP calls between services."""
    campaign_api_url: str = Field("http://127.0.0.1:8080", alias="POSTRIDER_CAMPAIGN_API_URL")
    dispatcher_url: str = Field("http://127.0.0.1:8081", alias="POSTRIDER_DISPATCHER_URL")
    segment_engine_url: str = Field("http://127.0.0.1:8082", alias="POSTRIDER_SEGMENT_ENGINE_URL")
    scheduler_url: str = Field("http://127.0.0.1:8083", alias="POSTRIDER_SCHEDULER_URL")
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
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", alias="POSTRIDER_LOG_LEVEL")
    dead_letters_per_minute: int = Field(1_000, alias="POSTRIDER_DEAD_LETTERS_PER_MINUTE", ge=0)
    """More dead letters in a minute, and more than half of what was read, stop a consumer group. 0: no limit."""
    instance_id: str | None = Field(None, alias="POSTRIDER_INSTANCE_ID")
    """This replica's name among those of its service, kept over restarts. Default: host name and port."""

    def kafka(self, service: str, port: int) -> KafkaConfig:
        """The Kafka configuration of this process. Without a fixed port there is no name that survives a restart."""
        instance = self.instance_id or (f"{socket.gethostname()}-{port}" if port else None)
        return self.kafka_config(service, instance_id=instance, dead_letters_per_minute=self.dead_letters_per_minute)

    @field_validator("database_url", "service_database_url")
    @classmethod
    def _is_database(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                make_url(value)
            except (ArgumentError, ValueError):
                raise ValueError("must be postgresql://user:password@host:port/database") from None
        return value

    @field_validator("campaign_api_url", "dispatcher_url", "segment_engine_url", "scheduler_url", "public_url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        try:
            address = urlsplit(value)
            is_one = address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
        except ValueError:
            is_one = False
        if not is_one:
            raise ValueError("must be http://host:port or https://host:port")
        return value

    @field_validator("allowed_private_hosts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def problems_with(error: ValidationError) -> list[str]:
    """One line for each setting that is missing or wrong: its variable and the reason, never the value."""
    return [
        ": ".join([*(str(part) for part in issue["loc"]), issue["msg"].removeprefix("Value error, ")])
        for issue in error.errors()
    ]


def explain(error: ValidationError) -> str:
    """The same as a start-up message."""
    return "cannot start, settings are wrong:\n" + "\n".join(f"  {problem}" for problem in problems_with(error))


def require_certificates(path: str | None) -> str | None:
    """The path of a PEM file of authorities, as it was given. Raises ValueError for one that has none."""
    if path:
        try:
            ssl.create_default_context(cafile=path)
        except (OSError, ssl.SSLError) as error:
            raise ValueError(f"no certificates can be read from it ({type(error).__name__})") from error
    return path
