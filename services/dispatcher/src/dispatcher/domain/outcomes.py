"""What one provider call means: the six outcomes of the outcome table, and what may follow from each.

Pure. It does not know vendors: an adapter classifies its vendor's reply into one of these, once, in its own file.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class Outcome(StrEnum):
    """Exactly one per call. Everything that is not one of the first five is in doubt."""

    __hash__ = str.__hash__  # an enum's own is written in Python, and each text asks several times

    ACCEPTED = "accepted"
    """The provider has the text and gave an id."""
    REJECTED_RECIPIENT = "rejected_recipient"
    """Definitely not sent; this number will never work."""
    REJECTED_CONTENT = "rejected_content"
    """Definitely not sent; this text will never work here."""
    REJECTED_PROVIDER = "rejected_provider"
    """Definitely not sent; this account, sender or route cannot send now. The next provider of the group may."""
    REJECTED_LATER = "rejected_later"
    """Definitely not sent; throttled or a full queue. Back off, then the same or the next provider."""
    IN_DOUBT = "in_doubt"
    """The request may have been processed. Never blindly sent again, never failed over."""


DEFINITE_REJECTIONS = frozenset(
    {Outcome.REJECTED_RECIPIENT, Outcome.REJECTED_CONTENT, Outcome.REJECTED_PROVIDER, Outcome.REJECTED_LATER}
)
_MAY_FAIL_OVER = frozenset({Outcome.REJECTED_PROVIDER, Outcome.REJECTED_LATER})


class SubmitResult(Struct, frozen=True):
    """The end of one call. `code` and `detail` are for people and alarms and carry no personal data.

    `provider_message_id` is there exactly when the outcome is accepted. `retry_after_seconds`: what the provider asked
    for, bounded by the adapter. `suppress`: a suppression reason (`provider_opt_out`) when the refusal says that the
    person opted out. `unknown_code`: the vendor said something that is in no table: raise an alarm.
    `not_begun`: not one byte of the request reached the provider (connect failure, or refused by us before the call).
    `route_only`: the refusal concerns this recipient's route (country, sender pair), not the provider's health; of one
    for now: this text, which the same provider takes later, and not the provider's load.
    """

    outcome: Outcome
    provider_message_id: str | None = None
    code: str | None = None
    detail: str | None = None
    retry_after_seconds: float | None = None
    suppress: str | None = None
    unknown_code: bool = False
    not_begun: bool = False
    route_only: bool = False

    def __post_init__(self) -> None:
        if (self.outcome is Outcome.ACCEPTED) != (self.provider_message_id is not None):
            raise ValueError("accepted means: with a provider message id, and only then")
        if self.not_begun and self.outcome not in DEFINITE_REJECTIONS:
            raise ValueError("a call that did not begin is a definite rejection")

    @property
    def is_accepted(self) -> bool:
        return self.outcome is Outcome.ACCEPTED

    @property
    def is_in_doubt(self) -> bool:
        return self.outcome is Outcome.IN_DOUBT

    @property
    def is_definite_rejection(self) -> bool:
        """Proven not sent: only then may the text be given to anybody again."""
        return self.outcome in DEFINITE_REJECTIONS

    @property
    def may_fail_over(self) -> bool:
        """Another provider of the group may carry this text. A recipient or content refusal holds everywhere."""
        return self.outcome in _MAY_FAIL_OVER

    @property
    def is_throttled(self) -> bool:
        """The provider has more than it can do."""
        return self.outcome is Outcome.REJECTED_LATER and not self.route_only

    @property
    def is_of_use(self) -> bool:
        """The provider has taken the text, or said what is wrong with it."""
        return self.outcome in (Outcome.ACCEPTED, Outcome.REJECTED_RECIPIENT, Outcome.REJECTED_CONTENT)

    @property
    def counts_for_breaker(self) -> bool:
        """Says something bad about the provider's health. Throttling does not, nor do refusals of one person's route;
        doubt does: it spares the next messages the same fate."""
        if self.outcome is Outcome.REJECTED_PROVIDER:
            return not self.route_only
        return self.outcome is Outcome.IN_DOUBT
