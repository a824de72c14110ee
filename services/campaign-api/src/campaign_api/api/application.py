"""The FastAPI application: all routes, problem documents everywhere, and the OpenAPI document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.middleware.cors import CORSMiddleware

from campaign_api.api import (
    account,
    campaigns,
    catalog,
    ingestion,
    not_built,
    occurrences,
    problems,
    profiles,
    progress,
    providers,
    reports,
    segments,
    suppressions,
    trying,
    user_lists,
)
from campaign_api.api.models.segments import RULE_MARK
from campaign_api.api.services import Services
from postrider.health import Health, router
from postrider.rules import rule_schema

RULE = "#/components/schemas/Rule"
DESCRIPTION = """
Postrider sends SMS campaigns. Errors are problem documents (RFC 9457) whose `errors` point at the fields. Changes are
made by `PUT` of the whole with `If-Match`; creations take an `Idempotency-Key`. A field or kind of the product that is
not built yet is refused with 422 and says so.
"""


def create_application(services: Services, health: Health, cors_origins: Sequence[str] = ()) -> FastAPI:
    """`cors_origins`: pages from there may call the API from a browser; "*": all. They carry their key themselves, so
    there are no credentials of the browser to protect."""
    app = FastAPI(
        title="Postrider campaign API",
        version="1",
        description=DESCRIPTION,
        # A redirect to the path without its slash would be built of the Host header and lose https behind a proxy.
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.services = services
    problems.install(app)
    if cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(cors_origins),
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "If-Match"],
            expose_headers=["Content-Disposition", "ETag", "Location", "Retry-After"],
        )
    app.include_router(router(health))
    for module in (
        ingestion,
        providers,
        segments,
        user_lists,
        campaigns,
        occurrences,
        reports,
        progress,
        profiles,
        catalog,
        suppressions,
        trying,
        account,
        not_built,
    ):
        app.include_router(module.router)

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
    return app


def _document(app: FastAPI) -> dict[str, Any]:
    """FastAPI's, with our problem documents in place of its own validation errors, and the schema of a rule."""
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    schemas = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for model in (problems.ErrorItem, problems.ProblemDocument):
        schemas[model.__name__] = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas[model.__name__].pop("$defs", None)
    _refer_to_rule(document)
    schemas["Rule"] = rule_schema(RULE)
    for operations in document["paths"].values():
        for operation in operations.values():
            for response in operation["responses"].values():
                content = response.get("content", {})
                if "HTTPValidationError" in str(content.get("application/json", "")):
                    content["application/problem+json"] = {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}
                    del content["application/json"]
    return document


def _refer_to_rule(node: Any) -> None:
    """Where a model only marks that a rule stands there, the document refers to the rule's schema."""
    if isinstance(node, dict):
        if RULE_MARK.items() <= node.items():
            described = {"description": node["description"]} if "description" in node else {}
            node.clear()
            node.update({"$ref": RULE, **described})
        for member in node.values():
            _refer_to_rule(member)
    elif isinstance(node, list):
        for member in node:
            _refer_to_rule(member)
