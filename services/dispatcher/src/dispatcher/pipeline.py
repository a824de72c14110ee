"""One provider's way out: buffer, breaker, budget, connections. Nothing here is shared with another provider, so one
that hangs delays nobody else's texts.

The order of a call is the guarantee: definitions confirmed → mark committed → fence → call → settle. Nothing is sent
that is not marked, and what is marked and not begun in time is unmarked.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import Counter, deque
from collections.abc import Sequence
from datetime import timedelta
from functools import partial

from dispatcher import metrics
from dispatcher.budget import Budget
from dispatcher.calls import Prepared, ProviderTerms, Sending, may_send
from dispatcher.domain.admission import Admitted, admit, campaign_says, cancel_reason
from dispatcher.domain.after_outcome import Situation, after_outcome
from dispatcher.domain.breaker import STALL_SECONDS, Breaker
from dispatcher.domain.fence import CONFIRMED_WITHIN_SECONDS, lease_seconds, may_begin
from dispatcher.domain.ledger import Event
from dispatcher.domain.message import BULK, LIVE, Message, reference
from dispatcher.domain.outcomes import Outcome, SubmitResult
from dispatcher.domain.settlement import Attempt, Settlement
from dispatcher.http_port import CalledOff
from dispatcher.providers.base import OutgoingText, ProviderAdapter
from dispatcher.steps import marked_of, not_admitted, rendered, settlement_of
from dispatcher.store import claims, marks
from dispatcher.store.alone import alone
from postrider.logs import failure, log
from postrider.postgres.database import is_outage

BUFFERED_TEXTS = 512
LIVE_RESERVE = 8
"""One eighth of the connections stays free of bulk, so that a live text never waits for a bulk call to end."""
GATHER_SECONDS = 0.004
LEASE_MARGIN_SECONDS = 1.0
"""A claim that ends sooner is not marked any more."""


class Pipeline:
    """A component (`run`)."""

    def __init__(self, sending: Sending, terms: ProviderTerms, adapter: ProviderAdapter) -> None:
        self._sending = sending
        self.terms = terms
        self.adapter = adapter
        self.budget = Budget(sending.database, sending.clock, terms.provider_id, terms.parts_per_second)
        self.breaker = Breaker()
        self._buffers: tuple[deque[Prepared], deque[Prepared]] = (deque(), deque())
        self._expected = [0, 0]
        self._recalled: set[str] = set()
        self._calls: set[asyncio.Task[None]] = set()
        self._bulk_calls = 0
        self._last_answer = 0.0
        self._wake = asyncio.Event()
        self._gather_until: float | None = None
        provider_id = terms.provider_id
        self._call_seconds = metrics.CALL_SECONDS.labels(provider_id)
        self._calls_ended = {outcome: metrics.CALLS.labels(provider_id, outcome.value) for outcome in Outcome}
        self._under_way = metrics.CALLS_UNDER_WAY.labels(provider_id)
        self._buffered = metrics.BUFFERED.labels(provider_id)
        self._breaker_open = metrics.BREAKER.labels(provider_id)

    # What the claimer sees

    @property
    def least_claim(self) -> int:
        """A bulk claim of fewer texts is not worth a transaction while there is work in the buffer."""
        return 1 if len(self._buffers[BULK]) < self._sending.concurrency else BUFFERED_TEXTS // 4

    def room(self, lane: int) -> int:
        """How many more texts of the lane may be claimed for this provider."""
        if not self.breaker.lets_through(self._sending.clock.monotonic()):
            return 0
        most = BUFFERED_TEXTS
        if self.terms.parts_per_second is not None:
            most = max(4, min(most, int(self.terms.parts_per_second * 3)))
        if self.breaker.open_until is not None:
            most = 1
        return max(most - len(self._buffers[lane]) - self._expected[lane], 0)

    def buffered_by_campaign(self) -> Counter[str]:
        """Texts that are claimed and wait for their call."""
        return Counter(text.message.campaign_id for buffer in self._buffers for text in buffer)

    def expect(self, lane: int, n: int) -> None:
        """So many texts are being prepared for this provider (or are no longer, with a negative number)."""
        self._expected[lane] += n

    def recall(self, campaign_id: str) -> None:
        """The campaign does not send any more: its texts that wait here shall take nobody's turn and parts."""
        self._recalled.add(campaign_id)
        self._wake.set()

    def put(self, texts: Sequence[Prepared]) -> None:
        for text in texts:
            self._buffers[text.message.lane].append(text)
        self._wake.set()

    def replace_adapter(self, terms: ProviderTerms, adapter: ProviderAdapter) -> ProviderAdapter:
        """For calls from now on; returns the old one, whose calls may still be under way."""
        old, self.adapter, self.terms = self.adapter, adapter, terms
        if self.budget.parts_per_second != terms.parts_per_second:
            self.budget = Budget(self._sending.database, self._sending.clock, terms.provider_id, terms.parts_per_second)
        self.breaker = Breaker()
        self._wake.set()
        return old

    # The loop

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; then gives back what is claimed and waits for the calls under way."""
        stopping = asyncio.create_task(stop.wait())
        stopping.add_done_callback(lambda _: self._wake.set())
        try:
            while not stop.is_set():
                pause = await self._turn()
                self._show()
                if pause == 0:
                    continue
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), pause)
                self._wake.clear()
        finally:
            stopping.cancel()
        await self._give_back(self._drain_buffers())
        if self._calls:
            await asyncio.wait(set(self._calls))

    async def _turn(self) -> float:
        """Begins one group of calls. Returns how long to wait for something new: 0 means go on at once."""
        now = self._sending.clock.monotonic()
        self._notice_stall(now)
        await self._give_back([*self._take_recalled(), *self._take_stale(now)])
        if not any(self._buffers):
            return 1.0
        if not self.breaker.lets_through(now) and self.breaker.state == "open":
            # The next provider of the group takes over: what waits here is routed again.
            await self._give_back(self._drain_buffers())
            return 1.0
        free = self.breaker.room(now, self._sending.concurrency - len(self._calls))
        free_for_bulk = min(free, self._sending.concurrency - self._reserve() - self._bulk_calls)
        if free <= 0 or (not self._buffers[LIVE] and free_for_bulk <= 0):
            return 1.0
        if self._is_worth_gathering(now, free_for_bulk):
            return GATHER_SECONDS
        # `now` is from here on the beginning of these calls: the news was fresh, and half a second later none begins.
        now = self._sending.clock.monotonic()
        if not self._sending.definitions.confirmed_within(CONFIRMED_WITHIN_SECONDS):
            metrics.NOT_CLAIMING.inc()
            return 0.02
        try:
            group = await self._draw_group(free, free_for_bulk)
            if not group:
                return min(max(self.budget.wait_seconds, 0.005), 1.0)
            await self._mark_and_call(group, now)
        except Exception as error:
            if not is_outage(error):
                raise
            log.warning("marking_waits", provider=self.terms.provider_id, **failure(error))
            return 0.2
        return 0

    def _reserve(self) -> int:
        return self._sending.concurrency // LIVE_RESERVE if self._sending.concurrency >= LIVE_RESERVE else 0

    def _is_worth_gathering(self, now: float, free_for_bulk: int) -> bool:
        """With calls under way, a few milliseconds bring more free connections for the same transaction; a live text
        does not wait for them."""
        wanted = min(len(self._buffers[BULK]), self._sending.concurrency // 4)
        if self._buffers[LIVE] or not self._calls or free_for_bulk >= wanted:
            self._gather_until = None
            return False
        if self._gather_until is None:
            self._gather_until = now + GATHER_SECONDS
        if now < self._gather_until:
            return True
        self._gather_until = None
        return False

    async def _draw_group(self, free: int, free_for_bulk: int) -> list[Prepared]:
        """Texts to call now, live ones first: no more than free connections and parts in hand."""
        first = (self._buffers[LIVE] or self._buffers[BULK])[0]
        waiting = sum(len(buffer) for buffer in self._buffers) * first.parts
        parts = await self.budget.available(first.parts, waiting)
        group: list[Prepared] = []
        for lane, most in ((LIVE, free), (BULK, free_for_bulk)):
            buffer = self._buffers[lane]
            taken = 0
            while buffer and len(group) < free and taken < most:
                if parts is not None and buffer[0].parts > parts:
                    break
                text = buffer.popleft()
                taken += 1
                if parts is not None:
                    parts -= text.parts
                    self.budget.spend(text.parts)
                group.append(text)
        if len(self._buffers[BULK]) < BUFFERED_TEXTS // 2:
            self._sending.on_room()
        return group

    async def _mark_and_call(self, group: Sequence[Prepared], started: float) -> None:
        adapter, terms = self.adapter, self.terms
        # The group, or this provider, may have been edited since they were claimed: then they are routed again.
        await self._give_back([text for text in group if not self._sending.may_carry(text, terms.provider_id)])
        now = self._sending.clock.monotonic()
        admitted = [
            (text, validity)
            for text in group
            if self._sending.may_carry(text, terms.provider_id) and (validity := self._admit(text, now)) is not None
        ]
        if not admitted:
            return
        mark = secrets.token_hex(8)
        texts = {text.message.message_id: (text, validity) for text, validity in admitted}
        timer = time.perf_counter()
        try:
            async with alone(self._sending.database) as tx:
                marked = await marks.mark(
                    tx,
                    self._sending.owner,
                    mark,
                    terms.provider_id,
                    adapter.origin.name,
                    [rendered(text) for text, _ in admitted],
                    lease_seconds(terms.timeout_seconds),
                )
                missing = [id for id in texts if id not in marked]
                suppressed = await marks.suppressed_among(tx, self._sending.owner, missing) if missing else set()
        except BaseException:
            # Whether it was committed is not known: take the mark back if it is there.
            for text, _ in admitted:
                attempt = marked_of(text, mark, terms.provider_id, self._sending.database_clock.now())
                self._unmark(attempt, "mark_failed")
            raise
        metrics.MARK_SECONDS.observe(time.perf_counter() - timer)
        for id in suppressed:
            self._sending.settle(Settlement(texts[id][0].message, Event.SUPPRESS, reason="suppressed"))
        lost = [id for id in missing if id not in suppressed]
        for id, marked_at in marked.items():
            text, validity = texts[id]
            self._begin(adapter, terms, marked_of(text, mark, terms.provider_id, marked_at), text, validity, started)
        if lost:
            await self._give_back([texts[id][0] for id in lost])

    def _admit(self, text: Prepared, now: float) -> int | None:
        """Seconds of validity, or None: then the text has been settled, or left to its lease."""
        if now + LEASE_MARGIN_SECONDS > text.leased_until:
            return None
        campaign = self._sending.definitions.campaigns.get(text.message.campaign_id)
        match campaign_says(campaign):
            case "cancel":
                self._sending.settle(Settlement(text.message, Event.CANCEL, reason=cancel_reason(campaign)))
                return None
            case "hold":
                self._sending.settle(Settlement(text.message, Event.HOLD, reason="campaign_paused"))
                return None
        message = text.message
        # The call begins a moment after this decision; the validity given must not end later than the deadline.
        moment = self._sending.database_clock.now() + timedelta(seconds=1)
        minimum = self.adapter.capabilities.min_validity_seconds
        verdict = admit(moment, message.send_by, message.allowed, message.on_hit, minimum)
        if isinstance(verdict, Admitted):
            return verdict.validity_seconds
        self._sending.settle(not_admitted(message, verdict))
        return None

    def _begin(
        self, adapter: ProviderAdapter, terms: ProviderTerms, message: Message, text: Prepared, validity: int,
        started: float,
    ) -> None:  # fmt: skip
        self.breaker = self.breaker.begun()
        if not self._calls:
            self._last_answer = started
        if message.lane == BULK:
            self._bulk_calls += 1
        call = asyncio.create_task(self._call(adapter, terms, message, text, validity, started))
        self._calls.add(call)
        call.add_done_callback(lambda done: self._ended(done, message.lane))

    def _ended(self, call: asyncio.Task[None], lane: int) -> None:
        self._calls.discard(call)
        if lane == BULK:
            self._bulk_calls -= 1
        self._wake.set()

    async def _call(
        self, adapter: ProviderAdapter, terms: ProviderTerms, message: Message, text: Prepared, validity: int,
        started: float,
    ) -> None:  # fmt: skip
        """One call, at most once: the fence is checked last, with nothing awaited between it and the request; what a
        stop may change is checked once more when the adapter has its connection, which can take seconds."""
        sends = partial(may_send, self._sending.definitions, message.campaign_id)
        outgoing = OutgoingText(
            message.message_id, message.attempt, reference(message.message_id, message.attempt), message.phone,
            text.body, text.encoding, text.parts, validity, terms.callback_url, message.campaign_id, text.filled, sends,
        )  # fmt: skip
        clock = self._sending.clock
        begun_at = clock.monotonic()
        if not may_begin(begun_at, started, terms.timeout_seconds) or not sends():
            self._call_off(message)
            return
        try:
            result = await adapter.submit(outgoing)
        except CalledOff:
            self._call_off(message)
            return
        except asyncio.CancelledError:
            self._settle_call(terms, message, text, SubmitResult(Outcome.IN_DOUBT, code="cancelled"))
            raise
        except Exception as error:  # noqa: BLE001  # an adapter's bug is a doubt, not the end of the pipeline
            log.error("adapter_failed", provider=terms.provider_id, **failure(error))
            result = SubmitResult(Outcome.IN_DOUBT, code="adapter_failed", unknown_code=True)
        self._call_seconds.observe(clock.monotonic() - begun_at)
        self._learn(result)
        self._settle_call(terms, message, text, result)

    def _learn(self, result: SubmitResult) -> None:
        now = self._sending.clock.monotonic()
        self._last_answer = now
        if result.is_accepted:
            self.breaker = self.breaker.success()
        elif result.counts_for_breaker:
            self.breaker = self.breaker.failure(now)
        else:
            self.breaker = self.breaker.neutral()
        if result.unknown_code:
            metrics.UNKNOWN_CODES.labels(self.terms.provider_id).inc()
            log.error("unknown_code", provider=self.terms.provider_id, code=result.code)

    def _settle_call(self, terms: ProviderTerms, message: Message, text: Prepared, result: SubmitResult) -> None:
        self._calls_ended[result.outcome].inc()
        now = self._sending.database_clock.now()
        started_at = message.marked_at or now
        tried = (*message.tried, terms.provider_id)
        situation = Situation(
            message.attempt, started_at, now, message.send_by, self._sending.has_another(text, tried),
            terms.doubt_seconds, terms.in_doubt_wait_seconds,
        )  # fmt: skip
        attempt = Attempt(
            message.attempt, terms.provider_id, started_at, result.outcome.value, result.code or "",
            result.provider_message_id,
        )  # fmt: skip
        if result.is_in_doubt:
            metrics.DOUBTS.labels("call").inc()
        step = after_outcome(result, situation)
        self._sending.settle(settlement_of(message, step, attempt, tried, result.suppress))

    def _sends(self, message: Message) -> bool:
        return campaign_says(self._sending.definitions.campaigns.get(message.campaign_id)) == "send"

    def _call_off(self, message: Message) -> None:
        self._unmark(message, "late" if self._sends(message) else "stopped")
        self.breaker = self.breaker.not_begun()

    def _unmark(self, message: Message, why: str) -> None:
        metrics.UNMARKED.labels(why).inc()
        self._sending.settle(Settlement(message, Event.UNMARK, reason=message.reason, attempts_taken_back=1))

    def _notice_stall(self, now: float) -> None:
        busy = len(self._calls) >= self._sending.concurrency - self._reserve()
        if busy and now - self._last_answer > STALL_SECONDS and self.breaker.state == "closed":
            self.breaker = self.breaker.stalled(now)
            log.warning("provider_stalled", provider=self.terms.provider_id, calls=len(self._calls))

    def _take_stale(self, now: float) -> list[Prepared]:
        """Texts whose lease ends before they could be marked: a slow rate lets them wait too long, and what is drawn
        from it must not be spent on them."""
        stale: list[Prepared] = []
        for buffer in self._buffers:
            while buffer and now + LEASE_MARGIN_SECONDS > buffer[0].leased_until:
                stale.append(buffer.popleft())
        return stale

    def _take_recalled(self) -> list[Prepared]:
        """Whoever looks after campaigns that do not send finds them in the ledger."""
        recalled, self._recalled = self._recalled, set()
        if not recalled:
            return []
        texts = self._drain_buffers()
        for text in texts:
            if text.message.campaign_id not in recalled:
                self._buffers[text.message.lane].append(text)
        return [text for text in texts if text.message.campaign_id in recalled]

    def _drain_buffers(self) -> list[Prepared]:
        texts = [text for buffer in self._buffers for text in buffer]
        for buffer in self._buffers:
            buffer.clear()
        return texts

    async def _give_back(self, texts: Sequence[Prepared]) -> None:
        """Free for anybody to claim. When Postgres is away, their leases do the same a little later."""
        if not texts:
            return
        try:
            async with alone(self._sending.database) as tx:
                await claims.release(tx, self._sending.owner, [text.message.message_id for text in texts])
        except Exception as error:
            if not is_outage(error):
                raise
            log.warning("giving_back_failed", n=len(texts), **failure(error))
        self._sending.on_room()

    def _show(self) -> None:
        self._under_way.set(len(self._calls))
        self._buffered.set(sum(len(buffer) for buffer in self._buffers))
        self._breaker_open.set({"closed": 0, "half_open": 1, "open": 2}[self.breaker.state])
