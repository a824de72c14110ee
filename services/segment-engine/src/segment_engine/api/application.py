"""Internal HTTP for the other services: estimates, the message log, people, the catalogue; problems as documents.

Every call carries the service token.
"""

from __future__ import annotations

import hmac
from typing import Annotated, Any

import msgspec
from fastapi import Depends, FastAPI, Header, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from postrider import http_manners
from postrider.contracts.delivery_events import TEST_RUN
from postrider.health import Health
from postrider.health import router as health_router
from postrider.logs import failure, log
from segment_engine.api.base import Problem, Services, means_nothing, rfc3339
from segment_engine.api.estimates import estimate_routes
from segment_engine.api.profiles import catalog_routes, profile_routes
from segment_engine.api.user_lists import LISTS, list_routes
from segment_engine.domain.columns import MessageRow, from_microseconds
from segment_engine.event_store.port import MessageFilter, StoreFailed

__all__ = ["Problem", "Services", "make_app"]

MAX_PAGE = 5_000


def make_app(services: Services, health: Health) -> FastAPI:
    app = FastAPI(title="Postrider segment-engine (internal)", openapi_url=None)
    http_manners.install(app, streamed=(LISTS,))
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
        return means_nothing(errors).response()

    @app.exception_handler(StoreFailed)
    async def store_failed(_: Request, error: StoreFailed) -> JSONResponse:
        log.error("store_failed", **failure(error), exc_info=error)
        return Problem(503, "The event store failed").response()

    @app.get("/internal/messages", dependencies=[Depends(authenticated)])
    async def messages(
        campaign_id: str | None = None,
        run_id: str | None = None,
        user_id: str | None = None,
        phone: str | None = None,
        status: str | None = None,
        reason: str | None = None,
        variant: str | None = None,
        test: bool | None = None,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
        cursor: str | None = None,
    ) -> dict[str, Any]:
        where = MessageFilter(campaign_id, run_id, user_id, phone, status, reason, variant, test)
        try:
            page = await services.store.messages(where, cursor, limit)
        except ValueError as error:
            raise means_nothing([("/cursor", "is not a cursor of this list")]) from error
        return {"items": [_message(row) for row in page.items], "next_cursor": page.next_cursor}

    for routes in (estimate_routes, profile_routes, catalog_routes, list_routes):
        app.include_router(routes(services), dependencies=[Depends(authenticated)])
    return app


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
        "attempts": [_attempt(each) for each in msgspec.json.decode(row.attempts or "[]")],
        "due_at": rfc3339(from_microseconds(row.due_at)) if row.due_at else None,
        "updated_at": rfc3339(from_microseconds(row.updated_at)),
        "test": row.run_id == TEST_RUN,
    }


def _attempt(summary: dict[str, Any]) -> dict[str, Any]:
    """A provider call as people read of it."""
    return {
        "attempt": summary["attempt"],
        "provider_id": summary["provider_id"],
        "outcome": summary["outcome"],
        "code": summary.get("code"),
        "started_at": summary["at"],
        "ended_at": summary.get("ended_at"),
    }
