"""The port of the columnar store: what the segment-engine asks of it, and the shapes of the answers.

Every method is safe to repeat: inserts by token or by version, snapshots by run id. Must not know chDB or ClickHouse.
All times in rows are microseconds since 1970-01-01 UTC (`domain.columns`); datetimes here are aware.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time
from typing import Any, NamedTuple, Protocol

from postrider.rules import Rule
from postrider.rules.tree import Filter
from segment_engine.domain.columns import EventRow, MessageRow, OutcomeRow, ProfileRow, SuppressionRow


class StoreInUse(Exception):
    """Another process owns the folder; the text says which one."""


class StoreFailed(Exception):
    """A statement failed. The text is the store's own and may be logged; it carries no bound values."""


class StoreUnavailable(StoreFailed, OSError):
    """The store cannot write now, whatever it is given (its disk is full): wait and repeat.

    An `OSError`, because that is what every loop takes for an outage: waited for, and nobody's fault.
    """


class EvaluationTooLarge(StoreFailed):
    """A rule took more memory or time than one evaluation may: the same again would, too."""


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
class Reach:
    """Of some people: all who qualify, and those of them who can be texted."""

    qualified: int
    reachable: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """qualified = reachable + unreachable + suppressed + duplicate_phone; `zones`, `by_zone` and `by_country` add up to
    qualified, `reasons` (verdict, what refines it or "") to those not reachable. `sample`: some of the reachable.
    `control`, `not_in_reach`: of the reachable, those that would be left out; `people`: some of the others, (user_id,
    zone)."""

    qualified: int
    reachable: int
    unreachable: int
    suppressed: int
    duplicate_phone: int
    zones: dict[str, int]
    reasons: dict[tuple[str, str], int] = field(default_factory=dict, compare=False)
    by_zone: dict[str, Reach] = field(default_factory=dict, compare=False)
    by_country: dict[str, Reach] = field(default_factory=dict, compare=False)
    sample: tuple[str, ...] = field(default=(), compare=False)
    people: tuple[tuple[str, str], ...] = field(default=(), compare=False)
    control: int = 0
    not_in_reach: int = 0


@dataclass(frozen=True, slots=True)
class Activity:
    """How often an event happened, and to how many people."""

    events: int
    people: int


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Percentages of those who could be texted: kept out of every campaign, of this one, and reached at all."""

    account_control: float = 0.0
    campaign_control: float = 0.0
    reach: float = 100.0


NOBODY = LeftOut()


@dataclass(frozen=True, slots=True)
class BestTimes:
    """Each person falls into the slot of their most active two hours of a local day, by an event ("" = any); whoever
    has none, into that of `fallback`."""

    event: str
    fallback: time


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A stored audience. `zones`: people per effective zone (at best time, slot), those not texted included."""

    total: int
    reachable: int
    zones: dict[str, int]


