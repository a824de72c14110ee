"""Claims what waits and hands it, rendered, to the pipeline of the provider it is routed to.

Claims only for providers that have room, so that a slow one keeps its texts in the ledger; live texts first. It never
claims on old news: without definitions confirmed a moment ago it waits.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta

from dispatcher import metrics
from dispatcher.calls import Definitions, Sending
from dispatcher.domain.admission import Admitted, admit, campaign_says
from dispatcher.domain.after_outcome import back_off
from dispatcher.domain.fence import CONFIRMED_WITHIN_SECONDS
from dispatcher.domain.ledger import Event
from dispatcher.domain.message import BULK, LIVE, Message, Queue
from dispatcher.domain.routing import Nowhere, has_another
from dispatcher.domain.settlement import Settlement
from dispatcher.fleet import Fleet
from dispatcher.pipeline import Pipeline
from dispatcher.preparation import compile_for, prepare
from dispatcher.steps import not_admitted
from dispatcher.store import claims
from dispatcher.store.alone import alone
from dispatcher.throttles import Throttles
from postrider.contracts.definitions import CampaignDefinition, What
from postrider.health import Check
from postrider.logs import failure, log
from postrider.postgres.database import is_outage
from postrider.sms.render_pool import RenderPool

LEASE_SECONDS = 15.0
DISCOVER_SECONDS = 1.0
MOST_AT_ONCE = 500
MOST_RENDERED = 25
"""Texts of a template that needs a worker process, at once: at a quarter of a second each they are rendered and marked
before their leases are over."""


Wants = dict[str, tuple[int, Pipeline | None]]
"""Queue → how many of its texts to claim, and for whom; None: every provider has refused them."""


class Claimer:
    """A component (`run`). `on_not_sending` hears of campaigns whose texts are to be cancelled or held."""

    def __init__(
        self,
        sending: Sending,
        fleet: Fleet,
        pool: RenderPool,
        check: Check,
        on_not_sending: Callable[[str], None],
    ) -> None:
        self._sending = sending
        self._definitions = sending.definitions
        self._fleet = fleet
        self._pool = pool
        self._check = check
        self._on_not_sending = on_not_sending
        self._throttles = Throttles(sending.database, sending.clock)
        self._active: set[tuple[int, str]] = set()
        self._discover_at = 0.0
        self._discovered = claims.FIRST
        self._wake = asyncio.Event()
        self._rendering: set[asyncio.Task[None]] = set()
        self._turn = 0
        self._slow_turns = [0, 0]

    def woken(self, queues: set[tuple[int, str]] | None = None) -> None:
        """Texts have come to these queues, or a pipeline has room."""
        if queues:
            self._active |= queues
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                if await self._claim_once():
                    continue
                self._check.up()
            except Exception as error:
                if not is_outage(error):
                    raise
                self._check.down(type(error).__name__)
                log.warning("claiming_waits", **failure(error))
                await asyncio.sleep(0.2)
            longest = min(0.1, self._throttles.wait_seconds()) if self._active else 0.5
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), longest)
            self._wake.clear()
        for task in self._rendering:
            task.cancel()
        await asyncio.gather(*self._rendering, return_exceptions=True)

    async def _claim_once(self) -> bool:
        """One claim, of live texts if there are any. False: nothing to do now."""
        if not self._definitions.confirmed_within(CONFIRMED_WITHIN_SECONDS):
            metrics.NOT_CLAIMING.inc()
            await asyncio.sleep(0.02)
            return False
        now = self._sending.clock.monotonic()
        if now >= self._discover_at:
            async with alone(self._sending.database) as tx:
                found = await claims.queues(tx, self._discovered)
            self._active |= set(found)
            # Where there are more than one look takes, the next goes on behind it.
            self._discovered = found[-1] if len(found) == claims.MOST_QUEUES else claims.FIRST
            self._discover_at = now + DISCOVER_SECONDS
        self._throttles.begin_turn()
        for lane in (LIVE, BULK):
            wants = await self._wants(lane, now)
            if wants:
                await self._claim(lane, wants)
                return True
        return False

    async def _wants(self, lane: int, now: float) -> Wants:
        """How many texts of which queues, and where they go. The queues of one provider share its room; campaigns with
        a throttle take of it what they have in hand, and nothing from the others when they have to wait."""
        exhausted, by_provider, slow = self._routed(lane, now)
        wants: Wants = dict.fromkeys(exhausted, (MOST_AT_ONCE, None))
        self._turn += 1
        slow_one = self._next_slow(lane, slow)
        roomy: list[tuple[Pipeline, int, list[str]]] = []
        for provider_id, routed in by_provider.items():
            pipeline = self._fleet.pipeline(provider_id)
            room = 0 if pipeline is None else min(pipeline.room(lane), MOST_AT_ONCE)
            names = sorted(name for name in routed if name == slow_one or name not in slow)
            if pipeline is None or not names or room < (1 if lane == LIVE else pipeline.least_claim):
                continue
            first = self._turn % len(names)
            roomy.append((pipeline, room, names[first:] + names[:first]))
        hands = await self._throttles.hands(self._throttled(roomy), self._definitions.campaigns)
        for pipeline, room, names in roomy:
            free = []
            for name in names:
                campaign_id = Queue.parse(name).campaign_id
                if campaign_id not in hands:
                    free.append(name)
                    continue
                n = min(room, hands[campaign_id], MOST_RENDERED if name == slow_one else room)
                if n:
                    hands[campaign_id] -= n
                    room -= n
                    wants[name] = (n, pipeline)
            share = max(1, room // max(len(free), 1))
            for name in free[:room]:
                wants[name] = (min(share, MOST_RENDERED) if name == slow_one else share, pipeline)
        return wants

    def _routed(self, lane: int, now: float) -> tuple[list[str], dict[str, list[str]], set[str]]:
        """Queues that every provider has refused; the others by the provider they go to now; and which of them are
        rendered by the worker process. What goes nowhere now is no longer active."""
        exhausted: list[str] = []
        by_provider: dict[str, list[str]] = {}
        slow: set[str] = set()
        for queue_lane, name in list(self._active):
            if queue_lane != lane:
                continue
            queue = Queue.parse(name)
            campaign = self._definitions.campaigns.get(queue.campaign_id)
            if campaign_says(campaign) != "send" or campaign is None:
                self._active.discard((queue_lane, name))
                self._on_not_sending(queue.campaign_id)
                continue
            what = campaign.whats.get(str(queue.what_version))
            target = Nowhere("unknown_what", exhausted=True) if what is None else self._fleet.route(what, queue, now)
            if isinstance(target, Nowhere):
                if target.exhausted:
                    exhausted.append(name)
                else:
                    self._active.discard((queue_lane, name))
                continue
            if what is not None and not _is_simple(campaign, what, target.provider_id, self._definitions):
                slow.add(name)
            by_provider.setdefault(target.provider_id, []).append(name)
        return exhausted, by_provider, slow

    def _throttled(self, roomy: Sequence[tuple[Pipeline, int, list[str]]]) -> dict[str, int]:
        """Campaigns with a throttle whose texts could be claimed → how many are claimed and wait for their call."""
        waiting: Counter[str] = Counter()
        for pipeline, _, names in roomy:
            campaigns = {Queue.parse(name).campaign_id for name in names}
            throttled = [id for id in campaigns if self._definitions.campaigns[id].when.throttle_per_minute is not None]
            if throttled:
                buffered = pipeline.buffered_by_campaign()
                waiting.update({id: buffered[id] for id in throttled})
        return dict(waiting)

    def _next_slow(self, lane: int, slow: set[str]) -> str | None:
        """Of the queues whose texts are rendered by the worker process, the one whose turn it is. There is one worker:
        who waits for it had better wait in the ledger, without a lease that runs out."""
        if not slow or self._rendering:
            return None
        self._slow_turns[lane] += 1
        return sorted(slow)[self._slow_turns[lane] % len(slow)]

    async def _claim(self, lane: int, wants: Wants) -> None:
        limits = {name: n for name, (n, _) in wants.items()}
        # Taken off before the query: whoever wakes us while it runs puts the queue on again.
        self._active -= {(lane, name) for name in wants}
        started = self._sending.clock.monotonic()
        async with alone(self._sending.database) as tx:
            claim = await claims.claim(tx, self._sending.owner, lane, limits, LEASE_SECONDS)
        if claim.now is not None:
            self._sending.database_clock.told(claim.now)
        by_queue: dict[str, list[Message]] = {name: [] for name in wants}
        for message in claim.messages:
            by_queue[message.queue].append(message)
        for name, messages in by_queue.items():
            limit, pipeline = wants[name]
            if pipeline is not None:
                self._throttles.spend(name, len(messages))
            if len(messages) >= limit:
                self._active.add((lane, name))
            if not messages:
                continue
            try:
                await self._place(name, messages, pipeline, started + LEASE_SECONDS)
            except Exception as error:  # noqa: BLE001  # one campaign's text must not stop all others
                # Their leases run out and they are claimed again, until their deadline.
                log.error("preparing_failed", campaign=Queue.parse(name).campaign_id, n=len(messages), **failure(error))

    async def _place(self, name: str, messages: list[Message], pipeline: Pipeline | None, leased_until: float) -> None:
        queue = Queue.parse(name)
        campaign = self._definitions.campaigns.get(queue.campaign_id)
        what = None if campaign is None else campaign.whats.get(str(queue.what_version))
        if pipeline is None or campaign is None or what is None:
            for message in messages:
                self._sending.settle(self._unroutable(message, campaign, what))
            return
        refused = self._fleet.refuses(what, pipeline.terms.provider_id)
        if refused is not None:
            for message in messages:
                self._sending.settle(self._refused(message, what, pipeline.terms.provider_id, refused))
            return
        admitted = self._admitted(messages, pipeline)
        if not admitted:
            return
        rendering = self._render(admitted, campaign, what, pipeline, leased_until)
        if _is_simple(campaign, what, pipeline.terms.provider_id, self._definitions):
            await rendering
            return
        # A worker process renders: other campaigns go on meanwhile, and the provider's room is kept for these.
        lane = admitted[0].lane
        pipeline.expect(lane, len(admitted))
        task = asyncio.create_task(rendering)
        self._rendering.add(task)
        task.add_done_callback(lambda done: self._rendered(done, pipeline, lane, len(admitted)))

    def _admitted(self, messages: list[Message], pipeline: Pipeline) -> list[Message]:
        now = self._sending.database_clock.now()
        minimum = pipeline.adapter.capabilities.min_validity_seconds
        admitted = []
        for message in messages:
            verdict = admit(now + timedelta(seconds=1), message.send_by, message.allowed, message.on_hit, minimum)
            if isinstance(verdict, Admitted):
                admitted.append(message)
            else:
                self._sending.settle(not_admitted(message, verdict))
        return admitted

    async def _render(
        self, messages: list[Message], campaign: CampaignDefinition, what: What, pipeline: Pipeline, leased_until: float
    ) -> None:
        prepared = await prepare(
            messages, campaign, what, pipeline.terms.provider_id, self._definitions.settings, self._pool, leased_until
        )
        for settlement in prepared.settled:
            self._sending.settle(settlement)
        pipeline.put(prepared.ready)

    def _rendered(self, task: asyncio.Task[None], pipeline: Pipeline, lane: int, n: int) -> None:
        self._rendering.discard(task)
        pipeline.expect(lane, -n)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            # Their leases run out and they are claimed again.
            log.error("rendering_failed", n=n, **failure(error))
        self._wake.set()

    def _refused(self, message: Message, what: What, provider_id: str, field: str) -> Settlement:
        """Nothing of this `what` fits the provider: the next one has it, or nobody."""
        tried = (*message.tried, provider_id)
        if not has_another(self._fleet.network, what, message.country, tried):
            return Settlement(message, Event.FAIL, cause="personalisation_failed", reason=f"not_for_provider: {field}")
        return Settlement(
            message, Event.WAIT, reason=message.reason or "not_for_provider",
            next_at=self._sending.database_clock.now(), tried=tried,
        )  # fmt: skip

    def _unroutable(self, message: Message, campaign: CampaignDefinition | None, what: What | None) -> Settlement:
        """Every provider has refused it: all of them may be asked again after a pause, until its deadline."""
        if campaign is not None and what is None:
            return Settlement(message, Event.FAIL, cause="personalisation_failed", reason="unknown_what_version")
        until = self._sending.database_clock.now() + timedelta(seconds=back_off(max(message.attempt, 1)))
        return Settlement(
            message, Event.WAIT, reason=message.reason or "every_provider_refused",
            next_at=min(until, message.send_by), tried=(),
        )  # fmt: skip


def _is_simple(campaign: CampaignDefinition, what: What, provider_id: str, definitions: Definitions) -> bool:
    """Rendered in the process, by postrider.sms's own word. A text that cannot be compiled costs nothing either."""
    try:
        return compile_for(campaign, what, provider_id, definitions.settings).is_simple
    except ValueError:
        return True
