"""Internal HTTP for the other services: estimates, the message log, single profiles. Problem documents on refusal.

Every call carries the service token. Nothing here changes a profile or an event.
"""

from __future__ import annotations

import asyncio
import hmac
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Protocol

import msgspec
from fastapi import Depends, FastAPI, Header, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict

from postrider import http_manners
from postrider.clock import Clock
from postrider.health import Health
from postrider.health import router as health_router
from postrider.kafka.clients import is_kafka_outage
from postrider.logs import failure, log
from postrider.postgres.database import Database, is_outage
from postrider.rules import RuleErrors
from segment_engine import metrics
from segment_engine.adapters import profile_table
from segment_engine.domain.columns import MessageRow, from_microseconds
from segment_engine.event_store.port import EventStore, MessageFilter, StoreFailed
from segment_engine.loops.evaluation import Definitions, SegmentUnknown, context_of, rule_of

ESTIMATE_SECONDS = 10.0
MAX_PAGE = 5_000


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


class EstimateIn(BaseModel):
    """One of `rule` and `segment_id`."""

    model_config = ConfigDict(extra="forbid")

    rule: dict[str, Any] | None = None
    segment_id: str | None = None


class Problem(Exception):
    def __init__(self, status: int, title: str, errors: list[tuple[str, str]] | None = None) -> None:
        super().__init__(title)
        self.status = status
        self.title = title
        self.errors = errors or []

    def response(self) -> JSONResponse:
        errors = [{"pointer": pointer, "message": message} for pointer, message in self.errors]
        body = {"type": "about:blank", "title": self.title, "status": self.status, "errors": errors}
        headers = {"Retry-After": "2"} if self.status == 503 else None
        return JSONResponse(body, self.status, headers, media_type="application/problem+json")


def make_app(services: Services, health: Health) -> FastAPI:
    app = FastAPI(title="Postrider segment-engine (internal)", openapi_url=None)
    http_manners.install(app)
    app.include_router(health_router(health))

    def authenticated(authorization: Annotated[str, Header()] = "") -> None:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(token.encode(), services.token.encode()):
            raise Problem(401, "The service token is missing or wrong")

    @app.exception_handler(Problem)
    async def problem(_: Request, error: Problem) -> JSONResponse:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        errors = [("/" + "/".join(map(str, issue["loc"][1:])), str(issue["msg"])) for issue in error.errors()]
        return Problem(422, "The request means nothing", errors).response()

    @app.exception_handler(StoreFailed)
    async def store_failed(_: Request, error: StoreFailed) -> JSONResponse:
        log.error("store_failed", **failure(error), exc_info=error)
        return Problem(503, "The event store failed").response()

    @app.post("/internal/estimate", dependencies=[Depends(authenticated)])
    async def estimate(body: EstimateIn) -> dict[str, Any]:
        return await _estimate(services, body)

    @app.get("/internal/messages", dependencies=[Depends(authenticated)])
    async def messages(
        campaign_id: str | None = None,
        run_id: str | None = None,
        user_id: str | None = None,
        phone: str | None = None,
        status: str | None = None,
        reason: str | None = None,
        variant: str | None = None,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
        cursor: str | None = None,
    ) -> dict[str, Any]:
        where = MessageFilter(campaign_id, run_id, user_id, phone, status, reason, variant)
        try:
            page = await services.store.messages(where, cursor, limit)
        except ValueError as error:
            raise Problem(422, "The request means nothing", [("/cursor", "is not a cursor of this list")]) from error
        return {"items": [_message(row) for row in page.items], "next_cursor": page.next_cursor}

    @app.get("/internal/profiles/{user_id:path}", dependencies=[Depends(authenticated)])
    async def profile(user_id: str) -> dict[str, Any]:
        async with services.database.begin() as tx:
            known = (await profile_table.read(tx, [user_id])).get(user_id) if "\x00" not in user_id else None
        if known is None or known.deleted:
            raise Problem(404, "There is no such profile")
        contact = known.contact
        return {
            "user_id": known.user_id,
            "version": known.version,
            "phone": contact.phone,
            "phone_country": contact.phone_country,
            "country": contact.country,
            "time_zone": contact.time_zone,
            "sms_consent": contact.consent,
            "traits": known.traits,
        }

    return app


async def _estimate(services: Services, body: EstimateIn) -> dict[str, Any]:
    if (body.rule is None) == (body.segment_id is None):
        raise Problem(422, "The request means nothing", [("", "needs exactly one of rule and segment_id")])
    try:
        async with asyncio.timeout(ESTIMATE_SECONDS):
            await services.barrier.wait()
    except TimeoutError as error:
        raise Problem(503, "The history has not caught up with the events yet") from error
    except Exception as error:
        if not (is_kafka_outage(error) or is_outage(error)):
            raise
        log.warning("estimate_waits", **failure(error))
        raise Problem(503, "Kafka or Postgres is away") from error
    try:
        rule = rule_of(services.definitions, body.rule, body.segment_id)
    except SegmentUnknown as error:
        raise Problem(422, "The request means nothing", [("/segment_id", "there is no such segment")]) from error
    except RuleErrors as error:
        problems = [(f"/rule{pointer}", message) for pointer, message in error.problems]
        raise Problem(422, "The request means nothing", problems) from error
    with metrics.ESTIMATE_SECONDS.time():
        found = await services.store.estimate(rule, context_of(services.definitions, services.clock))
    return {
        "qualified": found.qualified,
        "reachable": found.reachable,
        "unreachable": found.unreachable,
        "suppressed": found.suppressed,
        "duplicate_phone": found.duplicate_phone,
        "zones": found.zones,
    }


def _message(row: MessageRow) -> dict[str, Any]:
    return {
        "id": row.message_id,
        "campaign_id": row.campaign_id,
        "run_id": row.run_id,
        "occurrence": row.occurrence,
        "user_id": row.user_id,
        "phone": row.phone or None,
        "status": row.status,
        "reason": row.reason or None,
        "variant": row.variant or None,
        "body": row.body or None,
        "parts": row.parts or None,
        "provider_id": row.provider_id or None,
        "attempts": msgspec.json.decode(row.attempts or "[]"),
        "due_at": _rfc3339(from_microseconds(row.due_at)) if row.due_at else None,
        "updated_at": _rfc3339(from_microseconds(row.updated_at)),
    }


def _rfc3339(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
