"""Paths that api.md names and that come later: they say so, instead of looking like a typing error."""

from __future__ import annotations

from fastapi import APIRouter

from campaign_api.api.auth import Reader
from campaign_api.api.problems import NOT_BUILT, Problem

router = APIRouter(prefix="/v1", include_in_schema=False)

PATHS = (
    *((method, "/linked-content") for method in ("GET", "POST")),
    ("GET", "/audit-log"),
)


async def _not_built(caller: Reader) -> None:
    raise Problem(422, f"this path is {NOT_BUILT}")


for _method, _path in PATHS:
    router.add_api_route(_path, _not_built, methods=[_method])
