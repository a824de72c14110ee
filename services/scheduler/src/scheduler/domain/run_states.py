"""The states of a run and of a zone in it, as tables. An illegal move raises.

A run: planned → requested (audience asked for) → running (audience fixed) → expanded (every job emitted).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeVar


class RunState(StrEnum):
    PLANNED = "planned"
    REQUESTED = "requested"
    RUNNING = "running"
    EXPANDED = "expanded"
    STOPPED = "stopped"
    EXPIRED = "expired"
    FAILED = "failed"
    STOPPED_BY_SAFETY_CHECK = "stopped_by_safety_check"
    REMOVED = "removed"
    """An edit took its occurrence away before its audience was fixed; another may bring it back."""


class RunEvent(StrEnum):
    REQUEST = "request"
    SNAPSHOT = "snapshot"
    REFUSE = "refuse"
    FINISH = "finish"
    MISS = "miss"
    STOP = "stop"
    UNSAFE = "unsafe"
    REMOVE = "remove"
    PLAN = "plan"


class ZoneState(StrEnum):
    """`dropped`: it had passed, or its day does not exist. `expired`: missed by downtime, or past its deadline."""

    WAITING = "waiting"
    REQUESTED = "requested"
    EXPANDED = "expanded"
    DROPPED = "dropped"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class ZoneEvent(StrEnum):
    FIRE = "fire"
    MISS = "miss"
    CLOSE = "close"
    STOP = "stop"


RUN_TRANSITIONS: Final[Mapping[tuple[RunState, RunEvent], RunState]] = {
    (RunState.PLANNED, RunEvent.REQUEST): RunState.REQUESTED,
    (RunState.PLANNED, RunEvent.MISS): RunState.EXPIRED,
    (RunState.PLANNED, RunEvent.STOP): RunState.STOPPED,
    (RunState.PLANNED, RunEvent.REMOVE): RunState.REMOVED,
    (RunState.REQUESTED, RunEvent.SNAPSHOT): RunState.RUNNING,
    (RunState.REQUESTED, RunEvent.REFUSE): RunState.FAILED,
    (RunState.REQUESTED, RunEvent.UNSAFE): RunState.STOPPED_BY_SAFETY_CHECK,
    (RunState.REQUESTED, RunEvent.STOP): RunState.STOPPED,
    (RunState.REQUESTED, RunEvent.REMOVE): RunState.REMOVED,
    (RunState.RUNNING, RunEvent.FINISH): RunState.EXPANDED,
    (RunState.RUNNING, RunEvent.MISS): RunState.EXPIRED,
    (RunState.RUNNING, RunEvent.STOP): RunState.STOPPED,
    (RunState.REMOVED, RunEvent.PLAN): RunState.PLANNED,
}
ZONE_TRANSITIONS: Final[Mapping[tuple[ZoneState, ZoneEvent], ZoneState]] = {
    (ZoneState.WAITING, ZoneEvent.FIRE): ZoneState.REQUESTED,
    (ZoneState.WAITING, ZoneEvent.MISS): ZoneState.EXPIRED,
    (ZoneState.WAITING, ZoneEvent.STOP): ZoneState.CANCELLED,
    (ZoneState.REQUESTED, ZoneEvent.CLOSE): ZoneState.EXPANDED,
    (ZoneState.REQUESTED, ZoneEvent.STOP): ZoneState.CANCELLED,
}
UNFIXED_RUNS: Final = frozenset({RunState.PLANNED, RunState.REQUESTED})
"""Their audience is not fixed yet: an edit of `when` still reaches them."""
ACTIVE_RUNS: Final = frozenset({RunState.PLANNED, RunState.REQUESTED, RunState.RUNNING})
OPEN_ZONES: Final = frozenset({ZoneState.WAITING, ZoneState.REQUESTED})

S = TypeVar("S", bound=StrEnum)
E = TypeVar("E", bound=StrEnum)


class IllegalMove(Exception):
    """The state machine has no such move: a bug, or a row that somebody else changed."""


def apply_run(state: RunState, event: RunEvent) -> RunState:
    return _apply(RUN_TRANSITIONS, state, event)


def apply_zone(state: ZoneState, event: ZoneEvent) -> ZoneState:
    return _apply(ZONE_TRANSITIONS, state, event)


def finish_event(zones: Mapping[ZoneState, int]) -> RunEvent:
    """How a run ends whose zones are all done: as missed when every zone with people expired, else as finished.

    `zones` counts the zones by state.
    """
    missed = zones.get(ZoneState.EXPIRED, 0)
    return RunEvent.MISS if missed and missed == sum(zones.values()) else RunEvent.FINISH


def _apply(table: Mapping[tuple[S, E], S], state: S, event: E) -> S:
    following = table.get((state, event))
    if following is None:
        raise IllegalMove(f"{state} cannot {event}")
    return following
