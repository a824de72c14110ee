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
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from math import ceil
from typing import cast

from dispatcher import metrics
from dispatcher.budget import Budget
from dispatcher.caller import Caller, Marked, outgoing_of
from dispatcher.calls import Prepared, ProviderTerms, Sending
from dispatcher.domain.admission import Admitted, admit, campaign_says, cancel_reason
from dispatcher.domain.after_outcome import PATIENCE_SECONDS
from dispatcher.domain.breaker import Breaker
from dispatcher.domain.fair_buffer import Verdict
from dispatcher.domain.fence import CLAIM_SECONDS, CONFIRMED_WITHIN_SECONDS, lease_seconds
from dispatcher.domain.ledger import Event
from dispatcher.domain.message import BULK, BY_PRIORITY
from dispatcher.domain.settlement import Settlement
from dispatcher.domain.sharing import Sharing
from dispatcher.http_checks import connect_seconds
from dispatcher.providers.base import BatchAdapter, ProviderAdapter
from dispatcher.sending import woken_at
from dispatcher.steps import marked_of, not_admitted, rendered
from dispatcher.store import claims, marks
from dispatcher.store.alone import alone
from dispatcher.waiting import Waiting
from postrider.logs import failure, log
from postrider.postgres.database import is_outage

BUFFERED_TEXTS = 512
LIVE_RESERVE = 8
"""One eighth of the connections stays free of bulk, so that a live text never waits for a bulk call to end."""
GATHER_SECONDS = 0.004
LEASE_MARGIN_SECONDS = 1.0
"""A claim that ends sooner is not marked any more."""
SOON_SECONDS = 1.0
"""Of a group that fails over on rate limits: a text that would wait longer for its parts goes to the next provider."""


