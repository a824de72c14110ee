"""The ledger's words for what was decided about a text: verdicts and next steps as settlements. Pure."""

from __future__ import annotations

from datetime import datetime

from msgspec.structs import replace

from dispatcher.calls import Prepared
from dispatcher.domain import after_outcome as next_step
from dispatcher.domain.admission import Missed, WaitUntil
from dispatcher.domain.ledger import Event, State
from dispatcher.domain.message import Message
from dispatcher.domain.settlement import Attempt, Settlement
from dispatcher.store.marks import Rendered


def not_admitted(message: Message, verdict: WaitUntil | Missed) -> Settlement:
    """A text that may not leave now: it waits for its next interval, or has missed the last."""
    if isinstance(verdict, WaitUntil):
        return Settlement(message, Event.WAIT, reason=verdict.reason, next_at=verdict.at)
    if verdict.status == "quiet_hours":
        return Settlement(message, Event.FAIL, cause="quiet_hours", reason=verdict.reason)
    return Settlement(message, Event.EXPIRE, reason=message.reason or verdict.reason)


def settlement_of(
    message: Message, step: next_step.Next, attempt: Attempt, tried: tuple[str, ...], suppress: str | None
) -> Settlement:
    """The ledger's words for what follows a call."""
    match step:
        case next_step.Accepted(provider_message_id):
            return Settlement(message, Event.ACCEPT, attempt=attempt, provider_message_id=provider_message_id)
        case next_step.Failed(reason):
            return Settlement(message, Event.FAIL, cause="rejected", reason=reason, attempt=attempt, suppress=suppress)
        case next_step.NextProvider(reason):
            return Settlement(message, Event.REJECT, reason=reason, attempt=attempt, tried=tried)
        case next_step.Deferred(until, reason, forget_refusals):
            return Settlement(
                message, Event.REJECT_FOR_NOW, reason=reason, attempt=attempt, next_at=until,
                tried=() if forget_refusals else None,
            )  # fmt: skip
        case next_step.Doubted(not_before, reason):
            return Settlement(message, Event.DOUBT, reason=reason, attempt=attempt, not_before=not_before)


def rendered(text: Prepared) -> Rendered:
    return Rendered(text.message.message_id, text.message.attempt, text.shown, text.encoding, text.parts)


def marked_of(text: Prepared, mark: str, provider_id: str, marked_at: datetime) -> Message:
    message = text.message
    return replace(
        message, state=State.SUBMITTING, attempt=message.attempt + 1, provider_id=provider_id, marked_at=marked_at,
        body=text.shown, encoding=text.encoding, parts=text.parts, provider_message_id="", owner=mark,
    )  # fmt: skip
