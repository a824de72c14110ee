"""What the scheduler reads from its environment, and nothing else does."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr, field_validator

from postrider.settings import ServiceSettings, require_certificates
from scheduler.loops.letters import MailServer


class Settings(ServiceSettings):
    port: int = Field(8083, alias="POSTRIDER_SCHEDULER_PORT", ge=0, le=65535)
    snapshot_lead_seconds: float = Field(60.0, alias="POSTRIDER_SNAPSHOT_LEAD_SECONDS", ge=0, le=3600)
    """How long before the first zone can be due its audience is asked for."""
    page_size: int = Field(1000, alias="POSTRIDER_PAGE_SIZE", ge=1, le=2000)
    """People on one page of an audience."""
    smtp_host: str = Field("", alias="POSTRIDER_SMTP_HOST")
    """Mail server for letters to owners of campaigns; empty: they wait."""
    smtp_port: int = Field(587, alias="POSTRIDER_SMTP_PORT", ge=1, le=65535)
    smtp_tls: Literal["starttls", "implicit", "none"] = Field("starttls", alias="POSTRIDER_SMTP_TLS")
    smtp_username: str = Field("", alias="POSTRIDER_SMTP_USERNAME")
    smtp_password: SecretStr = Field(SecretStr(""), alias="POSTRIDER_SMTP_PASSWORD")
    smtp_ca_file: str | None = Field(None, alias="POSTRIDER_SMTP_CA_FILE")
    """PEM file of the authorities that sign the mail server's certificate. Default: the system's."""
    live_memory_days: int = Field(8, alias="POSTRIDER_LIVE_MEMORY_DAYS", ge=3, le=90)
    """How long a live message is remembered, so that a repeated record makes no second one; longer than the topic."""

    @field_validator("smtp_ca_file")
    @classmethod
    def _is_a_certificate(cls, value: str | None) -> str | None:
        return require_certificates(value)

    @property
    def mail_server(self) -> MailServer:
        return MailServer(
            self.smtp_host,
            self.smtp_port,
            self.smtp_tls,
            self.smtp_username,
            self.smtp_password.get_secret_value(),
            self.smtp_ca_file,
        )
