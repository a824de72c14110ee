"""What the routes work with, built once in app.py and handed to each request."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from campaign_api.definitions import DefinitionPublisher
from campaign_api.domain.keys import Caller
from campaign_api.sealing import Sealer
from campaign_api.upstream import Part
from postrider.clock import Clock
from postrider.postgres.database import Database
from postrider.postgres.outbox import RecordPublisher


@dataclass(frozen=True)
class Services:
    """`user_events_topic` is the full name."""

    database: Database
    definitions: DefinitionPublisher
    publisher: RecordPublisher
    sealer: Sealer
    segment_engine: Part
    dispatcher: Part
    scheduler: Part
    clock: Clock
    public_url: str
    user_events_topic: str
    bootstrap_key: str
    ingestion_wait_seconds: float
    known_callers: dict[str, tuple[float, Caller]]
    """Keys seen within the last moments, so that ingestion does not ask Postgres for each body."""
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the service is told to stop: streams end."""
    streams: set[object] = field(default_factory=set)
    """One for each stream that is open."""


def services_of(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


FromServices = Annotated[Services, Depends(services_of)]
