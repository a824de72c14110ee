"""Reading replies of any vendor: JSON, dates, Retry-After. Pure; must not know what a code means."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

MAX_RETRY_AFTER_SECONDS = 3600.0


def json_of(body: bytes | str) -> Any:
    """What the body says as JSON; None for anything that is none, so that it counts as not said."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def json_object(body: bytes | str) -> dict[str, Any]:
    """The JSON object; empty for anything else."""
    value = json_of(body)
    return value if isinstance(value, dict) else {}


def date_of(value: object) -> datetime | None:
    """A date as in HTTP headers and mail; one without zone is UTC."""
    if not isinstance(value, str):
        return None
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, or a date against the reply's own Date; bounded. None: the caller's own back-off."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:9]), MAX_RETRY_AFTER_SECONDS)
    until, now = date_of(value), date_of(headers.get("date"))
    if until is None or now is None:
        return None
    return min(max((until - now).total_seconds(), 0.0), MAX_RETRY_AFTER_SECONDS)
