"""What the scheduler reads from its environment, and nothing else does."""

from __future__ import annotations

from pydantic import Field

from postrider.settings import ServiceSettings


class Settings(ServiceSettings):
    port: int = Field(8083, alias="POSTRIDER_SCHEDULER_PORT", ge=0, le=65535)
    snapshot_lead_seconds: float = Field(60.0, alias="POSTRIDER_SNAPSHOT_LEAD_SECONDS", ge=0, le=3600)
    """How long before the first zone can be due its audience is asked for."""
    page_size: int = Field(500, alias="POSTRIDER_PAGE_SIZE", ge=1, le=2000)
    """People on one page of an audience."""
    live_memory_days: int = Field(8, alias="POSTRIDER_LIVE_MEMORY_DAYS", ge=3, le=90)
    """How long a live message is remembered, so that a repeated record makes no second one; longer than the topic."""
