"""POST /internal/capped: how many of some people could not get another text, for estimates. Reserves nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from postrider.contracts.definitions import AccountSettings, Who
from postrider.postgres.database import Database
from postrider.zones import is_zone
from scheduler.domain.caps import Capped, caps_of, reserve, reserved
from scheduler.store import book_rows, run_rows

MOST_PEOPLE = 2_000
Seconds = Annotated[int, Field(ge=0, le=400 * 86_400)]


class PersonIn(BaseModel):
    user_id: str
    zone: str


class CappedIn(BaseModel):
    """`due_at` None: now."""

    model_config = ConfigDict(extra="forbid")

    campaign_id: str
    people: Annotated[list[PersonIn], Field(max_length=MOST_PEOPLE)]
    ignore_frequency_caps: bool = False
    min_gap_seconds: Seconds = 0
    send_by_seconds: Seconds
    due_at: AwareDatetime | None = None


def router(database: Database, settings: Callable[[], AccountSettings], is_ours: Callable[..., None]) -> APIRouter:
    """`is_ours`: refuses whoever has no service token."""
    routes = APIRouter(prefix="/internal", dependencies=[Depends(is_ours)])

    @routes.post("/capped")
    async def capped(body: CappedIn) -> dict[str, int]:
        account = settings()
        who = Who(ignore_frequency_caps=body.ignore_frequency_caps, min_gap_seconds=body.min_gap_seconds)
        caps = caps_of(account, who)
        async with database.begin() as tx:
            due_at = body.due_at or await run_rows.db_now(tx)
            ledgers = await book_rows.read_ledgers(tx, {person.user_id for person in body.people}) if caps else {}
        send_by = due_at + timedelta(seconds=body.send_by_seconds)
        n = 0
        for person in body.people:
            if ledger := ledgers.get(person.user_id):
                zone = person.zone if is_zone(person.zone) else account.account_time_zone
                wanted = reserved("", body.campaign_id, due_at, send_by, zone)
                n += isinstance(reserve(wanted, ledger, caps), Capped)
        return {"asked": len(body.people), "capped": n}

    return routes
