"""Every refusal as a problem document (RFC 9457), with pointers to the fields. The one place that names status codes.

Nothing a caller sends may end as a 5xx: what is not expected here is a defect of ours and says so, without details.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from campaign_api.definitions import NotPublished
from campaign_api.domain import errors as refusals
from campaign_api.domain.errors import FieldProblem
from campaign_api.upstream import PartUnavailable, RefusedByPart
from postrider.contracts import codec
from postrider.logs import failure, log
from postrider.postgres.database import is_outage

MEDIA_TYPE = "application/problem+json"
INGESTION_PATHS = frozenset({"/v1/track", "/v1/identify", "/v1/batch"})
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE")
RETRY_AFTER_SECONDS = 5
NOT_BUILT = "not built yet"

TITLES: Mapping[int, str] = {
    400: "The request cannot be read",
    401: "Not authenticated",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    408: "Too slow",
    409: "Conflict",
    412: "Changed meanwhile",
    413: "Too large",
    415: "Unsupported media type",
    422: "The request means nothing",
    428: "If-Match is missing",
    500: "A defect of the server",
    503: "A part is unavailable",
}


class ErrorItem(BaseModel):
    """One thing wrong with the request."""

    pointer: str = Field(description="JSON pointer to the field in the body; /query/…, /path/… or /header/… elsewhere.")
    message: str = Field(description="What is wrong with it.")


class ProblemDocument(BaseModel):
    """RFC 9457 problem document: the body of every error."""

    type: str = Field(description="URI of the kind of problem; about:blank: the status says it all.")
    title: str = Field(description="The kind of problem in words; the same for every problem of a status.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What went wrong this time.")
    errors: list[ErrorItem] = Field(description="The fields that caused it; may be empty.")
    code: str | None = Field(None, description="Ingestion only: a short name of the problem (SDKs look for it).")
    message: str | None = Field(None, description="Ingestion only: the detail again (SDKs look for it).")


class Problem(HTTPException):
    """An answer that is a problem. An HTTPException, so that FastAPI lets it through wherever it is raised."""

    def __init__(
        self,
        status: int,
        detail: str,
        errors: Sequence[FieldProblem] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, detail, dict(headers or {}))
        self.errors = tuple(errors)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses=` of a route: what may go wrong, besides 401, 403 and 503, which every route has."""
    described = {
        400: "The body is not JSON.",
        401: "No API key, or one that is unknown or expired.",
        403: "The key lacks the scope that the problem names.",
        404: "There is no such thing.",
        408: "The body did not come within a minute.",
        409: "Illegal in the present state, still in use, or the Idempotency-Key was used for something else.",
        412: "If-Match names an old version.",
        413: "The body is larger than 256 KiB.",
        415: "The body is not application/json.",
        422: "A field is wrong, unknown or not built yet; `errors` points at each.",
        428: "If-Match is missing.",
        503: "A part is unavailable; `detail` says which, and whether the change is saved.",
    }
    schema = {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}
    return {
        status: {"description": described[status], "content": {MEDIA_TYPE: schema}}
        for status in sorted({401, 403, 503, *statuses})
    }


BODY_ERRORS = (400, 408, 413, 415, 422)


def respond(
    request: Request,
    status: int,
    detail: str,
    errors: Sequence[FieldProblem] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": TITLES.get(status, "Refused"),
        "status": status,
        "detail": detail,
        "errors": [{"pointer": error.pointer, "message": error.message} for error in errors],
    }
    if request.url.path in INGESTION_PATHS:
        document |= {"code": document["title"].lower().replace(" ", "_"), "message": detail}
    return Response(codec.encode(document), status, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    app.add_exception_handler(StarletteHTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(refusals.Refused, _refused)
    app.add_exception_handler(NotPublished, _not_published)
    app.add_exception_handler(PartUnavailable, _unavailable)
    app.add_exception_handler(RefusedByPart, _refused_by_part)
    app.add_exception_handler(SQLAlchemyError, _database)
    app.add_exception_handler(OSError, _database)
    app.add_middleware(Defects)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    errors = error.errors if isinstance(error, Problem) else ()
    headers = error.headers
    if error.status_code == 405:
        headers = {"Allow": ", ".join(_methods_of(request))}
    return respond(request, error.status_code, str(error.detail), errors, headers)


def _methods_of(request: Request) -> list[str]:
    """All that the path takes: the router itself names those of one route only."""
    routes = request.app.router.routes
    return [
        method
        for method in METHODS
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    ]


async def _validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = [_problem_of(item, error.body) for item in error.errors()]
    return respond(request, 422, "; ".join(f"{p.pointer or '/'}: {p.message}" for p in problems[:3]), problems)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, refusals.Refused)
    status = {
        refusals.NotAllowed: 403,
        refusals.NotFound: 404,
        refusals.Conflict: 409,
        refusals.StaleVersion: 412,
        refusals.Invalid: 422,
        refusals.VersionMissing: 428,
        refusals.NotReady: 503,
    }[type(error)]
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)} if status == 503 else None
    return respond(request, status, error.detail, error.problems, headers)


