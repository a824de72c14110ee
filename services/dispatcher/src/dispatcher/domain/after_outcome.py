"""What follows the end of one provider call. This is the place where it is decided that a text may be failed over:
only after a definite rejection whose cause is the provider or its load (`SubmitResult.may_fail_over`), never on doubt.

Pure: the outcome, what is known of the text, and now go in; the next step comes out.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec import Struct

from dispatcher.domain.outcomes import Outcome, SubmitResult

FIRST_WAIT_SECONDS = 2.0
LONGEST_WAIT_SECONDS = 120.0
PATIENCE_SECONDS = 30.0
"""A provider that wants to be left alone for longer is as good as down: the next one of the group takes over."""


class Situation(Struct, frozen=True):
    """`started_at`: the moment of the mark. `has_another`: a provider is left that has not refused this text. `spills`:
    its group gives the next provider what this one has no room for.

    A negative look-up proves something `wait_after_mark_seconds` after the mark (HTTP timeout and the provider's
    in_doubt_wait_seconds) and `wait_after_call_seconds` after the end of the call (the latter alone): a process that
    was stopped in a call sends its bytes when it goes on.
    """

    attempt: int
    started_at: datetime
    now: datetime
    send_by: datetime
    has_another: bool
    wait_after_mark_seconds: float
    wait_after_call_seconds: float
    spills: bool = False


class Accepted(Struct, frozen=True):
    provider_message_id: str


class Failed(Struct, frozen=True):
    """Definitely not sent and never will be."""

    reason: str


class NextProvider(Struct, frozen=True):
    """Failover: the text is free again, without the provider that refused it."""

    reason: str


class Deferred(Struct, frozen=True):
    """Definitely not sent: wait. `forget_refusals`: afterwards every provider may be asked again."""

    until: datetime
    reason: str
    forget_refusals: bool


class Doubted(Struct, frozen=True):
    """Stays with its provider. Before `not_before` a negative look-up proves nothing."""

    not_before: datetime
    reason: str


Next = Accepted | Failed | NextProvider | Deferred | Doubted


def after_outcome(result: SubmitResult, situation: Situation) -> Next:
    reason = result.code or result.outcome.value
    match result.outcome:
        case Outcome.ACCEPTED:
            assert result.provider_message_id is not None
            return Accepted(result.provider_message_id)
        case Outcome.IN_DOUBT:
            by_mark = situation.started_at + timedelta(seconds=situation.wait_after_mark_seconds)
            by_call = situation.now + timedelta(seconds=situation.wait_after_call_seconds)
            return Doubted(max(by_mark, by_call), result.code or "")
        case Outcome.REJECTED_RECIPIENT | Outcome.REJECTED_CONTENT:
            return Failed(reason)
    if result.may_fail_over and result.outcome is Outcome.REJECTED_PROVIDER and situation.has_another:
        return NextProvider(reason)
    wait = result.retry_after_seconds if result.retry_after_seconds is not None else back_off(situation.attempt)
    until = situation.now + timedelta(seconds=max(wait, 0.1))
    if result.outcome is Outcome.REJECTED_LATER and not result.route_only and situation.has_another:
        is_patient = not situation.spills and wait <= PATIENCE_SECONDS and until < situation.send_by
        if not is_patient:
            return NextProvider(reason)
    return Deferred(min(until, situation.send_by), reason, forget_refusals=True)


def back_off(attempt: int) -> float:
    """Seconds before the next try after `attempt` tries: 2, 4, 8 … up to two minutes."""
    return min(FIRST_WAIT_SECONDS * 2.0 ** max(attempt - 1, 0), LONGEST_WAIT_SECONDS)
