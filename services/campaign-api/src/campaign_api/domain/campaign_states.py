"""The states of a campaign: the table, and what a run's progress means for it. The only place that decides a status.

`pending_approval`, `paused` and `rejected` of api.md are not built yet and have no row.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from campaign_api.domain.errors import Conflict


class Status(StrEnum):
    DRAFT = "draft"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    COMPLETED = "completed"
    STOPPED = "stopped"


class Event(StrEnum):
    SCHEDULE = "schedule"
    START = "start"
    FINISH = "finish"
    STOP = "stop"


TRANSITIONS: Final[Mapping[tuple[Status, Event], Status]] = {
    (Status.DRAFT, Event.SCHEDULE): Status.SCHEDULED,
    (Status.DRAFT, Event.STOP): Status.STOPPED,
    (Status.SCHEDULED, Event.START): Status.RUNNING,
    (Status.SCHEDULED, Event.FINISH): Status.COMPLETED,
    (Status.SCHEDULED, Event.STOP): Status.STOPPED,
    (Status.RUNNING, Event.FINISH): Status.COMPLETED,
    (Status.RUNNING, Event.STOP): Status.STOPPED,
}
TERMINAL: Final = frozenset({Status.COMPLETED, Status.STOPPED})
ACTIVE: Final = frozenset({Status.SCHEDULED, Status.RUNNING})
LIVE_KINDS: Final = frozenset({"live_action", "live_inaction", "live_date"})

RUN_STATES: Final = ("requested", "running", "expanded", "stopped", "expired", "failed")
"""States of a run in the order in which they may follow each other; the last three end it."""
STARTED_RUN_STATES: Final = frozenset({"running", "expanded"})
EMITTED_RUN_STATES: Final = frozenset({"expanded", "stopped", "expired", "failed"})


def apply(status: Status, event: Event) -> Status:
    """The next status. Raises `Conflict` for an illegal move."""
    following = TRANSITIONS.get((status, event))
    if following is None:
        raise Conflict(f"a campaign that is {status} cannot {event}")
    return following


def schedule(status: Status, kind: str) -> Status:
    """A live campaign runs from the moment it is scheduled; a scheduled one waits for its run."""
    scheduled = apply(status, Event.SCHEDULE)
    return apply(scheduled, Event.START) if kind in LIVE_KINDS else scheduled


def follow_run(status: Status, kind: str, run_state: str, open_messages: int) -> Status:
    """The status after what is known of a campaign's run: its state, and how many are pending or in doubt.

    A live campaign has no run and ends only by a stop; a campaign that ended stays as it is.
    """
    if kind in LIVE_KINDS or status not in ACTIVE:
        return status
    if run_state in EMITTED_RUN_STATES and open_messages <= 0:
        return apply(status, Event.FINISH)
    if status is Status.SCHEDULED and run_state in STARTED_RUN_STATES:
        return apply(status, Event.START)
    return status
