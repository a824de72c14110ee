"""Claims what waits and hands it, rendered, to the pipeline of the provider it is routed to.

Claims what planner.py says, transactional texts first, then live ones. It never claims on old news: without definitions
confirmed a moment ago it waits.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import timedelta

from dispatcher import metrics
from dispatcher.calls import Sending
from dispatcher.domain.admission import Admitted, admit
from dispatcher.domain.after_outcome import back_off
from dispatcher.domain.fence import CLAIM_SECONDS, CONFIRMED_WITHIN_SECONDS
from dispatcher.domain.ledger import Event
from dispatcher.domain.message import BY_PRIORITY, Message, Queue
from dispatcher.domain.routing import has_another
from dispatcher.domain.settlement import Settlement
from dispatcher.fleet import Fleet
from dispatcher.pipeline import Pipeline
from dispatcher.planner import Planner, Wants, is_simple
from dispatcher.preparation import prepare
from dispatcher.sending import woken_at
from dispatcher.steps import not_admitted
from dispatcher.store import claims
from dispatcher.store.alone import alone
from dispatcher.throttles import Throttles
from postrider.contracts.definitions import CampaignDefinition, What
from postrider.health import Check
from postrider.logs import failure, log
from postrider.postgres.database import is_outage
from postrider.sms.render_pool import RenderPool

DISCOVER_SECONDS = 1.0


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
        self._throttles = Throttles(sending.database, sending.clock)
        self._planner = Planner(sending.definitions, fleet, self._throttles, on_not_sending)
        self._active: set[tuple[int, str]] = set()
        self._discover_at = 0.0
        self._discovered = claims.FIRST
        self._wake = asyncio.Event()
        self._rendering: set[asyncio.Task[None]] = set()

    def woken(self, queues: set[tuple[int, str]] | None = None) -> None:
        """Texts have come to these queues, or a pipeline has room."""
        if queues:
            self._active |= queues
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        with woken_at(stop, self._wake):
            await self._run(stop)

    async def _run(self, stop: asyncio.Event) -> None:
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
        """One claim in each lane that has anything. False: nothing to do now."""
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
        has_claimed = False
        for lane in BY_PRIORITY:
            wants = await self._planner.wants(self._active, lane, is_rendering=bool(self._rendering))
            if wants:
                await self._claim(lane, wants)
                has_claimed = True
        return has_claimed

    async def _claim(self, lane: int, wants: Wants) -> None:
        limits = {name: n for name, (n, _) in wants.items()}
        # Taken off before the query: whoever wakes us while it runs puts the queue on again.
        self._active -= {(lane, name) for name in wants}
        started = self._sending.clock.monotonic()
        async with alone(self._sending.database) as tx:
            claim = await claims.claim(tx, self._sending.owner, lane, limits, CLAIM_SECONDS)
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
                await self._place(name, messages, pipeline, started + CLAIM_SECONDS)
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
        if is_simple(campaign, what, pipeline.terms.provider_id, self._definitions):
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
