"""The life of one message in the ledger: a table of allowed moves, and what each state is called outside.

Pure. Nobody writes a state that did not come out of `apply`. Only the moves into and out of SUBMITTING are dangerous:
see docs/guarantee.md and `after_outcome.py` (what follows a call) and `doubt.py` (what follows a doubt).
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    __hash__ = str.__hash__  # a move is looked up several times a text; an enum's own hash is written in Python

    QUEUED = "QUEUED"
    HELD = "HELD"
    """Its campaign is paused."""
    DEFERRED = "DEFERRED"
    """Waits for a moment: back-off, or the next allowed interval."""
    SUBMITTING = "SUBMITTING"
    """A call may be under way: committed before the first byte goes out."""
    IN_DOUBT = "IN_DOUBT"
    UNKNOWN = "UNKNOWN"
    """In doubt for good: no means of finding out was left."""
    ACCEPTED = "ACCEPTED"
    SENT = "SENT"
    DELIVERED = "DELIVERED"
    UNDELIVERED = "UNDELIVERED"
    SUPPRESSED = "SUPPRESSED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"
    FAILED = "FAILED"
    """Definitely not sent; the cause says why: aborted, personalisation_failed, rejected, quiet_hours."""


class Event(StrEnum):
    __hash__ = str.__hash__

    HOLD = "hold"
    RESUME = "resume"
    WAIT = "wait"
    DUE = "due"
    MARK = "mark"
    UNMARK = "unmark"
    ACCEPT = "accept"
    REJECT = "reject"
    """A definite rejection after which the text may be given to a provider again."""
    REJECT_FOR_NOW = "reject_for_now"
    """A definite rejection after which the text has to wait."""
    FAIL = "fail"
    DOUBT = "doubt"
    EVIDENCE = "evidence"
    """Proof that the provider has the text: a receipt, a look-up that found it, a late reply."""
    DISPROVE = "disprove"
    """Proof that the provider does not have it."""
    RISK = "risk"
    """Nothing is proven and the campaign accepts a double text."""
    RESUBMIT = "resubmit"
    """The provider recognises its own: the same bytes under the same key go out again."""
    GIVE_UP = "give_up"
    SUPPRESS = "suppress"
    CANCEL = "cancel"
    EXPIRE = "expire"
    RECEIPT_SENT = "receipt_sent"
    RECEIPT_DELIVERED = "receipt_delivered"
    RECEIPT_UNDELIVERED = "receipt_undelivered"


class IllegalMove(Exception):
    """A bug: the caller asked for a move that the ledger does not know."""

    def __init__(self, state: State, event: Event) -> None:
        super().__init__(f"{event.value} in state {state.value}")
        self.state = state
        self.event = event


WAITING = (State.QUEUED, State.DEFERRED, State.HELD)
"""Nothing is under way: these may be cancelled, expired, suppressed, held."""

ACCEPTED = (State.ACCEPTED, State.SENT, State.DELIVERED, State.UNDELIVERED)

MOVES: dict[tuple[State, Event], State] = {
    (State.QUEUED, Event.HOLD): State.HELD,
    (State.DEFERRED, Event.HOLD): State.HELD,
    (State.HELD, Event.RESUME): State.QUEUED,
    (State.QUEUED, Event.WAIT): State.DEFERRED,
    (State.DEFERRED, Event.DUE): State.QUEUED,
    (State.QUEUED, Event.FAIL): State.FAILED,
    **{(state, Event.SUPPRESS): State.SUPPRESSED for state in WAITING},
    **{(state, Event.CANCEL): State.CANCELLED for state in WAITING},
    **{(state, Event.EXPIRE): State.EXPIRED for state in WAITING},
    # A call
    (State.QUEUED, Event.MARK): State.SUBMITTING,
    (State.SUBMITTING, Event.UNMARK): State.QUEUED,
    (State.SUBMITTING, Event.ACCEPT): State.ACCEPTED,
    (State.SUBMITTING, Event.REJECT): State.QUEUED,
    (State.SUBMITTING, Event.REJECT_FOR_NOW): State.DEFERRED,
    (State.SUBMITTING, Event.FAIL): State.FAILED,
    (State.SUBMITTING, Event.EXPIRE): State.EXPIRED,
    (State.SUBMITTING, Event.DOUBT): State.IN_DOUBT,
    # A doubt
    (State.IN_DOUBT, Event.DISPROVE): State.QUEUED,
    (State.IN_DOUBT, Event.RISK): State.QUEUED,
    (State.IN_DOUBT, Event.RESUBMIT): State.SUBMITTING,
    (State.IN_DOUBT, Event.GIVE_UP): State.UNKNOWN,
    (State.IN_DOUBT, Event.CANCEL): State.CANCELLED,
    (State.IN_DOUBT, Event.EXPIRE): State.EXPIRED,
    (State.IN_DOUBT, Event.EVIDENCE): State.ACCEPTED,
    (State.UNKNOWN, Event.EVIDENCE): State.ACCEPTED,
    # Evidence about an earlier attempt that was wrongly taken for not sent: the truth wins, and a waiting text stays.
    **{
        (state, Event.EVIDENCE): State.ACCEPTED
        for state in (*WAITING, State.SUPPRESSED, State.CANCELLED, State.EXPIRED, State.FAILED)
    },
    # Receipts: the further state wins, in whatever order they come; "delivered" is the furthest.
    (State.ACCEPTED, Event.RECEIPT_SENT): State.SENT,
    (State.ACCEPTED, Event.RECEIPT_DELIVERED): State.DELIVERED,
    (State.ACCEPTED, Event.RECEIPT_UNDELIVERED): State.UNDELIVERED,
    (State.SENT, Event.RECEIPT_DELIVERED): State.DELIVERED,
    (State.SENT, Event.RECEIPT_UNDELIVERED): State.UNDELIVERED,
    (State.UNDELIVERED, Event.RECEIPT_DELIVERED): State.DELIVERED,
}

_RECEIPTS = {
    "sent": Event.RECEIPT_SENT,
    "delivered": Event.RECEIPT_DELIVERED,
    "undelivered": Event.RECEIPT_UNDELIVERED,
}

_STATUS = {
    State.QUEUED: "pending",
    State.HELD: "pending",
    State.DEFERRED: "pending",
    State.SUBMITTING: "pending",
    State.IN_DOUBT: "in_doubt",
    State.UNKNOWN: "unknown",
    State.ACCEPTED: "awaiting_receipt",
    State.SENT: "sent",
    State.DELIVERED: "delivered",
    State.UNDELIVERED: "undelivered",
    State.SUPPRESSED: "suppressed",
    State.CANCELLED: "cancelled",
    State.EXPIRED: "expired",
}

FAILURE_CAUSES = ("aborted", "personalisation_failed", "rejected", "quiet_hours")


def apply(state: State, event: Event) -> State:
    """The state after the event. Raises IllegalMove."""
    try:
        return MOVES[(state, event)]
    except KeyError:
        raise IllegalMove(state, event) from None


def receive(state: State, receipt_status: str) -> Event | None:
    """The event a receipt means to an accepted message; None when it brings nothing new."""
    event = _RECEIPTS.get(receipt_status)
    return event if event is not None and (state, event) in MOVES else None


def status_of(state: State, cause: str = "") -> str:
    """The message `status` of the API. FAILED is called by its cause; everything else by its state."""
    if state is State.FAILED:
        if cause not in FAILURE_CAUSES:
            raise ValueError(f"no failure is caused by {cause!r}")
        return cause
    return _STATUS[state]
