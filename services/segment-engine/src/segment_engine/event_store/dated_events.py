"""Events of one name whose property is a date, page by page: what a date campaign arms from when it is launched."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from segment_engine.domain.columns import from_microseconds, microseconds, values_of
from segment_engine.domain.compile_params import render
from segment_engine.event_store.port import DatedEvent

_PAGE = """SELECT user_id, at, message_id, strs, nums, bools, lists FROM events
WHERE event = {event:String} AND mapContains(dates, {property:String}) AND dates[{property:String}].us >= {since:Int64}
  AND user_id >= {user:String} AND (user_id, at, message_id) > ({user:String}, {at:Int64}, {message:String})
ORDER BY user_id, at, message_id LIMIT {limit:UInt64}"""


class Reader(Protocol):
    async def rows(self, sql: str, params: Mapping[str, str] | None = None) -> list[list[Any]]: ...


async def page(
    reader: Reader, event: str, property: str, since: datetime | None, after: DatedEvent | None, limit: int
) -> list[DatedEvent]:
    """`EventStore.dated_events`."""
    rows = await reader.rows(
        _PAGE,
        {
            "event": render(event),
            "property": render(property),
            "since": render(-(1 << 62) if since is None else microseconds(since)),
            "user": render("" if after is None else after.user_id),
            "at": render(-(1 << 62) if after is None else microseconds(after.at)),
            "message": render("" if after is None else after.message_id),
            "limit": render(limit),
        },
    )
    return [
        DatedEvent(user_id, from_microseconds(at), message_id, values_of(*columns))
        for user_id, at, message_id, *columns in rows
    ]
