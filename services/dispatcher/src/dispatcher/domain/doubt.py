"""What to do with a message in doubt: the decision table of the resolver.

Pure. A doubt pins the message to its provider. Proof ends it; silence proves nothing before `not_before`; only when no
means of finding out is left does the campaign's policy decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

Answer = Literal["found", "negative", "ambiguous", "unavailable", "not_asked"]
"""What a look-up said. `not_asked`: the provider has none, or it has not been asked yet."""

FIRST_LOOK_UP_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
AMBIGUITY_LASTS = timedelta(minutes=10)
"""Several texts that fit will not become fewer: after this the policy decides."""
OUTAGE_LASTS = timedelta(hours=6)
"""A provider that cannot be asked for so long will hardly answer: after this the policy decides."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """`answer` with `asked_at`: the look-up began at this moment. `tries`: look-ups so far. `heard_since`: the provider
    has answered every look-up since, with the wait that a doubt needs added (see `Hearing`)."""

    now: datetime
    not_before: datetime
    heard_since: datetime
    send_by: datetime
    answer: Answer
    asked_at: datetime
    tries: int
    can_look_up: bool
    is_idempotent: bool
    may_double: bool
    is_stopped: bool


@dataclass(frozen=True, slots=True)
class Believe:
    """The look-up found it: ACCEPTED."""


@dataclass(frozen=True, slots=True)
class Requeue:
    """`proven`: definitely not sent. Otherwise the campaign takes the risk of a double text."""

    proven: bool


@dataclass(frozen=True, slots=True)
class Cancel:
    """Proven not sent, and nobody wants it any more."""


@dataclass(frozen=True, slots=True)
class Expire:
    """Proven not sent, and too late."""


@dataclass(frozen=True, slots=True)
class Resubmit:
    """The same bytes under the same key to the same provider, which recognises its own."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """UNKNOWN: nothing can be found out any more, and the policy is never_double."""


@dataclass(frozen=True, slots=True)
class AskAgain:
    at: datetime


Decision = Believe | Requeue | Cancel | Expire | Resubmit | GiveUp | AskAgain


def decide(doubt: Doubt) -> Decision:
    if doubt.answer == "found":
        return Believe()
    if doubt.answer == "negative" and doubt.asked_at >= _proves_from(doubt):
        if doubt.is_stopped:
            return Cancel()
        return Requeue(proven=True) if doubt.now < doubt.send_by else Expire()
    if doubt.is_idempotent and not doubt.can_look_up and not doubt.is_stopped and doubt.now < doubt.send_by:
        return Resubmit()
    if doubt.now < doubt.not_before:
        return AskAgain(_next_look(doubt))
    if _may_still_learn(doubt):
        risky = doubt.may_double and not doubt.is_stopped and doubt.now < doubt.send_by
        asked = doubt.answer in ("ambiguous", "unavailable")
        return Requeue(proven=False) if risky and asked else AskAgain(_next_look(doubt))
    if doubt.may_double and not doubt.is_stopped and doubt.now < doubt.send_by:
        return Requeue(proven=False)
    return GiveUp()


@dataclass(frozen=True, slots=True)
class Share:
    """Which of the texts found is this message's; None: they are the others', who come first."""

    provider_message_id: str | None


def share(candidates: Sequence[str], twins: Sequence[str], message_id: str) -> Share | None:
    """Several texts fit several messages in doubt that are alike (same phone, provider and body), both in the order of
    time. No more texts than messages: each text is one of theirs, and nobody can tell or cares which. More texts than
    messages: some are not theirs, and None says that it stays ambiguous.
    """
    if len(candidates) > len(twins) or message_id not in twins:
        return None
    place = list(twins).index(message_id)
    return Share(candidates[place] if place < len(candidates) else None)


def later_than(moment: datetime, seconds: float) -> datetime:
    return moment + timedelta(seconds=seconds)


def _may_still_learn(doubt: Doubt) -> bool:
    if not doubt.can_look_up:
        return False
    if doubt.answer == "negative":
        return True  # it answers: the next time it may prove something
    lasts = AMBIGUITY_LASTS if doubt.answer == "ambiguous" else OUTAGE_LASTS
    return doubt.now < doubt.not_before + lasts


def _next_look(doubt: Doubt) -> datetime:
    """Growing pauses, but the first look that can prove something happens as soon as it can."""
    pause = min(FIRST_LOOK_UP_SECONDS * 2.0 ** min(doubt.tries, 10), LONGEST_PAUSE_SECONDS)
    at = doubt.now + timedelta(seconds=pause)
    proves_from = _proves_from(doubt)
    return proves_from if doubt.now < proves_from < at or not doubt.can_look_up else at


def _proves_from(doubt: Doubt) -> datetime:
    return max(doubt.not_before, doubt.heard_since)


class Hearing:
    """Since when each provider answers what it is asked. In memory: a new process has heard nobody yet.

    A provider that hangs has our text in its queue perhaps, unread, for as long as it hangs; when it goes on, it may
    answer a look-up before it reads that text. So a negative answer proves nothing until it has been awake for the
    wait that a doubt needs anyway.
    """

    def __init__(self) -> None:
        self._since: dict[str, datetime] = {}

    def missed(self, provider_id: str) -> None:
        """It did not answer."""
        self._since.pop(provider_id, None)

    def answered(self, provider_id: str, now: datetime) -> None:
        self._since.setdefault(provider_id, now)

    def since(self, provider_id: str, wait_seconds: float, now: datetime) -> datetime:
        """From when on a negative answer proves something, as far as hanging goes."""
        return later_than(self._since.get(provider_id, now), wait_seconds)
