"""Rows of the event store: JSON properties and traits split into typed columns, once, when they are written.

A value is looked up by name in the map of its type, so that text never meets a number (rules.md T6). Text that is a
date (T20) is in `strs` and, read, in `dates`. Must not know any zone: a local time stays local until it is evaluated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec

from postrider.contracts.delivery_events import ACCEPTED_STATUSES, TEST_RUN, MessageChanged
from postrider.contracts.suppressions import SuppressionChanged
from postrider.contracts.user_events import UserEvent
from postrider.rules.dates import read_date

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_NO_VALUES: Final[dict[str, Any]] = {}
_NO_ITEMS: Final[list[Any]] = []
"""Never changed: many rows share them."""

StoredDate = tuple[int, int]
"""(kind, microseconds): `postrider.rules.dates.DateKind` and the reading on the clock it belongs to."""
StoredList = tuple[list[str], list[float], list[bool], list[StoredDate]]


class Columns(NamedTuple):
    """`lists`: elements by type, those that are null, lists or objects left out (T11). `others`: names of objects."""

    strs: dict[str, str]
    nums: dict[str, float]
    bools: dict[str, bool]
    dates: dict[str, StoredDate]
    lists: dict[str, StoredList]
    others: list[str]


class EventRow(NamedTuple):
    """Fields in the order of the table's columns."""

    user_id: str
    event: str
    at: int
    received_at: int
    message_id: str
    strs: dict[str, str]
    nums: dict[str, float]
    bools: dict[str, bool]
    dates: dict[str, StoredDate]
    lists: dict[str, StoredList]
    others: list[str]


class ProfileRow(NamedTuple):
    """`phone`: E.164 when `phone_valid`, else "". `phone_country`: ISO or "". `time_zone`: a valid IANA name or ""."""

    user_id: str
    version: int
    deleted: bool
    phone: str
    phone_hash: str
    phone_valid: bool
    phone_country: str
    time_zone: str
    consent: bool | None
    strs: dict[str, str]
    nums: dict[str, float]
    bools: dict[str, bool]
    dates: dict[str, StoredDate]
    lists: dict[str, StoredList]
    others: list[str]


class SuppressionRow(NamedTuple):
    phone_hash: str
    suppressed: bool
    version: int


class OutcomeRow(NamedTuple):
    """How far a message came, for rules: `what` is a status of `messaged`; of several rows the earliest `at` holds."""

    campaign_id: str
    what: str
    user_id: str
    message_id: str
    at: int


class MessageRow(NamedTuple):
    """A message as the message log has it; `attempts` is JSON text (a list of `AttemptSummary`)."""

    campaign_id: str
    message_id: str
    run_id: str
    occurrence: str
    user_id: str
    phone: str
    status: str
    reason: str
    body: str
    parts: int
    provider_id: str
    attempts: str
    variant: str
    due_at: int
    updated_at: int
    seq: int


def microseconds(at: datetime) -> int:
    """An aware datetime as microseconds since 1970-01-01 UTC, exactly."""
    return (at - _EPOCH) // _MICROSECOND


def from_microseconds(at: int) -> datetime:
    """The inverse of `microseconds`."""
    return _EPOCH + timedelta(microseconds=at)


def split(values: Mapping[str, Any]) -> Columns:
    """JSON values by type; a null is as if missing (T3). Most rows have few types: what is empty is shared."""
    strs: dict[str, str] = {}
    nums: dict[str, float] = {}
    bools: dict[str, bool] | None = None
    dates: dict[str, StoredDate] | None = None
    lists: dict[str, StoredList] | None = None
    others: list[str] | None = None
    for name, value in values.items():
        kind = type(value)
        if kind is str:
            strs[name] = value
            if len(value) >= 10 and value[4] == "-" and (date := _date(value)) is not None:
                dates = {} if dates is None else dates
                dates[name] = date
        elif (kind is int or kind is float) and (number := _double(value)) is not None:
            nums[name] = number
        elif kind is bool:
            bools = {} if bools is None else bools
            bools[name] = value
        elif kind is list:
            lists = {} if lists is None else lists
            lists[name] = _split_list(value)
        elif value is not None:
            others = [] if others is None else others
            others.append(name)
    return Columns(strs, nums, bools or _NO_VALUES, dates or _NO_VALUES, lists or _NO_VALUES, others or _NO_ITEMS)


