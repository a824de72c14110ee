"""What preparing a text and calling a provider have in common: the text, the provider's terms, the shared parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from msgspec import Struct

from dispatcher.database_clock import DatabaseClock
from dispatcher.domain.admission import campaign_says
from dispatcher.domain.fence import CONFIRMED_WITHIN_SECONDS, doubt_seconds
from dispatcher.domain.message import Message
from dispatcher.domain.settlement import Settlement
from dispatcher.providers.base import Encoding
from postrider.clock import Clock
from postrider.contracts.definitions import AccountSettings, CampaignDefinition, What
from postrider.postgres.database import Database
from postrider.sms.filled import NOTHING_FILLED, Filled


class Prepared(Struct, frozen=True):
    """A claimed text that is rendered and routed. `leased_until`: monotonic; afterwards it is no longer ours. `body` is
    empty where the provider has templates of its own and `filled` is all that it is given."""

    message: Message
    what: What
    body: str
    encoding: Encoding
    parts: int
    leased_until: float
    filled: Filled = NOTHING_FILLED
    message_class: str = "transactional"

    @property
    def shown(self) -> str:
        """What people read of it in the message log."""
        return self.body or self.filled.readable


class Definitions(Protocol):
    """The view of definitions that a call depends on (postrider.kafka.definitions.DefinitionsReader)."""

    @property
    def campaigns(self) -> dict[str, CampaignDefinition]: ...

    @property
    def settings(self) -> AccountSettings: ...

    def confirmed_within(self, seconds: float) -> bool: ...


def may_send(definitions: Definitions, campaign_id: str) -> bool:
    """Whether the campaign sends, by news of a moment ago: a call that begins on this answer begins within a second of
    any stop or pause that it does not know of."""
    return (
        definitions.confirmed_within(CONFIRMED_WITHIN_SECONDS)
        and campaign_says(definitions.campaigns.get(campaign_id)) == "send"
    )


@dataclass(frozen=True, slots=True)
class ProviderTerms:
    """What a provider's definition says about calls."""

    provider_id: str
    timeout_seconds: float
    in_doubt_wait_seconds: float
    callback_url: str
    parts_per_second: float | None

    @property
    def doubt_seconds(self) -> float:
        return doubt_seconds(self.timeout_seconds, self.in_doubt_wait_seconds)


def anybody(phone: str, marked_at: float) -> bool:
    """Nobody opts out: for who works without a store."""
    return True


@dataclass(frozen=True, slots=True)
class Sending:
    """What all pipelines of a process share. `has_another`: routing's word on failover for a text of this what.
    `may_carry`: whether the provider is still among those the text may go to, as groups are now. `spills`: whether its
    group gives the next provider what one has no room for; `has_room_elsewhere`: and such a one has room now.
    `may_text`: whether a call to the phone that was marked at this monotonic moment may begin, by all that is known of
    opt-outs since."""

    database: Database
    database_clock: DatabaseClock
    clock: Clock
    owner: str
    definitions: Definitions
    concurrency: int
    settle: Callable[[Settlement], None]
    has_another: Callable[[Prepared, tuple[str, ...]], bool]
    may_carry: Callable[[Prepared, str], bool]
    on_room: Callable[[], None]
    spills: Callable[[Prepared], bool] = lambda _: False
    has_room_elsewhere: Callable[[Prepared, str], bool] = lambda text, provider_id: False
    may_text: Callable[[str, float], bool] = anybody


def may_begin_to(sending: Sending, campaign_id: str, phone: str, marked_at: float, until: float) -> bool:
    """`may_send`, the person has not opted out since the mark, and the hours and the deadline that the mark looked at
    are not over: they are at the monotonic moment `until`."""
    return (
        sending.clock.monotonic() <= until
        and may_send(sending.definitions, campaign_id)
        and sending.may_text(phone, marked_at)
    )
