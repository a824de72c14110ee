"""/v1/campaigns/{id}/report, /runs and /messages: what became of the texts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from campaign_api.api import answers
from campaign_api.api.auth import Reader
from campaign_api.api.models.reports import MessagePage, Report, Runs
from campaign_api.api.problems import documented
from campaign_api.api.requests import StrictRoute
from campaign_api.api.services import FromServices, Services
from campaign_api.domain import csv_rows
from campaign_api.domain.errors import FieldProblem, Invalid
from campaign_api.domain.funnel import report, shown_run
from campaign_api.handlers import common
from campaign_api.store import funnel
from postrider.contracts.delivery_events import STATUSES

router = APIRouter(prefix="/v1/campaigns", tags=["reports"], route_class=StrictRoute)

CSV_PAGE = 1_000
MOST_RUNS: Final = 100
"""On one page: each may have hundreds of zones."""
PARAMETERS = frozenset({"status", "reason", "user_id", "run_id", "variant", "test", "format", "limit", "cursor"})
"""Of the message log."""


@router.get("/{id}/report", response_model=Report, responses=documented(404))
async def read_report(services: FromServices, id: answers.CampaignId, caller: Reader) -> Response:
    """The live funnel. It adds up at every moment: all of it is read in one snapshot."""
    async with services.database.begin() as tx:
        await common.get(tx, "campaign", id)
        cells, runs = await funnel.read_report(tx, id)
    return answers.answer(report(cells, runs))


@router.get("/{id}/runs", response_model=Runs, responses=documented(404, 422))
async def read_runs(
    services: FromServices,
    id: answers.CampaignId,
    caller: Reader,
    limit: Annotated[int, Query(ge=1, le=MOST_RUNS, description="How many runs at most.")] = 20,
    cursor: answers.Cursor = None,
) -> Response:
    """Runs of a scheduled campaign, the last planned one first, each with its counts and what its zones are at; a live
    campaign has none. 503: the scheduler, which knows the zones, is away."""
    after = answers.decode_cursor(cursor)
    async with services.database.begin() as tx:
        await common.get(tx, "campaign", id)
        cells, runs = await funnel.read_report(tx, id)
    wanted = answers.items_after(sorted(runs, key=lambda run: run["occurrence"], reverse=True), after, "run_id")
    zones: dict[str, list[dict[str, Any]]] = {}
    if wanted:
        asked = ",".join(run["run_id"] for run in wanted[:limit])
        known = await services.scheduler.get("/internal/runs", {"campaign_id": id, "run_ids": asked})
        zones = {run["run_id"]: run["zones"] for run in known["items"]}
    by_run = {row["run_id"]: row for row in report(cells, runs)["by_run"]}
    return answers.page(wanted, limit, lambda run: shown_run(run, by_run[run["run_id"]], zones), "run_id")


@router.get(
    "/{id}/messages",
    response_model=MessagePage,
    responses={
        **documented(404, 422),
        200: {"description": "A page, or all of them as CSV.", "content": {"text/csv": {"schema": {"type": "string"}}}},
    },
)
async def read_messages(
    request: Request,
    services: FromServices,
    id: answers.CampaignId,
    caller: Reader,
    status: str | None = Query(None, max_length=40, description="Message status."),
    reason: str | None = Query(None, max_length=200, description="What refines the status."),
    user_id: str | None = Query(None, max_length=256, description="One person."),
    run_id: str | None = Query(None, max_length=64, description="One run."),
    variant: str | None = Query(None, max_length=200, description="One variant."),
    test: bool | None = Query(None, description="Test sends alone, or none of them. Reports count none."),
    format: Literal["json", "csv"] = Query("json", description="csv: everything that fits the filters, streamed."),
    limit: answers.Limit = 50,
    cursor: str | None = Query(None, max_length=1_000, description="`next_cursor` of the page before."),
) -> Response:
    """The message log: what became of each text. A filter that is not known is refused, so that a misspelt one does
    not pass for everything."""
    unknown = [name for name in request.query_params if name not in PARAMETERS]
    if unknown:
        known = ", ".join(sorted(PARAMETERS))
        raise Invalid([FieldProblem(f"/query/{name}", f"unknown parameter; known: {known}") for name in unknown])
    if status is not None and status not in STATUSES:
        raise Invalid([FieldProblem("/query/status", f"must be one of {', '.join(STATUSES)}")])
    async with services.database.begin() as tx:
        await common.get(tx, "campaign", id)
    filters = {
        "campaign_id": id,
        "status": status,
        "reason": reason,
        "user_id": user_id,
        "run_id": run_id,
        "variant": variant,
        "test": None if test is None else str(test).lower(),
    }
    if format == "json":
        return answers.answer(await _page(services, filters, limit, cursor))
    first = await _page(services, filters, CSV_PAGE, cursor)
    headers = {"Content-Disposition": f'attachment; filename="{id}-messages.csv"'}
    return StreamingResponse(_csv(services, filters, first), 200, headers, "text/csv; charset=utf-8")


async def _page(
    services: Services, filters: dict[str, str | None], limit: int, cursor: str | None
) -> dict[str, object]:
    asked = {**filters, "limit": limit, "cursor": cursor}
    page: dict[str, object] = await answers.page_of(services.segment_engine, "/internal/messages", asked)
    return page


async def _csv(services: Services, filters: dict[str, str | None], page: dict[str, object]) -> AsyncIterator[str]:
    """A page that cannot be had breaks the connection: half a file must not look like a whole one."""
    yield csv_rows.header()
    while True:
        items = page["items"]
        assert isinstance(items, list)
        yield csv_rows.rows(items)
        cursor = page["next_cursor"]
        if not cursor:
            return
        page = await _page(services, filters, CSV_PAGE, str(cursor))
