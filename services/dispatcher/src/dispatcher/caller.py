"""The calls of one provider: begun with marked texts, fenced, answered, settled; and what they teach of its health.

A call is made at most once. It ends with one settlement for each of its texts, whatever happens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, NamedTuple

from dispatcher import metrics
from dispatcher.calls import Prepared, ProviderTerms, Sending, may_begin_to
from dispatcher.domain.admission import campaign_says
from dispatcher.domain.after_outcome import Situation, after_outcome
from dispatcher.domain.breaker import FAILURES_TO_OPEN, Breaker, stall_seconds
from dispatcher.domain.fence import may_begin
from dispatcher.domain.ledger import Event
from dispatcher.domain.message import BULK, Message, reference
from dispatcher.domain.outcomes import Outcome, SubmitResult
from dispatcher.domain.retry_budget import MOST, RetryBudget
from dispatcher.domain.settlement import Attempt, Settlement
from dispatcher.http_port import CalledOff
from dispatcher.providers.base import BatchAdapter, OutgoingText, ProviderAdapter
from dispatcher.steps import settlement_of
from postrider.logs import failure, log

UNASKED_PAUSE_SECONDS = 1.0
"""For a provider that throttles call after call and says not for how long."""

ANSWERS_LEARN = 0.1


class Marked(NamedTuple):
    """A text that may be sent now: `message` as it is marked, and how long the provider may try."""

    message: Message
    text: Prepared
    validity: int


def outgoing_of(sending: Sending, terms: ProviderTerms, marked: Marked, started: float = 0.0) -> OutgoingText:
    """`started`: monotonic, from before the mark."""
    message, text, validity = marked
    return OutgoingText(
        message.message_id, message.attempt, reference(message.message_id, message.attempt), message.phone,
        text.body, text.encoding, text.parts, validity, terms.callback_url, message.campaign_id, text.filled,
        partial(may_begin_to, sending, message.campaign_id, message.phone, started, started + validity),
        message_class=text.message_class,
    )  # fmt: skip


class Caller:
    """`on_end` is called when a call is over and its connection free."""

    def __init__(self, sending: Sending, provider_id: str, on_end: Callable[[], None]) -> None:
        self._sending = sending
        self._provider_id = provider_id
        self._on_end = on_end
        self.breaker = Breaker()
        self.retries = RetryBudget(max(MOST, sending.concurrency))
        self.quiet_until = 0.0
        """Monotonic: the provider has asked for no calls before."""
        self._throttled_in_a_row = 0
        self.bulk_calls = 0
        self._calls: dict[asyncio.Task[None], float] = {}
        """Under way, the oldest first, with the moment at which it began."""
        self._last_answer = 0.0
        self._usual_seconds: float | None = None
        self._call_seconds = metrics.CALL_SECONDS.labels(provider_id)
        self._calls_ended = {outcome: metrics.CALLS.labels(provider_id, outcome.value) for outcome in Outcome}

    @property
    def calls(self) -> int:
        """Under way."""
        return len(self._calls)

    def stalls_at(self) -> float:
        """The moment at which the provider counts as stalled if it answers nothing till then."""
        if not self._calls:
            return float("inf")
        quiet_since = max(next(iter(self._calls.values())), self._last_answer)
        return quiet_since + stall_seconds(self._usual_seconds)

    async def wait(self) -> None:
        if self._calls:
            await asyncio.wait(set(self._calls))

    # Beginning

    def begin(self, adapter: ProviderAdapter, terms: ProviderTerms, marked: Marked, started: float) -> None:
        """`started`: monotonic, from before the mark."""
        self.breaker = self.breaker.begun()
        self._count_try(marked)
        self._start(marked.message.lane, self._call(adapter, terms, marked, started), started)

    def begin_together(
        self, adapter: BatchAdapter, terms: ProviderTerms, texts: Sequence[Marked], started: float
    ) -> None:
        """Texts of one lane and one `batch_key`, in one call."""
        self.breaker = self.breaker.begun()
        for marked in texts:
            self._count_try(marked)
        self._start(texts[0].message.lane, self._call_together(adapter, terms, texts, started), started)

    def _count_try(self, marked: Marked) -> None:
        if marked.message.attempt > 1:
            self.retries.spend(self._sending.clock.monotonic())
        else:
            self.retries.first_try()

    def _start(self, lane: int, work: Coroutine[Any, Any, None], started: float) -> None:
        if lane == BULK:
            self.bulk_calls += 1
        call = asyncio.create_task(work)
        self._calls[call] = started
        call.add_done_callback(lambda done: self._ended(done, lane))

    def _ended(self, call: asyncio.Task[None], lane: int) -> None:
        del self._calls[call]
        if lane == BULK:
            self.bulk_calls -= 1
        self._on_end()

    # Calling

    async def _call(self, adapter: ProviderAdapter, terms: ProviderTerms, marked: Marked, started: float) -> None:
        """The fence is checked last, with nothing awaited between it and the request; what a stop may change is checked
        once more when the adapter has its connection, which can take seconds."""
        outgoing = outgoing_of(self._sending, terms, marked, started)
        clock = self._sending.clock
        begun_at = clock.monotonic()
        if not may_begin(begun_at, started, terms.timeout_seconds) or not outgoing.may_begin():
            self._call_off(marked.message)
            return
        try:
            result = await adapter.submit(outgoing)
        except CalledOff:
            self._call_off(marked.message)
            return
        except asyncio.CancelledError:
            self._settle(terms, marked, SubmitResult(Outcome.IN_DOUBT, code="cancelled"))
            raise
        except Exception as error:  # noqa: BLE001  # an adapter's bug is a doubt, not the end of the pipeline
            result = self._adapter_failed(error)
        seconds = clock.monotonic() - begun_at
        self._call_seconds.observe(seconds)
        self._learn(result, seconds)
        self._settle(terms, marked, result)

    async def _call_together(
        self, adapter: BatchAdapter, terms: ProviderTerms, texts: Sequence[Marked], started: float
    ) -> None:
        """As `_call`, with one fence for the call. Who may not be sent any more leaves it before it begins; when that
        changes while it connects, all of it is called off and the others go with the next."""
        clock = self._sending.clock
        begun_at = clock.monotonic()
        in_time = may_begin(begun_at, started, terms.timeout_seconds)
        going: list[tuple[Marked, OutgoingText]] = []
        for marked in texts:
            outgoing = outgoing_of(self._sending, terms, marked, started)
            if in_time and outgoing.may_begin():
                going.append((marked, outgoing))
            else:
                self._call_off(marked.message)
        if not going:
            return
        results: list[SubmitResult | None]
        try:
            results = await adapter.submit_batch([outgoing for _, outgoing in going])
            if len(results) != len(going):
                raise RuntimeError("not one result a text")
        except asyncio.CancelledError:
            for marked, _ in going:
                self._settle(terms, marked, SubmitResult(Outcome.IN_DOUBT, code="cancelled"))
            raise
        except Exception as error:  # noqa: BLE001  # as above
            results = [self._adapter_failed(error)] * len(going)
        seconds = clock.monotonic() - begun_at
        self._call_seconds.observe(seconds)
        # Acceptance last: whoever takes one text of a call is well, however many it forgets to name.
        for said in sorted((each for each in results if each is not None), key=lambda each: each.is_accepted):
            self._learn(said, seconds)
        for (marked, _), result in zip(going, results, strict=True):
            if result is None:
                self._call_off(marked.message)
            else:
                self._settle(terms, marked, result)

    def _adapter_failed(self, error: Exception) -> SubmitResult:
        log.error("adapter_failed", provider=self._provider_id, **failure(error))
        return SubmitResult(Outcome.IN_DOUBT, code="adapter_failed", unknown_code=True)

    def _learn(self, result: SubmitResult, seconds: float) -> None:
        now = self._sending.clock.monotonic()
        if not result.is_in_doubt:
            self._last_answer = now
            usual = seconds if self._usual_seconds is None else self._usual_seconds
            self._usual_seconds = usual + (seconds - usual) * ANSWERS_LEARN
        if result.is_accepted:
            self.breaker = self.breaker.success()
        elif result.counts_for_breaker:
            self.breaker = self.breaker.failure(now)
        else:
            self.breaker = self.breaker.neutral()
        self._throttled_in_a_row = self._throttled_in_a_row + 1 if result.is_throttled else 0
        if result.is_throttled:
            pause = result.retry_after_seconds
            if pause is None and self._throttled_in_a_row >= FAILURES_TO_OPEN:
                pause = UNASKED_PAUSE_SECONDS
            self.quiet_until = max(self.quiet_until, now + (pause or 0.0))
        if result.unknown_code:
            metrics.UNKNOWN_CODES.labels(self._provider_id).inc()
            log.error("unknown_code", provider=self._provider_id, code=result.code)

    # Settling

    def _settle(self, terms: ProviderTerms, marked: Marked, result: SubmitResult) -> None:
        message, text, _ = marked
        self._calls_ended[result.outcome].inc()
        now = self._sending.database_clock.now()
        started_at = message.marked_at or now
        tried = (*message.tried, terms.provider_id)
        # Only of a refusal does it matter who else there is.
        has_another = result.is_definite_rejection and self._sending.has_another(text, tried)
        situation = Situation(
            message.attempt, started_at, now, message.send_by, has_another, terms.doubt_seconds,
            terms.in_doubt_wait_seconds, result.is_definite_rejection and self._sending.spills(text),
        )  # fmt: skip
        attempt = Attempt(
            message.attempt, terms.provider_id, started_at, result.outcome.value, result.code or "",
            result.provider_message_id,
        )  # fmt: skip
        if result.is_of_use and message.attempt > 1:
            self.retries.was_of_use()
        if result.is_in_doubt:
            metrics.DOUBTS.labels("call").inc()
        step = after_outcome(result, situation)
        self._sending.settle(settlement_of(message, step, attempt, tried, result.suppress))

    def _call_off(self, message: Message) -> None:
        campaign = self._sending.definitions.campaigns.get(message.campaign_id)
        self.unmark(message, "late" if campaign_says(campaign) == "send" else "stopped")
        self.breaker = self.breaker.not_begun()

    def unmark(self, message: Message, why: str) -> None:
        metrics.UNMARKED.labels(why).inc()
        self._sending.settle(Settlement(message, Event.UNMARK, reason=message.reason, attempts_taken_back=1))