class Pipeline:
    """A component (`run`)."""

    def __init__(self, sending: Sending, terms: ProviderTerms, adapter: ProviderAdapter) -> None:
        self._sending = sending
        self.terms = terms
        self.adapter = adapter
        self.budget = Budget(sending.database, sending.clock, terms.provider_id, terms.parts_per_second)
        self.caller = Caller(sending, terms.provider_id, self._wake_up)
        self._waiting = Waiting()
        self._marking: Sequence[Prepared] = ()
        self._recalled: set[str] = set()
        self._wake = asyncio.Event()
        self._gather_until: float | None = None
        self._spill_at = 0.0
        provider_id = terms.provider_id
        self._under_way = metrics.CALLS_UNDER_WAY.labels(provider_id)
        self._buffered = metrics.BUFFERED.labels(provider_id)
        self._breaker_open = metrics.BREAKER.labels(provider_id)
        self._throttled = metrics.THROTTLED.labels(provider_id)
        self._retries_left = metrics.RETRIES_LEFT.labels(provider_id)

    # What the claimer sees

    @property
    def breaker(self) -> Breaker:
        return self.caller.breaker

    @property
    def is_open(self) -> bool:
        """Whether routing may choose it: its breaker lets calls through, and it does not want to be left alone for
        long."""
        now = self._sending.clock.monotonic()
        return self.breaker.lets_through(now) and self.caller.quiet_until - now <= PATIENCE_SECONDS

    def least_claim(self, lane: int) -> int:
        """A claim of fewer texts is not worth a transaction while there is work in the buffer."""
        return 1 if self._waiting.of_lane(lane) < self._sending.concurrency else BUFFERED_TEXTS // 4

    def room(self, lane: int) -> int:
        """How many more texts of the lane may be claimed for this provider."""
        now = self._sending.clock.monotonic()
        if not self.breaker.lets_through(now) or now < self.caller.quiet_until:
            return 0
        most = BUFFERED_TEXTS
        if self.terms.parts_per_second is not None:
            most = max(4, min(most, int(self.terms.parts_per_second * 3)))
        if self.breaker.open_until is not None:
            most = 0 if self._waiting else 1
        return max(most - self._waiting.of_lane(lane), 0)

    def room_soon(self, lane: int) -> int:
        """How many of them would not wait for their parts longer than SOON_SECONDS; one may, when it is the next."""
        room, rate = self.room(lane), self.budget.per_second()
        if rate is None or not room:
            return room
        free = max(rate * SOON_SECONDS, 1.0) - self._waiting.parts_ahead(lane)
        return min(room, max(int(free / self._waiting.parts_per_text), 0))

    @property
    def room_again(self) -> int:
        """How many more of texts that were refused before."""
        return max(self.caller.retries.left(self._sending.clock.monotonic()) - self._waiting.again, 0)

    def waiting_of(self, lane: int) -> Mapping[str, int]:
        """By campaign."""
        return self._waiting.by_campaign(lane)

    def buffered_by_campaign(self) -> Counter[str]:
        """Texts that are claimed and wait for their call, those that are just being marked among them."""
        counted = self._waiting.buffered_by_campaign()
        counted.update(text.message.campaign_id for text in self._marking)
        return counted

    def expect(self, lane: int, n: int) -> None:
        """So many texts are being prepared for this provider (or are no longer, with a negative number)."""
        self._waiting.expect(lane, n)

    def recall(self, campaign_id: str) -> None:
        """The campaign does not send any more: its texts that wait here shall take nobody's turn and parts."""
        self._recalled.add(campaign_id)
        self._wake.set()

    def put(self, texts: Sequence[Prepared]) -> None:
        self._waiting.put(texts)
        self._wake.set()

    def replace_adapter(self, terms: ProviderTerms, adapter: ProviderAdapter) -> ProviderAdapter:
        """For calls from now on; returns the old one, whose calls may still be under way."""
        old, self.adapter, self.terms = self.adapter, adapter, terms
        if self.budget.parts_per_second != terms.parts_per_second:
            self.budget = Budget(self._sending.database, self._sending.clock, terms.provider_id, terms.parts_per_second)
        self.caller.breaker = Breaker()
        self.caller.quiet_until = 0.0
        self._wake.set()
        return old

    def _wake_up(self) -> None:
        self._wake.set()

    # The loop

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; then gives back what is claimed and waits for the calls under way."""
        with woken_at(stop, self._wake):
            while not stop.is_set():
                pause = await self._turn()
                self._show()
                if pause == 0:
                    continue
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), pause)
                self._wake.clear()
        await self._give_back(self._waiting.drain())
        await self.caller.wait()

    async def _turn(self) -> float:
        """Begins one group of calls. Returns how long to wait for something new: 0 means go on at once."""
        now = self._sending.clock.monotonic()
        self._notice_stall(now)
        await self._give_back([*self._take_recalled(), *self._take_stale(now)])
        idle = min(max(self.caller.stalls_at() - now, 0.01), 1.0) if self.breaker.state == "closed" else 1.0
        if not self._waiting:
            return idle
        if not self.breaker.lets_through(now):
            # The next provider of the group takes over: what waits here, perhaps behind a probe, is routed again.
            await self._give_back(self._waiting.drain())
            return idle
        if now < self.caller.quiet_until:
            if self.caller.quiet_until - now > SOON_SECONDS:
                await self._give_back(self._waiting.drain())
            return min(idle, self.caller.quiet_until - now)
        free = self.breaker.room(now, self._sending.concurrency - self.caller.calls)
        free_for_bulk = min(free, self._sending.concurrency - self._reserve() - self.caller.bulk_calls)
        is_bulk = self._waiting.head.message.lane == BULK
        if free <= 0 or (is_bulk and free_for_bulk <= 0):
            return idle
        wanted = min(len(self._waiting) if is_bulk else self._waiting.urgent, self._sending.concurrency // 4)
        if self._is_worth_gathering(now, wanted, free_for_bulk if is_bulk else free):
            return GATHER_SECONDS
        # `now` is from here on the beginning of these calls: the news was fresh, and half a second later none begins.
        now = self._sending.clock.monotonic()
        if not self._sending.definitions.confirmed_within(CONFIRMED_WITHIN_SECONDS):
            metrics.NOT_CLAIMING.inc()
            return 0.02
        try:
            # An edit may replace them meanwhile: what was put together for an adapter goes by that one.
            adapter, terms = self.adapter, self.terms
            sharing = self._sharing(adapter, free, free_for_bulk)
            group = await self._draw_group(free, free_for_bulk, adapter, sharing)
            if not group:
                await self._give_back(self._take_spilling(now))
                return min(max(self.budget.wait_seconds, 0.005), idle)
            self._marking = group
            await self._mark_and_call(group, adapter, terms, sharing, now)
        except Exception as error:
            if not is_outage(error):
                raise
            log.warning("marking_waits", provider=self.terms.provider_id, **failure(error))
            return 0.2
        finally:
            self._marking = ()
        return 0

    def _reserve(self) -> int:
        return self._sending.concurrency // LIVE_RESERVE if self._sending.concurrency >= LIVE_RESERVE else 0

    def _is_worth_gathering(self, now: float, wanted: int, free: int) -> bool:
        """With calls under way, a few milliseconds bring more free connections for the same transaction. Not worth it
        for the few live texts that there are mostly."""
        if not self.caller.calls or free >= wanted:
            self._gather_until = None
            return False
        if self._gather_until is None:
            self._gather_until = now + GATHER_SECONDS
        if now < self._gather_until:
            return True
        self._gather_until = None
        return False

    def _sharing(self, adapter: ProviderAdapter, free: int, free_for_bulk: int) -> Sharing | None:
        """For a provider that takes several texts in a call. A probe carries one: no more is put at risk."""
        size = adapter.capabilities.batch_size if self.breaker.state == "closed" else 1
        return Sharing(size, free, free_for_bulk) if size > 1 else None

    async def _draw_group(
        self, free: int, free_for_bulk: int, adapter: ProviderAdapter, sharing: Sharing | None
    ) -> list[Prepared]:
        """Texts to call now, by the priority of their lanes: no more than free connections and parts in hand. Whoever
        lacks parts for its text lets nobody of a lesser lane have them."""
        parts = await self.budget.available(self._waiting.head.parts, self._waiting.parts)
        group: list[Prepared] = []
        left, calls, is_short = parts, 0, False

        def judge(text: Prepared) -> Verdict:
            nonlocal left, calls, is_short
            if sharing is None and calls <= 0:
                return Verdict.STOP
            if left is not None and text.parts > left:
                is_short = True
                return Verdict.STOP
            if sharing is not None and not self._shares(sharing, adapter, text):
                return Verdict.PASS
            calls -= 1
            left = None if left is None else left - text.parts
            return Verdict.TAKE

        for lane in BY_PRIORITY:
            calls = min(free_for_bulk if lane == BULK else free, free - len(group))
            group += self._waiting.draw(lane, judge)
            if is_short:
                break
        if parts is not None and left is not None:
            self.budget.spend(parts - left)
        if len(self._waiting) < BUFFERED_TEXTS // 2:
            self._sending.on_room()
        return group

    def _shares(self, sharing: Sharing, adapter: ProviderAdapter, text: Prepared) -> bool:
        message = text.message
        outgoing = outgoing_of(self._sending, self.terms, Marked(message, text, 0))
        key = cast(BatchAdapter, adapter).batch_key(outgoing)
        return sharing.takes(message.message_id, key, is_bulk=message.lane == BULK)

    async def _mark_and_call(
        self,
        group: Sequence[Prepared],
        adapter: ProviderAdapter,
        terms: ProviderTerms,
        sharing: Sharing | None,
        started: float,
    ) -> None:
        # The group, or this provider, may have been edited since they were claimed: then they are routed again.
        astray = [text for text in group if not self._sending.may_carry(text, terms.provider_id)]
        if astray:
            await self._give_back(astray)
            gone = {text.message.message_id for text in astray}
            group = [
                text
                for text in group
                if text.message.message_id not in gone and self._sending.may_carry(text, terms.provider_id)
            ]
        now = self._sending.clock.monotonic()
        # The calls begin a moment after this decision; the validity given must not end later than the deadline.
        moment = self._sending.database_clock.now() + timedelta(seconds=1)
        admitted = [(text, validity) for text in group if (validity := self._admit(text, now, moment)) is not None]
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
                self.caller.unmark(attempt, "mark_failed")
            raise
        metrics.MARK_SECONDS.observe(time.perf_counter() - timer)
        for id in suppressed:
            self._sending.settle(Settlement(texts[id][0].message, Event.SUPPRESS, reason="suppressed"))
        lost = [id for id in missing if id not in suppressed]
        if sharing is None:
            for id, marked_at in marked.items():
                text, validity = texts[id]
                message = marked_of(text, mark, terms.provider_id, marked_at)
                self.caller.begin(adapter, terms, Marked(message, text, validity), started)
        else:
            for ids in sharing.calls(marked):
                call = [Marked(marked_of(texts[id][0], mark, terms.provider_id, marked[id]), *texts[id]) for id in ids]
                self.caller.begin_together(cast(BatchAdapter, adapter), terms, call, started)
        if lost:
            await self._give_back([texts[id][0] for id in lost])

    def _admit(self, text: Prepared, now: float, moment: datetime) -> int | None:
        """Seconds of validity, or None: then the text has been settled, or left to its lease. `now` is monotonic."""
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
        minimum = self.adapter.capabilities.min_validity_seconds
        verdict = admit(moment, message.send_by, message.allowed, message.on_hit, minimum)
        if isinstance(verdict, Admitted):
            # What is written before the call has its connection counts from when it has it.
            return max(verdict.validity_seconds - ceil(connect_seconds(self.terms.timeout_seconds)), minimum or 1)
        self._sending.settle(not_admitted(message, verdict))
        return None

    def _notice_stall(self, now: float) -> None:
        if now >= self.caller.stalls_at() and self.breaker.state == "closed":
            self.caller.breaker = self.breaker.stalled(now)
            log.warning("provider_stalled", provider=self.terms.provider_id, calls=self.caller.calls)

    def _take_stale(self, now: float) -> list[Prepared]:
        """Texts whose lease ends before they could be marked: a slow rate lets them wait too long, and what is drawn
        from it must not be spent on them."""
        return self._waiting.take_heads(lambda text: now + LEASE_MARGIN_SECONDS > text.leased_until)

    def _take_spilling(self, now: float) -> list[Prepared]:
        """Texts that wait for their parts although another provider may and can have them: what goes first, or other
        replicas, took more of the rate than was foreseen."""
        if now < self._spill_at:
            return []
        self._spill_at = now + SOON_SECONDS / 4
        waits_since = now + CLAIM_SECONDS - SOON_SECONDS
        return self._waiting.take_heads(
            lambda text: (
                text.leased_until < waits_since and self._sending.has_room_elsewhere(text, self.terms.provider_id)
            )
        )

    def _take_recalled(self) -> list[Prepared]:
        """Whoever looks after campaigns that do not send finds them in the ledger."""
        recalled, self._recalled = self._recalled, set()
        return self._waiting.take_campaigns(recalled)

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
        self._under_way.set(self.caller.calls)
        self._buffered.set(len(self._waiting))
        self._breaker_open.set({"closed": 0, "half_open": 1, "open": 2}[self.breaker.state])
        now = self._sending.clock.monotonic()
        self._throttled.set(now < self.caller.quiet_until)
        self._retries_left.set(max(self.caller.retries.left(now), 0))
