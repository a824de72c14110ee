"""Whether a live campaign's trigger can work: every reason why not, each with a pointer. Shapes were checked before."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from campaign_api.domain.errors import FieldProblem
from postrider.durations import parse_duration, parse_offset
from postrider.rules import RuleErrors, parse_where

MAX_WITHIN: Final = timedelta(days=30)
MAX_OFFSET: Final = timedelta(days=365)
_CLOCK: Final = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
_TRIGGER: Final = "/who/trigger"


def check_trigger(trigger: Mapping[str, Any]) -> list[FieldProblem]:
    problems = _check_where(trigger["where"], f"{_TRIGGER}/where")
    if trigger.get("unless") is not None:
        problems += _check_where(trigger["unless"]["where"], f"{_TRIGGER}/unless/where")
        problems += _check_within(trigger["within"])
    if trigger.get("offset") is not None:  # every date has one, no other kind does
        problems += _check_date(trigger)
    return problems


def event_reaches_the_text(who: Mapping[str, Any]) -> bool:
    """Whether the body may name Event.*: a date of the profile comes without an event."""
    trigger = who.get("trigger") or {}
    return bool(trigger.get("event"))


def _check_where(where: object, pointer: str) -> list[FieldProblem]:
    try:
        parse_where(where)
    except RuleErrors as error:
        return [FieldProblem(pointer + inner, message) for inner, message in error.problems]
    return []


def _check_within(within: str) -> list[FieldProblem]:
    try:
        length = parse_duration(within)
    except ValueError as error:
        return [FieldProblem(f"{_TRIGGER}/within", str(error))]
    if length > MAX_WITHIN:
        return [FieldProblem(f"{_TRIGGER}/within", f"must be at most {MAX_WITHIN.days} days")]
    return []


def _check_date(trigger: Mapping[str, Any]) -> list[FieldProblem]:
    problems = []
    event, date_property = trigger["event"], trigger["date_property"]
    if trigger["date_attribute"] is not None:
        for name in ("event", "date_property"):
            if trigger[name] is not None:
                problems.append(FieldProblem(f"{_TRIGGER}/{name}", "not together with date_attribute"))
        if trigger["where"]:
            problems.append(FieldProblem(f"{_TRIGGER}/where", "filters an event; filter profiles with who.filter"))
    elif event is None and date_property is None:
        problems.append(FieldProblem(_TRIGGER, "needs date_attribute, or event and date_property"))
    elif event is None:
        problems.append(FieldProblem(f"{_TRIGGER}/event", "is required with date_property"))
    elif date_property is None:
        problems.append(FieldProblem(f"{_TRIGGER}/date_property", "is required with event"))
    try:
        offset = parse_offset(trigger["offset"])
    except ValueError as error:
        problems.append(FieldProblem(f"{_TRIGGER}/offset", str(error)))
    else:
        if abs(offset) > MAX_OFFSET:
            problems.append(FieldProblem(f"{_TRIGGER}/offset", f"must be at most {MAX_OFFSET.days} days"))
    clock = trigger["at_local_time"]
    if clock is not None and not _CLOCK.fullmatch(clock):
        problems.append(FieldProblem(f"{_TRIGGER}/at_local_time", 'must be a time of day, "00:00" to "23:59"'))
    return problems
