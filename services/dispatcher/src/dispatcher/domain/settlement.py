"""A change of one message that is to be written, and what the world is told about it. Pure."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from dispatcher.domain.ledger import Event, State, apply, status_of
from dispatcher.domain.message import Message, queue_of


class Attempt(Struct, frozen=True):
    """The end of one call, as the attempts table keeps it. `outcome`: the outcome table's words, or not_found."""

    attempt: int
    provider_id: str
    started_at: datetime
    outcome: str
    code: str = ""
    provider_message_id: str | None = None


class Settlement(Struct, frozen=True):
    """`message` is as we hold it: the write is a compare-and-set on its state, attempt and owner.

    `event` moves it. `next_at` None: now. `is_announced`: readers of delivery-events are told.
    """

    message: Message
    event: Event
    cause: str = ""
    reason: str = ""
    next_at: datetime | None = None
    not_before: datetime | None = None
    attempt: Attempt | None = None
    provider_message_id: str = ""
    tried: tuple[str, ...] | None = None
    attempts_taken_back: int = 0
    suppress: str | None = None

    @property
    def state(self) -> State:
        """Where it leads. Raises IllegalMove."""
        return apply(self.message.state, self.event)

    @property
    def status(self) -> str:
        return status_of(self.state, self.cause)

    @property
    def tried_after(self) -> tuple[str, ...]:
        return self.message.tried if self.tried is None else self.tried

    @property
    def queue_after(self) -> str:
        return self.message.queue if self.tried is None else queue_of(self.message, self.tried)

    @property
    def is_plain_acceptance(self) -> bool:
        """The end of a call of which there is nothing to say but that it was accepted, and as what."""
        attempt = self.attempt
        return (
            self.event is Event.ACCEPT
            and attempt is not None
            and not attempt.code
            and attempt.provider_message_id == self.provider_message_id
            and attempt.started_at == self.message.marked_at
            and self
            == Settlement(self.message, Event.ACCEPT, attempt=attempt, provider_message_id=self.provider_message_id)
        )

    @property
    def is_announced(self) -> bool:
        return self.status != self.message.status or self.attempt is not None
