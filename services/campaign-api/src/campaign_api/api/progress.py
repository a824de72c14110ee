"""GET /v1/campaigns/{id}/progress: the live funnel of a campaign, as server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec
from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from campaign_api.api import answers
from campaign_api.api.auth import Reader
from campaign_api.api.problems import Problem, documented
from campaign_api.api.requests import StrictRoute
from campaign_api.api.services import FromServices, Services
from campaign_api.domain.campaign_states import TERMINAL
from campaign_api.domain.funnel import report
from campaign_api.handlers import common
from campaign_api.store import funnel
from postrider.logs import failure, log
from postrider.postgres.database import is_outage

router = APIRouter(prefix="/v1/campaigns", tags=["reports"], route_class=StrictRoute)

EVERY_SECONDS: Final = 1.0
KEEP_ALIVE_SECONDS: Final = 15.0
MOST_STREAMS: Final = 200
MOST_RUNS: Final = 20
"""The last ones: a recurring campaign may have thousands."""


@router.get(
    "/{id}/progress",
    responses={
        **documented(404),
        200: {"description": "Events `progress`.", "content": {"text/event-stream": {"schema": {"type": "string"}}}},
    },
)
async def follow_progress(
    request: Request, services: FromServices, id: answers.CampaignId, caller: Reader
) -> StreamingResponse:
    """Server-sent events. `progress` carries `{"status","funnel","runs":[{"run_id","occurrence","state"}]}` with the
    last 20 runs, at once and whenever it changes, at most once a second. When a campaign has ended and nothing of it is
    open, `end` follows and the stream closes. Whoever was cut off asks again and is told the present state."""
    if len(services.streams) >= MOST_STREAMS:
        raise Problem(503, f"{MOST_STREAMS} streams are open: ask again later", headers={"Retry-After": "10"})
    state = await _read(services, id)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_events(request, services, id, state), 200, headers, "text/event-stream")


async def _events(request: Request, services: Services, id: str, state: dict[str, Any]) -> AsyncIterator[bytes]:
    ticket = object()
    services.streams.add(ticket)
    try:
        yield b"retry: 2000\n\n" + _event("progress", state)
        silent = 0.0
        while not (services.stopping.is_set() or await request.is_disconnected()):
            if state["status"] in TERMINAL and not (state["funnel"]["pending"] or state["funnel"]["in_doubt"]):
                yield _event("end", {"status": state["status"]})
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(services.stopping.wait(), EVERY_SECONDS)
            silent += EVERY_SECONDS
            try:
                now = await _read(services, id)
            except Exception as error:
                if not is_outage(error):
                    raise
                log.warning("progress_waits", **failure(error))
                now = state
            if now != state:
                state, silent = now, 0.0
                yield _event("progress", state)
            elif silent >= KEEP_ALIVE_SECONDS:
                silent = 0.0
                yield b": still here\n\n"
    finally:
        services.streams.discard(ticket)


async def _read(services: Services, id: str) -> dict[str, Any]:
    async with services.database.begin() as tx:
        campaign = await common.get(tx, "campaign", id)
        cells, runs = await funnel.read_report(tx, id)
    names = ("run_id", "occurrence", "state")
    newest = sorted(runs, key=lambda run: run["occurrence"], reverse=True)[:MOST_RUNS]
    return {
        "status": campaign.status,
        "funnel": report(cells, runs)["funnel"],
        "runs": [{name: run[name] for name in names} for run in newest],
    }


def _event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: ".encode() + msgspec.json.encode(data) + b"\n\n"
