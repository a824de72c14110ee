"""Whether a campaign's `when` can work: every reason why not, with a pointer to its field. Looks nothing up."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta
from typing import Any, Final

from campaign_api.domain.errors import FieldProblem
from postrider.contracts.definitions import Recurrence
from postrider.durations import parse_duration
from postrider.scheduling.occurrences import ACCOUNT_ZONE, BEST_TIME, USER_ZONE, anchor_of
from postrider.scheduling.recurrences import Pattern, RecurrenceError, read_recurrence, require_occurrence
from postrider.zones import is_past_everywhere, is_zone, load_zone, to_instant

MAX_SEND_BY: Final = timedelta(days=30)
MAX_DELAY: Final = timedelta(days=30)
MAX_CATCH_UP: Final = timedelta(days=7)
MAX_GAP: Final = timedelta(days=365)
_LOCAL: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2})?")
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_LAST_YEAR: Final = 2200
_OWN_CLOCKS: Final = (USER_ZONE, BEST_TIME)
_FIELD_OF_RECURRENCE: Final = {"rule": "recurrence"}


def check_when(
    body: Mapping[str, Any],
    account_zone: str,
    now: datetime,
    *,
    dates: bool,
    judged: frozenset[str] = frozenset(),
) -> list[FieldProblem]:
    """Empty when it can work. `dates` False: its times were judged when it was scheduled; `judged`: these of its dates
    were."""
    kind, when = body["kind"], body["when"]
    problems = check_duration(when.get("send_by"), "/when/send_by", MAX_SEND_BY)
    problems += check_duration(when.get("catch_up"), "/when/catch_up", MAX_CATCH_UP)
    problems += check_quiet_hours(when.get("quiet_hours"), "/when/quiet_hours")
    mode = when.get("time_zone", ACCOUNT_ZONE)
    if mode not in (ACCOUNT_ZONE, *_OWN_CLOCKS) and not is_zone(mode):
        return [*problems, FieldProblem("/when/time_zone", 'must be "account", "user", "best_time" or an IANA zone')]
    problems += _check_best_time(kind, when, mode)
    zone = account_zone if mode in (ACCOUNT_ZONE, *_OWN_CLOCKS) else mode
    if kind == "recurring":
        return problems + _check_recurrence(when, mode, zone, now, dates)
    if kind.startswith("live_"):
        problems += _check_delay(kind, when)
        return problems + _check_bounds(when, zone, now, dates)
    return problems + _check_times(kind, when["at"], mode, zone, now if dates else None, judged)


def check_duration(value: str | None, pointer: str, longest: timedelta) -> list[FieldProblem]:
    if value is None:
        return []
    try:
        length = parse_duration(value)
    except ValueError as error:
        return [FieldProblem(pointer, str(error))]
    if length > longest:
        return [FieldProblem(pointer, f"must be at most {longest.days} days")]
    return []


def check_quiet_hours(quiet: Mapping[str, Any] | None, pointer: str) -> list[FieldProblem]:
    """A week must keep a minute in which a text may leave."""
    if quiet is None or not quiet["windows"]:
        return []
    return [FieldProblem(f"{pointer}/windows", "leave no minute of the week")] if _fills_week(quiet["windows"]) else []


def read_local(text: str) -> datetime:
    """A local date-time without offset. Raises ValueError."""
    if not _LOCAL.fullmatch(text):
        raise ValueError("must be a local time without offset, such as 2026-12-01T09:00:00")
    try:
        local = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError("no such date or time") from error
    if not 1900 <= local.year <= _LAST_YEAR:
        raise ValueError(f"has a year that is not from 1900 to {_LAST_YEAR}")
    return local


def read_bound(name: str, text: str) -> datetime:
    """A `start` or an `end`: a local date-time, or a day, which is its first moment as a start and its last as an end.
    Raises ValueError."""
    if not _DAY.fullmatch(text):
        return read_local(text)
    midnight = read_local(f"{text}T00:00:00")
    return midnight if name == "start" else datetime.combine(midnight, time.max)


def recurrence_of(when: Mapping[str, Any]) -> Recurrence:
    return Recurrence(when["recurrence"], when["times"], when.get("start"), when.get("end"), when["short_month"])


def _check_best_time(kind: str, when: Mapping[str, Any], mode: str) -> list[FieldProblem]:
    if kind.startswith("live_"):
        return [FieldProblem("/when/time_zone", "a live text has no best time")] if mode == BEST_TIME else []
    if mode == BEST_TIME:
        missing = when.get("fallback_time") is None
        return [FieldProblem("/when/fallback_time", "is needed with time_zone best_time")] if missing else []
    return [
        FieldProblem(f"/when/{name}", "only with time_zone best_time")
        for name in ("fallback_time", "best_time_event")
        if when.get(name) is not None
    ]


def _check_times(
    kind: str, at: str | list[str], mode: str, zone: str, now: datetime | None, judged: frozenset[str]
) -> list[FieldProblem]:
    if at == "now":
        return []
    problems: list[FieldProblem] = []
    seen: set[datetime] = set()
    given = [("/when/at", at)] if isinstance(at, str) else [(f"/when/at/{n}", text) for n, text in enumerate(at)]
    for pointer, text in given:
        try:
            local = read_local(text)
        except ValueError as error:
            reason = str(error).replace("must be", 'must be "now" or', 1) if kind == "one_time" else str(error)
            problems.append(FieldProblem(pointer, reason))
            continue
        day = local.replace(hour=0, minute=0, second=0) if mode == BEST_TIME else local
        if day in seen:
            problem = "is a day that is there already" if mode == BEST_TIME else "is there already"
            problems.append(FieldProblem(pointer, problem))
        seen.add(day)
        if now is not None and text not in judged:
            problems += _check_not_past(local, mode, zone, now, pointer)
    return problems


def _check_not_past(local: datetime, mode: str, zone: str, now: datetime, pointer: str) -> list[FieldProblem]:
    if mode in _OWN_CLOCKS:
        last = local.replace(hour=23, minute=59, second=59) if mode == BEST_TIME else local
        return [FieldProblem(pointer, "is past in every time zone on Earth")] if is_past_everywhere(last, now) else []
    if to_instant(local, zone).at >= now:
        return []
    whose = f"the account's time zone, {zone}" if mode == ACCOUNT_ZONE else zone
    return [FieldProblem(pointer, f"is past in {whose}")]


def _check_recurrence(when: Mapping[str, Any], mode: str, zone: str, now: datetime, dates: bool) -> list[FieldProblem]:
    problems = _unreadable(when, ("start", "end"))
    if problems:
        return problems
    if dates and when.get("end") is not None:
        over = _check_not_past(read_bound("end", when["end"]), mode, zone, now, "/when/end")
        if over:
            return over
    try:
        pattern = read_recurrence(recurrence_of(when))
        anchor = anchor_of(pattern, zone, now)
        require_occurrence(pattern, anchor)
    except RecurrenceError as error:
        return [FieldProblem(f"/when/{_FIELD_OF_RECURRENCE.get(error.field, error.field)}", str(error))]
    if len(set(when["times"])) != len(when["times"]):
        problems.append(FieldProblem("/when/times", "are not all different"))
    if mode == BEST_TIME and len(when["times"]) > 1:
        problems.append(FieldProblem("/when/times", "must be one: a person's best time comes once a day"))
    if dates and not problems and not _has_occurrence_ahead(pattern, anchor, mode, zone, now):
        problems.append(FieldProblem("/when/recurrence", "has no occurrence ahead"))
    return problems


def _has_occurrence_ahead(pattern: Pattern, anchor: date, mode: str, zone: str, now: datetime) -> bool:
    back = now.astimezone(load_zone(zone)).replace(tzinfo=None) - timedelta(days=3)
    ahead = (slot for slot in pattern.slots(anchor, back) if not _check_not_past(slot, mode, zone, now, ""))
    return next(ahead, None) is not None


def _check_delay(kind: str, when: Mapping[str, Any]) -> list[FieldProblem]:
    if when.get("delay") is None:
        return []
    if kind != "live_action":
        return [FieldProblem("/when/delay", "of live_action only: live_inaction has within, live_date offset")]
    return check_duration(when["delay"], "/when/delay", MAX_DELAY)


def _check_bounds(when: Mapping[str, Any], zone: str, now: datetime, dates: bool) -> list[FieldProblem]:
    problems = _unreadable(when, ("start", "end"))
    if problems or when.get("end") is None:
        return problems
    end = read_bound("end", when["end"])
    if when.get("start") is not None and end <= read_bound("start", when["start"]):
        problems.append(FieldProblem("/when/end", "must be after start"))
    if dates and to_instant(end, zone).at <= now:
        problems.append(FieldProblem("/when/end", f"is past in {zone}"))
    return problems


def _unreadable(when: Mapping[str, Any], names: Iterable[str]) -> list[FieldProblem]:
    problems = []
    for name in names:
        try:
            if when.get(name) is not None:
                read_bound(name, when[name])
        except ValueError as error:
            problems.append(FieldProblem(f"/when/{name}", str(error)))
    return problems


_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_MINUTES: Final = 24 * 60
_WEEK_MINUTES: Final = 7 * _DAY_MINUTES


def _fills_week(windows: Iterable[Mapping[str, Any]]) -> bool:
    quiet = bytearray(_WEEK_MINUTES)
    for window in windows:
        start, end = _minute(window["from"]), _minute(window["to"])
        length = (end - start) % _DAY_MINUTES or _DAY_MINUTES
        for day in window["days"]:
            first = _DAYS.index(day) * _DAY_MINUTES + start
            for minute in range(first, first + length):
                quiet[minute % _WEEK_MINUTES] = 1
    return all(quiet)


def _minute(clock: str) -> int:
    return int(clock[:2]) * 60 + int(clock[3:])