class AudienceMember(NamedTuple):
    """`rank` is unique in the run, from 0, in random order, the reachable before all others.

    `verdict`: "" = to be texted, else unreachable | suppressed | duplicate_phone | control:account |
    control:campaign | not_in_reach.
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
    """All given parts must hold. `test`: test sends alone, or none of them."""

    campaign_id: str | None = None
    run_id: str | None = None
    user_id: str | None = None
    phone: str | None = None
    status: str | None = None
    reason: str | None = None
    variant: str | None = None
    test: bool | None = None


@dataclass(frozen=True, slots=True)
class MessagePage:
    """`next_cursor` None: there is no more. The order (campaign_id, message_id) never changes."""

    items: list[MessageRow]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """A name that was seen `n` times. `examples` are JSON values. Only events have properties; `left_out`: uses of
    properties that are not among them."""

    name: str
    types: tuple[str, ...]
    n: int
    last_at: datetime
    examples: tuple[Any, ...] = ()
    properties: tuple[CatalogEntry, ...] = ()
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class CatalogPage:
    """In the order of names. `left_out`: uses of names that are in no page."""

    items: list[CatalogEntry]
    more: bool
    left_out: int


@dataclass(frozen=True, slots=True)
class DatedEvent:
    """An event that has a date. `values`: its properties, objects left out."""

    user_id: str
    at: datetime
    message_id: str
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Refill:
    """A history that is written anew from `source`. `run` names this attempt; part → (position, where it ends)."""

    source: str
    run: str
    parts: dict[str, tuple[int, int]]


class EventStore(Protocol):
    """`estimate`, `matching` and `snapshot` take a rule with its segments put in (`postrider.rules.resolve`). They
    raise `RuleErrors` when it names a user list that is not complete here: a list that is missing must not turn "not on
    the list" into everybody.
    """

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

    async def insert_outcomes(self, rows: Sequence[OutcomeRow]) -> None:
        """The earliest moment of a (campaign, what, user, message) wins."""
        ...

    async def add_to_list(self, list_id: str, user_ids: Sequence[str]) -> None:
        """More members of a list that is being filled. An id counts once, however often it comes."""
        ...

    async def complete_list(self, list_id: str) -> int:
        """From now on rules may ask the list; returns how many members it has."""
        ...

    async def drop_list(self, list_id: str) -> None:
        """The list, complete or not, and its members are gone when it returns."""
        ...

    async def erase(
        self, user_id: str, version: int, *, until: datetime | None = None, texts: Sequence[str] = ()
    ) -> None:
        """Deletes a person's events, takes phone and text out of their messages and their texts (`texts` are those of
        the profile) out of the catalogue's examples, and marks the profile deleted at `version`; returns when all is
        done. Of what came after `until` nothing goes."""
        ...

    async def flush_catalog(self) -> None:
        """Writes what was counted of names, and leaves out those used least."""
        ...

    async def catalog_events(self, prefix: str, after: str, limit: int) -> CatalogPage:
        """Events seen, by name, behind `after`, whose names begin with `prefix` in any case."""
        ...

    async def catalog_attributes(self, prefix: str, after: str, limit: int) -> CatalogPage:
        """Traits seen, in the same way."""
        ...

    async def estimate(
        self,
        rule: Rule,
        context: EvaluationContext,
        *,
        once_per_phone: bool = True,
        sample_size: int = 0,
        people_size: int = 0,
        seed: str = "",
        campaign_id: str = "",
        left_out: LeftOut = NOBODY,
    ) -> Estimate:
        """One statement. `once_per_phone` False: nobody is a duplicate. The same seed draws the same people."""
        ...

    async def activity(
        self, event: str, where: Sequence[Filter], since: datetime, context: EvaluationContext
    ) -> Activity:
        """How often the event happened with these properties."""
        ...

    async def latest_values(
        self,
        event: str,
        where: Sequence[Filter],
        since: datetime,
        context: EvaluationContext,
        user_ids: Sequence[str],
    ) -> dict[str, dict[str, Any]]:
        """user_id → properties of the person's last such event, objects left out, for those who have one."""
        ...

    async def dated_events(
        self, event: str, property: str, since: datetime | None, after: DatedEvent | None, limit: int
    ) -> list[DatedEvent]:
        """Events whose property is a date, by person, behind `after`. `since`: dates whose reading is before may be
        left out; a local reading counts as if it were UTC."""
        ...

    async def matching(self, rule: Rule, context: EvaluationContext, user_ids: Sequence[str]) -> set[str]:
        """Those of `user_ids` whom the rule selects: the filter of a live batch, one query."""
        ...

    async def snapshot(
        self,
        run_id: str,
        campaign_id: str,
        occurrence: str,
        seed: int,
        rule: Rule,
        context: EvaluationContext,
        left_out: LeftOut = NOBODY,
        best_times: BestTimes | None = None,
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

    async def refill(self) -> Refill | None:
        """The one that was begun and is not finished."""
        ...

    async def note_refill(self, refill: Refill) -> None:
        """Durable when it returns. A position never goes back."""
        ...

    async def finish_refill(self) -> None: ...

    async def kept_after(self, table: str, after: Sequence[Any] | None, limit: int) -> list[list[Any]]:
        """Rows of one of `statements.KEPT`, as `put_back` takes them, in the order of their key, behind the row
        `after`; fewer than `limit`: there is no more."""
        ...

    async def put_back(self, table: str, rows: Sequence[Sequence[Any]], token: str) -> None:
        """Rows of `kept_after`, maybe of another store. A repeat changes nothing."""
        ...

    async def known_runs(self) -> set[str]:
        """Runs that have an audience here."""
        ...

    async def count_events(self, user_id: str | None = None, event: str | None = None) -> int: ...

    async def events_after(self, after: EventRow | None, limit: int) -> list[EventRow]:
        """Stored events in an order that never changes, behind `after`; fewer than `limit`: there is no more."""
        ...

    async def clear_events(self) -> None:
        """No event is left, and no token of an insert is remembered; the catalogue counts anew."""
        ...