async def _not_published(request: Request, error: Exception) -> Response:
    detail = "Kafka does not acknowledge: the change is saved and will be published as soon as it does"
    return respond(request, 503, detail, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


async def _unavailable(request: Request, error: Exception) -> Response:
    return respond(request, 503, str(error), headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


async def _refused_by_part(request: Request, error: Exception) -> Response:
    """The part's own words, as far as they are a problem document."""
    assert isinstance(error, RefusedByPart)
    body = error.body if isinstance(error.body, dict) else {}
    said = body.get("detail") or body.get("title")
    detail = said if isinstance(said, str) else f"{error.part} refused"
    return respond(request, error.status if error.status in (404, 409, 422) else 422, detail, error.problems())


async def _database(request: Request, error: Exception) -> Response:
    if not is_outage(error):
        return await _defect(request, error)
    log.warning("database_unavailable", **failure(error))
    detail = "Postgres is unavailable; whether a change was made is seen by reading it again"
    return respond(request, 503, detail, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


class Defects:
    """What nobody expected: 500 as a problem document, and a log line with the stack but without the exception's text,
    which may hold what the caller sent. An answer that has begun is cut, so that half of it does not look whole."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except ClientDisconnect:
            log.info("client_gone", path=scope["path"], method=scope["method"])
        except Exception as error:
            if begun:
                raise
            response = await _defect(Request(scope), error)
            await response(scope, receive, send)


async def _defect(request: Request, error: Exception) -> Response:
    stack = "".join(traceback.format_tb(error.__traceback__))
    log.error("request_failed", path=request.url.path, method=request.method, stack=stack, **failure(error))
    return respond(request, 500, "something in the server is wrong; it has been logged")


_MESSAGES: Final = {
    "missing": "is required",
    "extra_forbidden": "unknown field",
    "json_invalid": "is not JSON",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "dict_type": "must be an object",
    "list_type": "must be a list",
    "string_type": "must be text",
}
"""In place of pydantic's, which speak of Python."""


def _problem_of(item: Mapping[str, Any], body: Any) -> FieldProblem:
    kind, context = item["type"], item.get("ctx", {})
    pointer = _pointer(tuple(item["loc"]), body)
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        name = str(context.get("discriminator", "'kind'")).strip("'")
        if kind == "union_tag_not_found":
            return FieldProblem(f"{pointer}/{name}", "is required")
        expected = context.get("expected_tags", "").replace("'", '"')
        return FieldProblem(f"{pointer}/{name}", f"must be one of {expected}")
    return FieldProblem(pointer, _MESSAGES.get(kind) or str(item["msg"]))


def _pointer(loc: tuple[str | int, ...], body: Any) -> str:
    """pydantic's location as a JSON pointer; the tags of unions, which are no keys of the body, are left out."""
    if not loc or loc[0] != "body":
        return "".join(f"/{_escape(part)}" for part in loc)
    pointer, inside = "", body
    for part in loc[1:]:
        if isinstance(inside, dict) and part not in inside and part == inside.get("kind"):
            continue
        pointer += f"/{_escape(part)}"
        if isinstance(inside, dict):
            inside = inside.get(part)
        elif isinstance(inside, list) and isinstance(part, int) and part < len(inside):
            inside = inside[part]
        else:
            inside = None
    return pointer


def _escape(part: str | int) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")
