"""The port of the columnar store: what the segment-engine asks of it, and the shapes of the answers.

Every method is safe to repeat: inserts by token or by version, snapshots by run id. Must not know chDB or ClickHouse.
All times in rows are microseconds since 1970-01-01 UTC (`domain.columns`); datetimes here are aware.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from postrider.rules import Rule
from segment_engine.domain.columns import EventRow, MessageRow, ProfileRow, SuppressionRow


class StoreInUse(Exception):
    """Another process owns the folder; the text says which one."""


class StoreFailed(Exception):
    """A statement failed. The text is the store's own and may be logged; it carries no bound values."""


class StoreUnavailable(StoreFailed, OSError):
    """The store cannot write now, whatever it is given (its disk is full): wait and repeat.

    An `OSError`, because that is what every loop takes for an outage: waited for, and nobody's fault.
    """


class StoreDamaged(Exception):
    """A full disk cut a part that replaces others. The process has to end: the next start goes back to those."""


@dataclass(frozen=True, slots=True)
class EvaluationContext:
    """What an evaluation depends on besides rule and data.

    `country_zones`: ISO 3166-1 country of a phone → its zone, only for countries that have exactly one.
    """

    now: datetime
    account_zone: str
    require_consent: bool = False
    country_zones: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Estimate:
    """qualified = reachable + unreachable + suppressed + duplicate_phone; `zones` adds up to qualified."""

    qualified: int
    reachable: int
    unreachable: int
    suppressed: int
    duplicate_phone: int
    zones: dict[str, int]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A stored audience. `zones`: people per effective zone, those not reachable included."""

    total: int
    reachable: int
    zones: dict[str, int]


@dataclass(frozen=True, slots=True)
class AudienceMember:
    """`rank` is unique in the run, from 0, in random order, the reachable before all others.

    `verdict`: "" = reachable, else unreachable | suppressed | duplicate_phone.
    """

    rank: int
    user_id: str
    verdict: str


@dataclass(frozen=True, slots=True)
class UnexpandedOutcome:
    """What became of the people of a run whose pages were never used.

    `expanded`: zone → number of its people, in rank order, that were expanded; only the zones named are settled.
    `seq` must be below that of any message the dispatcher writes for the same person; 0 is.
    """

    run_id: str
    expanded: Mapping[str, int]
    status: str
    reason: str
    at: datetime
    due_at: datetime | None = None
    seq: int = 0


@dataclass(frozen=True, slots=True)
class MessageFilter:
    """All given parts must hold."""

    campaign_id: str | None = None
    run_id: str | None = None
    user_id: str | None = None
    phone: str | None = None
    status: str | None = None
    reason: str | None = None
    variant: str | None = None


@dataclass(frozen=True, slots=True)
class MessagePage:
    """`next_cursor` None: there is no more. The order (campaign_id, message_id) never changes."""

    items: list[MessageRow]
    next_cursor: str | None


class EventStore(Protocol):
    async def open(self) -> None:
        """Takes ownership of the store and brings its tables up to date. Raises `StoreInUse`."""
        ...

    async def close(self) -> None:
        """Waits for running statements, gives ownership up. May be called twice."""
        ...

    async def insert_events(self, rows: Sequence[EventRow], token: str) -> None:
        """Durable when it returns. A token used before, by any process, drops the rows whatever they are."""
        ...

    async def upsert_profiles(self, rows: Sequence[ProfileRow]) -> None:
        """The largest version of a user_id wins, whatever the order of arrival."""
        ...

    async def upsert_suppressions(self, rows: Sequence[SuppressionRow]) -> None:
        """The largest version of a phone_hash wins."""
        ...

    async def insert_messages(self, rows: Sequence[MessageRow]) -> None:
        """The largest seq of a message wins."""
        ...

    async def erase(self, user_id: str, version: int) -> None:
        """Deletes a person's events and marks the profile deleted at `version`; returns when both are done."""
        ...

    async def estimate(self, rule: Rule, context: EvaluationContext) -> Estimate: ...

    async def matching(self, rule: Rule, context: EvaluationContext, user_ids: Sequence[str]) -> set[str]:
        """Those of `user_ids` whom the rule selects: the filter of a live batch, one query."""
        ...

    async def snapshot(
        self, run_id: str, campaign_id: str, occurrence: str, seed: int, rule: Rule, context: EvaluationContext
    ) -> Snapshot:
        """Evaluates once and stores the audience; a repeat, also after a crash in between, returns the stored one."""
        ...

    async def stored_snapshot(self, run_id: str) -> Snapshot | None:
        """The counts of a finished snapshot, or None."""
        ...

    async def page(self, run_id: str, zone: str, after_rank: int, limit: int) -> list[AudienceMember]:
        """The next people of a zone in rank order; `after_rank` -1 begins. Fewer than `limit`: the zone is over."""
        ...

    async def unexpanded_to_messages(self, outcome: UnexpandedOutcome) -> None:
        """Writes the people of a run who were never expanded into the message log. A repeat changes nothing."""
        ...

    async def messages(self, where: MessageFilter, cursor: str | None, limit: int) -> MessagePage:
        """Raises `ValueError` for a cursor that did not come from here."""
        ...

    async def count_events(self, user_id: str | None = None, event: str | None = None) -> int: ...
