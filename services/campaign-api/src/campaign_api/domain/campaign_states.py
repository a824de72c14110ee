"""The states of a campaign: the table, and what progress of its runs means for it. Only here a status is decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from campaign_api.domain.errors import Conflict


class Status(StrEnum):
    DRAFT = "draft"
    PENDING_APPROVAL = "pending_approval"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    STOPPED = "stopped"
    REJECTED = "rejected"


class Event(StrEnum):
    SCHEDULE = "schedule"
    SUBMIT = "submit"
    APPROVE = "approve"
    REJECT = "reject"
    EDIT = "edit"
    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    FINISH = "finish"
    STOP = "stop"


TRANSITIONS: Final[Mapping[tuple[Status, Event], Status]] = {
    (Status.DRAFT, Event.SCHEDULE): Status.SCHEDULED,
    (Status.DRAFT, Event.SUBMIT): Status.PENDING_APPROVAL,
    (Status.DRAFT, Event.EDIT): Status.DRAFT,
    (Status.DRAFT, Event.STOP): Status.STOPPED,
    (Status.PENDING_APPROVAL, Event.APPROVE): Status.SCHEDULED,
    (Status.PENDING_APPROVAL, Event.REJECT): Status.REJECTED,
    (Status.PENDING_APPROVAL, Event.EDIT): Status.DRAFT,
    (Status.PENDING_APPROVAL, Event.STOP): Status.STOPPED,
    (Status.REJECTED, Event.EDIT): Status.DRAFT,
    (Status.REJECTED, Event.STOP): Status.STOPPED,
    (Status.SCHEDULED, Event.EDIT): Status.SCHEDULED,
    (Status.SCHEDULED, Event.START): Status.RUNNING,
    (Status.SCHEDULED, Event.PAUSE): Status.PAUSED,
    (Status.SCHEDULED, Event.FINISH): Status.COMPLETED,
    (Status.SCHEDULED, Event.STOP): Status.STOPPED,
    (Status.RUNNING, Event.EDIT): Status.RUNNING,
    (Status.RUNNING, Event.PAUSE): Status.PAUSED,
    (Status.RUNNING, Event.FINISH): Status.COMPLETED,
    (Status.RUNNING, Event.STOP): Status.STOPPED,
    (Status.PAUSED, Event.EDIT): Status.PAUSED,
    (Status.PAUSED, Event.RESUME): Status.SCHEDULED,
    (Status.PAUSED, Event.STOP): Status.STOPPED,
}
"""What was approved is what is sent: an edit of a campaign that waits for approval takes it back to draft."""
TERMINAL: Final = frozenset({Status.COMPLETED, Status.STOPPED})
UNPUBLISHED: Final = frozenset({Status.DRAFT, Status.PENDING_APPROVAL, Status.REJECTED})
"""Nobody else knows of it: everything may change, and it may be deleted."""
ACTIVE: Final = frozenset({Status.SCHEDULED, Status.RUNNING, Status.PAUSED})
LIVE_KINDS: Final = frozenset({"live_action", "live_inaction", "live_date"})

RUN_RANKS: Final[Mapping[str, int]] = {
    "planned": 0,
    "requested": 0,
    "removed": 0,
    "running": 1,
    "expanded": 2,
    "stopped": 3,
    "expired": 4,
    "failed": 5,
    "stopped_by_safety_check": 6,
}
"""A run never goes back to a lower rank. Before its audience is fixed an edit may remove it and bring it back: among
those the latest word counts."""
EMITTED_RUN_STATES: Final = frozenset(
    {"expanded", "stopped", "expired", "failed", "stopped_by_safety_check", "removed"}
)
"""Nothing more comes of it."""


def apply(status: Status, event: Event) -> Status:
    """The next status. Raises `Conflict` for an illegal move, which says what is legal."""
    following = TRANSITIONS.get((status, event))
    if following is None:
        raise Conflict(f"a campaign that is {status} cannot be {_DONE[event]}; it can be {_what_can_be_done(status)}")
    return following


_DONE: Final[Mapping[Event, str]] = {
    Event.SCHEDULE: "scheduled",
    Event.SUBMIT: "scheduled",
    Event.APPROVE: "approved",
    Event.REJECT: "rejected",
    Event.EDIT: "changed",
    Event.START: "started",
    Event.PAUSE: "paused",
    Event.RESUME: "resumed",
    Event.FINISH: "completed",
    Event.STOP: "stopped",
}
_BY_RUNS: Final = frozenset({Event.START, Event.FINISH})
"""Nobody asks for these: they follow from what its runs do."""


def _what_can_be_done(status: Status) -> str:
    moves = dict.fromkeys(_DONE[event] for at, event in TRANSITIONS if at is status and event not in _BY_RUNS)
    *all_but_last, last = [*moves, *(["deleted"] if status in UNPUBLISHED else []), "cloned"]
    return f"{', '.join(all_but_last)} or {last}" if all_but_last else f"{last} only"


def release(status: Status, event: Event, kind: str) -> Status:
    """`schedule`, `approve` and `resume`: a live campaign runs from that moment, a scheduled one waits for its run."""
    released = apply(status, event)
    return apply(released, Event.START) if kind in LIVE_KINDS else released


@dataclass(frozen=True, slots=True)
class Progress:
    """What is known of a campaign. `state`: of the run furthest behind, "" without any. `open_messages`: pending or in
    doubt. `sent`: accepted or unknown, which a message never leaves."""

    state: str = ""
    has_started: bool = False
    open_messages: int = 0
    sent: int = 0


def follow(status: Status, body: Mapping[str, Any], progress: Progress) -> Status:
    """A scheduled campaign ends with its runs, a live one when all of its total was sent: until then a slot may come
    back. A campaign that ended stays as it is, and a paused one until it is resumed."""
    if status not in (Status.SCHEDULED, Status.RUNNING):
        return status
    if body["kind"] in LIVE_KINDS:
        total = total_of(body)
        is_over = total is not None and progress.sent >= total
    else:
        is_over = progress.state in EMITTED_RUN_STATES
    if is_over and progress.open_messages <= 0:
        return apply(status, Event.FINISH)
    return apply(status, Event.START) if status is Status.SCHEDULED and progress.has_started else status


def total_of(body: Mapping[str, Any]) -> int | None:
    """The campaign's limit of texts in all."""
    total: int | None = (body["who"].get("limits") or {}).get("total")
    return total
