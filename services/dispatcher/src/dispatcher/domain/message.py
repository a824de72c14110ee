"""One text to one person, as the ledger has it: what was ordered, and where it stands.

Pure. A Message is a snapshot; the row in Postgres is the truth, and every write compares before it sets.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from msgspec import Struct

from dispatcher.domain.admission import Interval
from dispatcher.domain.ledger import State, status_of

LIVE, BULK, TRANSACTIONAL = 0, 1, 2
BY_PRIORITY = (TRANSACTIONAL, LIVE, BULK)
LANES = {TRANSACTIONAL: "transactional", LIVE: "live", BULK: "bulk"}


def lane_of(lane: int, message_class: str) -> int:
    """The lane in the ledger of a job that came by this lane of Kafka's."""
    return TRANSACTIONAL if message_class == "transactional" else lane


TRIALS = -2
"""Lane of test sends in the ledger: below all that the claimer looks at (store/claims.py), since what they are made of
comes with each of them and is nobody's definition (trials.py)."""
TEST_CAMPAIGN = "test"
"""Their campaign in the ledger, which always sends; the one that they try, or "", is in `run_id`."""


class Message(Struct, frozen=True):
    """`variables`: JSON of {"profile": …, "event": …}. `attempt` counts the calls marked so far.

    `provider_id`, `provider_message_id`, `marked_at`, `origin` (what a look-up has to ask) belong to the last attempt.
    `owner`: whose lease this snapshot was taken under; every mark is an owner of its own, so that what belongs to one
    mark never touches the next.

    A struct and no dataclass: three snapshots of so many fields are made on the way of each text, which as dataclasses
    were a twentieth of its processor time.
    """

    message_id: str
    campaign_id: str
    run_id: str
    occurrence: str
    user_id: str
    what_version: int
    lane: int
    phone: str
    country: str | None
    variables: bytes
    variant: str
    due_at: datetime
    send_by: datetime
    allowed: tuple[Interval, ...]
    on_hit: str
    queue: str
    state: State
    cause: str
    reason: str
    attempt: int
    provider_id: str
    provider_message_id: str
    tried: tuple[str, ...]
    marked_at: datetime | None
    not_before: datetime | None
    look_ups: int
    body: str
    encoding: str
    parts: int
    seq: int
    owner: str | None = None
    origin: str = ""

    @property
    def status(self) -> str:
        return status_of(self.state, self.cause)


@dataclass(frozen=True, slots=True)
class Queue:
    """Everything that decides where a text may be routed: texts of one queue go the same way at the same time.
    `is_again`: some provider has refused them before, so they go by its retry budget."""

    campaign_id: str
    what_version: int
    country: str | None
    tried: tuple[str, ...] = ()
    is_again: bool = False

    @property
    def name(self) -> str:
        """Sorts by campaign, so that a campaign's rows are one stretch of an index."""
        again = f"|{_AGAIN}" if self.is_again else ""
        return f"{self.campaign_id}|{self.what_version}|{self.country or ''}|{','.join(self.tried)}{again}"

    @classmethod
    def parse(cls, name: str) -> Queue:
        campaign, version, country, tried, *again = name.split("|")
        providers = tuple(tried.split(",")) if tried else ()
        return cls(campaign, int(version), country or None, providers, again == [_AGAIN])


_AGAIN = "again"


def queue_of(message: Message, tried: tuple[str, ...]) -> str:
    """Of a text that goes on after a refusal, or after a provider was passed over before any call."""
    return Queue(message.campaign_id, message.what_version, message.country, tried, message.attempt > 0).name


def reference(message_id: str, attempt: int) -> str:
    """Our name of an attempt, which providers give back in receipts."""
    return f"{message_id}.{attempt}"


def parse_reference(text: str | None) -> tuple[str, int] | None:
    """(message_id, attempt), or None for anything that is not a reference of ours."""
    if text is None:
        return None
    message_id, dot, attempt = text.partition(".")
    if not dot or len(message_id) != 32 or not attempt.isascii() or not attempt.isdigit() or len(attempt) > 6:
        return None
    if not all(c in "0123456789abcdef" for c in message_id):
        return None
    return message_id, int(attempt)


def is_same_text(message: Message, attempt: int, provider_message_id: str) -> bool:
    """Whether the accepted message is what the provider speaks of: one id; or one attempt, named by our reference where
    its receipt, which knows no other id, came before the reply was read."""
    ids = {message.provider_message_id, provider_message_id}
    return len(ids) == 1 or (message.attempt == attempt and reference(message.message_id, attempt) in ids)
