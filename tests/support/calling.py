"""The calls of one provider by themselves: a caller on a fake clock, a vendor that answers as told, and settlements
kept instead of written.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from dispatcher.caller import Caller, Marked
from dispatcher.calls import Prepared, ProviderTerms, Sending
from dispatcher.database_clock import DatabaseClock
from dispatcher.domain.ledger import Event, State
from dispatcher.domain.message import LIVE, Message
from dispatcher.domain.outcomes import Outcome, SubmitResult
from dispatcher.domain.settlement import Settlement
from dispatcher.providers.base import BatchAdapter, OutgoingText, ProviderAdapter
from postrider.clock import FakeClock
from postrider.contracts.definitions import AccountSettings, CampaignDefinition, What, When, Who
from postrider.sms.filled import Filled

NOW = datetime(2026, 12, 1, tzinfo=UTC)
TERMS = ProviderTerms("prv_1", 10.0, 120.0, "https://sms.example/receipts/prv_1/tok", None)
Answer = Callable[[Sequence[OutgoingText]], list[SubmitResult | None]]


def accepted(text: OutgoingText) -> SubmitResult:
    return SubmitResult(Outcome.ACCEPTED, provider_message_id=f"id-{text.message_id}")


class Vendor:
    """A batch adapter that answers as told; all else of the port is not asked for."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.calls: list[list[OutgoingText]] = []

    def batch_key(self, text: OutgoingText) -> Hashable:
        return text.filled.template_id

    async def submit(self, text: OutgoingText) -> SubmitResult:
        (result,) = await self.submit_batch([text])
        assert result is not None
        return result

    async def submit_batch(self, texts: Sequence[OutgoingText]) -> list[SubmitResult | None]:
        self.calls.append(list(texts))
        return self.answer(texts)


@dataclass
class News:
    """Definitions: the campaigns that send."""

    sending: set[str] = field(default_factory=lambda: {"cmp_1", "cmp_2"})
    settings: AccountSettings = field(default_factory=AccountSettings)

    @property
    def campaigns(self) -> dict[str, CampaignDefinition]:
        def defined(id: str) -> CampaignDefinition:
            status = "running" if id in self.sending else "stopped"
            return CampaignDefinition(id, 1, status, "one_time", "", "", When(), Who(), 1, {"1": What("Hi")})

        return {id: defined(id) for id in ("cmp_1", "cmp_2")}

    def confirmed_within(self, seconds: float) -> bool:
        return True


@dataclass
class Bench:
    news: News = field(default_factory=News)
    settled: list[Settlement] = field(default_factory=list)
    clock: FakeClock = field(default_factory=lambda: FakeClock(NOW))
    ended: int = 0

    def __post_init__(self) -> None:
        nobody = cast(Any, None)  # calls go without the database
        self.sending = Sending(
            nobody, DatabaseClock(self.clock), self.clock, "me", self.news, 8, self.settled.append, lambda *_: False,
            lambda *_: True, lambda: None,
        )  # fmt: skip
        self.caller = Caller(self.sending, "prv_1", self._one_more)

    def _one_more(self) -> None:
        self.ended += 1

    async def one(self, vendor: Vendor, text: Marked) -> None:
        """In a call by itself."""
        self.caller.begin(cast(ProviderAdapter, vendor), TERMS, text, self.clock.monotonic())
        await self.caller.wait()

    async def call(self, vendor: Vendor, texts: Sequence[Marked], late: float = 0.0) -> None:
        started = self.clock.monotonic() - late
        self.caller.begin_together(cast(BatchAdapter, vendor), TERMS, texts, started)
        await self.caller.wait()

    def said(self) -> dict[str, tuple[Event, str]]:
        return {each.message.message_id: (each.event, each.reason) for each in self.settled}


def marked(name: str, campaign_id: str = "cmp_1", lane: int = LIVE) -> Marked:
    message = Message(
        message_id=name, campaign_id=campaign_id, run_id="", occurrence="", user_id=name, what_version=1, lane=lane,
        phone=f"+1555010{name[-1]}", country=None, variables=b"", variant="", due_at=NOW,
        send_by=NOW + timedelta(hours=1), allowed=(), on_hit="discard", queue="cmp_1|1||", state=State.SUBMITTING,
        cause="", reason="", attempt=1, provider_id="prv_1", provider_message_id="", tried=(), marked_at=NOW,
        not_before=None, look_ups=0, body="", encoding="", parts=0, seq=0,
    )  # fmt: skip
    filled = Filled(template_id="t", variables=(name,))
    return Marked(message, Prepared(message, What("Hi"), "", "GSM-7", 1, 1e9, filled), 3600)
