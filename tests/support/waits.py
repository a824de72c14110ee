"""Campaigns that wait, and what a test sees of their timers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import msgspec
from sqlalchemy import text

from postrider.contracts.definitions import CampaignDefinition, Trigger, Unless, Who
from postrider.contracts.qualified import QUALIFIED, QualifiedUser
from postrider.contracts.topics import QUALIFIED_USERS
from tests.support.eventually import eventually
from tests.support.segment_engine import Engine, live_campaign


def inaction(
    id: str = "cmp_in", within: int = 1, filter: dict[str, Any] | None = None, **changes: Any
) -> CampaignDefinition:
    """Cart, and no Bought within so many seconds."""
    trigger = Trigger("Cart", unless=Unless("Bought"), within_seconds=within)
    trigger = msgspec.structs.replace(trigger, **{n: changes.pop(n) for n in list(changes) if hasattr(trigger, n)})
    return live_campaign(
        "Cart", campaign_id=id, kind="live_inaction", who=Who(trigger=trigger, filter=filter), **changes
    )


def on_date(id: str = "cmp_date", **trigger: Any) -> CampaignDefinition:
    return live_campaign("", campaign_id=id, kind="live_date", who=Who(trigger=Trigger(**trigger)))


def at(event: dict[str, Any], moment: datetime) -> dict[str, Any]:
    return {**event, "timestamp": moment.isoformat()}


def now() -> datetime:
    return datetime.now(UTC)


async def qualified(made: Engine, count: int = 0) -> list[QualifiedUser]:
    found = await made.published(QUALIFIED_USERS, QUALIFIED, QualifiedUser)
    assert len(found) >= count, found
    return found


async def names(made: Engine, count: int) -> list[str]:
    """Who qualified, once there are so many."""
    return sorted(user.user_id for user in await eventually(lambda: qualified(made, count)))


async def waits(made: Engine) -> list[tuple[str, str, bool]]:
    """(user, key, armed)."""
    async with made.database.begin() as tx:
        rows = await tx.execute(text("SELECT user_id, key, due_at IS NOT NULL AS armed FROM waits ORDER BY 1, 2"))
        return [(row.user_id, row.key, row.armed) for row in rows]


async def armed(made: Engine, count: int) -> bool:
    return sum(armed for _, _, armed in await waits(made)) == count


def exists(name: str) -> dict[str, Any]:
    return {"property": name, "op": "exists"}


async def hours(made: Engine) -> dict[str, int]:
    async with made.database.begin() as tx:
        rows = await tx.execute(text("SELECT campaign_id, due_at FROM waits"))
        return {row.campaign_id: row.due_at.astimezone(UTC).hour for row in rows}


async def move_clock(made: Engine, by: timedelta) -> None:
    """Tests own the database's clock."""
    connection = await asyncpg.connect(made.settings.database_url)
    try:
        await connection.execute(
            "CREATE OR REPLACE FUNCTION segment_engine.db_now() RETURNS timestamptz LANGUAGE sql VOLATILE AS "
            f"$$ SELECT clock_timestamp() + interval '{by.total_seconds()} seconds' $$"
        )
    finally:
        await connection.close()