def _split_list(items: list[Any]) -> StoredList:
    strs: list[str] = []
    nums: list[float] | None = None
    bools: list[bool] | None = None
    dates: list[StoredDate] | None = None
    for item in items:
        kind = type(item)
        if kind is str:
            strs.append(item)
            if (date := _date(item)) is not None:
                dates = [] if dates is None else dates
                dates.append(date)
        elif kind is int or kind is float:
            if (number := _double(item)) is not None:
                nums = [] if nums is None else nums
                nums.append(number)
        elif kind is bool:
            bools = [] if bools is None else bools
            bools.append(item)
    return strs, nums or _NO_ITEMS, bools or _NO_ITEMS, dates or _NO_ITEMS


def _date(text: str) -> StoredDate | None:
    # Nearly all text fails here, before the expression that decides.
    if len(text) < 10 or text[4] != "-" or text[7] != "-":
        return None
    date = read_date(text)
    return None if date is None else (date.kind.value, date.us)


def _double(number: int | float) -> float | None:
    """None for what no double can hold (10^400): it exists and compares with nothing."""
    try:
        double = float(number)
    except OverflowError:
        return None
    return double + 0.0 if math.isfinite(double) else None  # −0 becomes 0


def event_row(event: UserEvent, message_id: str) -> EventRow:
    """`message_id` names the event when the client did not (topic-partition-offset)."""
    columns = split(event.values)
    return EventRow(
        event.user_id, event.event, microseconds(event.at), microseconds(event.received_at), message_id, *columns
    )


def profile_row(
    user_id: str,
    version: int,
    traits: Mapping[str, Any],
    *,
    phone: str = "",
    phone_hash: str = "",
    phone_country: str = "",
    time_zone: str = "",
    consent: bool | None = None,
    deleted: bool = False,
) -> ProfileRow:
    """`traits` as they are kept: a valid phone in E.164 (T31). `phone` is "" when there is no valid one."""
    return ProfileRow(
        user_id, version, deleted, phone, phone_hash, phone != "", phone_country, time_zone, consent, *split(traits)
    )


def suppression_row(change: SuppressionChanged) -> SuppressionRow:
    return SuppressionRow(change.phone_hash, change.suppressed, change.version)


def message_row(change: MessageChanged) -> MessageRow:
    attempts = msgspec.json.encode(change.attempts).decode()
    return MessageRow(
        campaign_id=change.campaign_id,
        message_id=change.message_id,
        run_id=change.run_id,
        occurrence=change.occurrence,
        user_id=change.user_id,
        phone=change.phone,
        status=change.status,
        reason=change.reason,
        body=change.body,
        parts=change.parts,
        provider_id=change.provider_id,
        attempts=attempts,
        variant=change.variant,
        due_at=microseconds(change.due_at),
        updated_at=microseconds(change.at),
        seq=change.seq,
    )


def outcome_rows(change: MessageChanged) -> list[OutcomeRow]:
    """What a state tells of how far a message came. A state may be told alone, so the last one tells all before it. Of
    a test send nothing: the campaign has texted nobody."""
    if change.status not in ACCEPTED_STATUSES or change.run_id == TEST_RUN:
        return []
    known = ("accepted", "delivered") if change.status == "delivered" else ("accepted",)
    at = microseconds(change.at)
    return [OutcomeRow(change.campaign_id, what, change.user_id, change.message_id, at) for what in known]


def values_of(
    strs: dict[str, str], nums: dict[str, float], bools: dict[str, bool], lists: dict[str, dict[str, list[Any]]]
) -> dict[str, Any]:
    """Properties as they were sent, but for objects, which are not kept, and the order of lists of several types."""
    listed = {name: [*items["strs"], *map(_sent, items["nums"]), *items["bools"]] for name, items in lists.items()}
    return {**strs, **{name: _sent(value) for name, value in nums.items()}, **bools, **listed}


def _sent(value: float) -> float:
    """5 was kept as 5.0; a text shall not say so."""
    return int(value) if value == int(value) and abs(value) < 1 << 53 else value
