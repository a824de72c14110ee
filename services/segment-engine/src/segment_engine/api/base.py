"""What the internal routes share: their services, problem documents, waiting for the logs. Must not hold a route."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from fastapi.responses import JSONResponse

from postrider.clock import Clock
from postrider.kafka.clients import is_kafka_outage
from postrider.logs import failure, log
from postrider.postgres.database import Database, is_outage
from segment_engine.event_store.port import EventStore
from segment_engine.loops.erasures import Erasures
from segment_engine.loops.estimates import Estimator
from segment_engine.loops.evaluation import Definitions

CAUGHT_UP_SECONDS = 10.0


class Barrier(Protocol):
    async def wait(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Services:
    """What the handlers work with."""

    database: Database
    store: EventStore
    definitions: Definitions
    barrier: Barrier
    clock: Clock
    token: str
    estimator: Estimator
    erasures: Erasures
    phone_hash_key: bytes


class Problem(Exception):
    def __init__(self, status: int, title: str, errors: list[tuple[str, str]] | None = None) -> None:
        super().__init__(title)
        self.status = status
        self.title = title
        self.errors = errors or []

    def response(self) -> JSONResponse:
        errors = [{"pointer": pointer, "message": message} for pointer, message in self.errors]
        body = {
            "type": "about:blank",
            "title": self.title,
            "status": self.status,
            "detail": self.title,
            "errors": errors,
        }
        headers = {"Retry-After": "2"} if self.status == 503 else None
        return JSONResponse(body, self.status, headers, media_type="application/problem+json")


def means_nothing(errors: list[tuple[str, str]]) -> Problem:
    return Problem(422, "The request means nothing", errors)


async def caught_up(services: Services) -> None:
    """Returns when all that was published before the call counts. Raises `Problem`."""
    try:
        async with asyncio.timeout(CAUGHT_UP_SECONDS):
            await services.barrier.wait()
    except TimeoutError as error:
        raise Problem(503, "The history has not caught up with the events yet") from error
    except Exception as error:
        if not (is_kafka_outage(error) or is_outage(error)):
            raise
        log.warning("request_waits", **failure(error))
        raise Problem(503, "Kafka or Postgres is away") from error


def rfc3339(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
